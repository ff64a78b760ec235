"""The address of a broker, and the user who may log in, from an amqp:// URL."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

PORTS = {"amqp": 5672, "amqps": 5671}


class BadAddress(Exception):
    """A text is no address of a broker; it says what is wrong."""


@dataclass(frozen=True)
class Address:
    """A broker, and a user of it."""

    host: str
    port: int
    user: str
    password: str
    virtual_host: str
    is_tls: bool

    def __str__(self) -> str:
        return f"amqp{'s' if self.is_tls else ''}://{self.host}:{self.port}"


def parse_address(url: str) -> Address:
    """Read ``amqp://user:password@host:port/virtual-host``; what is left out is ``guest``, 5672 and ``/``.

    Raises:
        BadAddress: it is something else.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadAddress(f"{url!r} is no address of a broker: {error}") from error
    if parts.scheme not in PORTS or not parts.hostname:
        raise BadAddress(f"{url!r} is no address of a broker: it begins with amqp://HOST or amqps://HOST")
    return Address(
        parts.hostname,
        port or PORTS[parts.scheme],
        unquote(parts.username or "guest"),
        unquote(parts.password or "guest"),
        unquote(parts.path[1:]) or "/",
        parts.scheme == "amqps",
    )
