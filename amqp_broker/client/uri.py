"""Addresses of brokers, as ``amqp://user:password@host:port/vhost?name=value`` (RabbitMQ docs, "URI Specification" and
"URI Query Parameters").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

PORTS: Final = {"amqp": 5672, "amqps": 5671}
HEARTBEAT_S: Final = 10
TIMEOUT_MS: Final = 30_000
QUERY_NAMES: Final = (
    "heartbeat", "connection_timeout", "channel_max", "frame_max", "auth_mechanism", "verify", "cacertfile", "certfile",
    "keyfile", "server_name_indication", "fail_if_no_peer_cert", "password",
)  # fmt: skip


class BadUri(ValueError):
    """A URI that is no address of a broker; the text says why, without the password."""


@dataclass(frozen=True, slots=True)
class AmqpUri:
    """The address of a broker, and the login to use there.

    Args:
        host: empty for the broker that reads it.
        user: None where none is named.
        virtual_host: None where none is named.
        heartbeat_s: 0 for none.
        timeout_s: of the connection and the login.
        is_verified: whether the certificate of the broker must be one that is trusted.
        authorities, certificate, key: files in PEM format; empty for those of the system, and for none.
    """

    scheme: str
    host: str
    port: int
    user: str | None
    password: str
    virtual_host: str | None
    heartbeat_s: int = HEARTBEAT_S
    timeout_s: float = TIMEOUT_MS / 1000
    is_verified: bool = True
    authorities: str = ""
    certificate: str = ""
    key: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is the broker that reads it."""
        return not self.host

    def __str__(self) -> str:
        """Without the password and the query."""
        user = f"{quote(self.user, safe='')}@" if self.user is not None and self.host else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.host and self.port != PORTS[self.scheme] else ""
        virtual_host = "" if self.virtual_host is None else f"/{quote(self.virtual_host, safe='')}"
        return f"{self.scheme}://{user}{host}{port}{virtual_host}"


def parse_uri(text: str) -> AmqpUri:
    """Read an address.

    Raises:
        BadUri: it is none.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadUri(f"{_shown(text)} is no address of a broker: its port is no number") from error
    if parts.scheme not in PORTS or "://" not in text:
        raise BadUri(f"{_shown(text)} is no address of a broker: it begins with amqp:// or amqps://")
    if parts.fragment or parts.path.count("/") > 1:
        raise BadUri(f"{_shown(text)} is no address of a broker: a slash in a virtual host's name is written %2F")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return AmqpUri(
        parts.scheme,
        parts.hostname or "",
        port or PORTS[parts.scheme],
        None if parts.username is None else unquote(parts.username),
        unquote(parts.password or query.get("password", "")),
        unquote(parts.path[1:]) if parts.path else None,
        _number(text, query, "heartbeat", HEARTBEAT_S),
        _number(text, query, "connection_timeout", TIMEOUT_MS) / 1000,
        query.get("verify", "verify_peer") != "verify_none",
        query.get("cacertfile", ""),
        query.get("certfile", ""),
        query.get("keyfile", ""),
    )


def _number(text: str, query: dict[str, str], name: str, default: int) -> int:
    value = query.get(name, str(default))
    if not value.isascii() or not value.isdigit() or len(value) > 9:
        raise BadUri(f"{_shown(text)} is no address of a broker: {name} is a whole number")
    return int(value)


def _shown(text: str) -> str:
    """An address that cannot be read, without what may be a password."""
    scheme, separator, rest = text.partition("://")
    return f"'{scheme}{separator}{rest.rpartition('@')[2]}'"
