"""Messages that are to be traced: what an operator asks for, and whether a message is one of those.

Holds no trace; what is told of those messages is in ``message_traces.py``.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Final

from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.wire.content import decode_properties
from amqp_broker.wire.table import FieldValue, Table

TRACES_MAX: Final = 1000
TRACES_LIMIT: Final = 100_000  # that somebody may ask for; some two kilobytes each
SAMPLE_LIMIT: Final = 1_000_000_000
ASKED: Final = ("vhost", "message_id", "correlation_id", "headers", "sample", "bodies", "limit")


class Wanted:
    """The messages that are to be traced: those of which all is so that is given.

    Args:
        virtual_host: where they are published.
        message_id: their message id.
        correlation_id: their correlation id.
        headers: which headers they have, with which values.
        sample: of those the first, and then each of so many.
        keeps_bodies: whether the beginnings of their bodies are kept.
        traces_max: how many are kept.
    """

    __slots__ = ("correlation_id", "headers", "keeps_bodies", "message_id", "sample", "traces_max", "virtual_host")

    def __init__(
        self,
        *,
        virtual_host: str | None = None,
        message_id: str | None = None,
        correlation_id: str | None = None,
        headers: Table | None = None,
        sample: int = 1,
        keeps_bodies: bool = False,
        traces_max: int = TRACES_MAX,
    ) -> None:
        self.virtual_host = virtual_host
        self.message_id = message_id
        self.correlation_id = correlation_id
        self.headers: Table = headers or {}
        self.sample = sample
        self.keeps_bodies = keeps_bodies
        self.traces_max = traces_max

    @property
    def is_by_properties(self) -> bool:
        """Whether a message's header must be read."""
        return self.message_id is not None or self.correlation_id is not None or bool(self.headers)

    def fits(self, header: bytes) -> bool:
        """Whether a message's properties are those."""
        properties = decode_properties(header)
        if self.message_id is not None and properties.message_id != self.message_id:
            return False
        if self.correlation_id is not None and properties.correlation_id != self.correlation_id:
            return False
        headers = properties.headers or {}
        return all(name in headers and _alike(headers[name], value) for name, value in self.headers.items())


def wanted_of(asked: Mapping[str, Any], virtual_hosts: Container[str]) -> Wanted:
    """What an administrator asks for.

    Args:
        asked: ``vhost``, ``message_id``, ``correlation_id``, ``headers``, ``sample``, ``bodies``, ``limit``; each may
            be left out.
        virtual_hosts: the names of those that there are.

    Raises:
        NotThere: there is no such virtual host.
        AdministrationError: something in it cannot be.
    """
    for name in asked:
        if name not in ASKED:
            raise AdministrationError(f"a trace has no '{name}': it has {', '.join(ASKED)}")
    for name in ("vhost", "message_id", "correlation_id"):
        if not isinstance(asked.get(name), str | None):
            raise AdministrationError(f"{name} must be a text")
    if asked.get("vhost") is not None and asked["vhost"] not in virtual_hosts:
        raise NotThere(f"there is no virtual host '{asked['vhost']}'")
    headers = asked.get("headers") or {}
    if not isinstance(headers, dict):
        raise AdministrationError("headers must be an object")
    if not isinstance(asked.get("bodies", False), bool):
        raise AdministrationError("bodies must be true or false")
    return Wanted(
        virtual_host=asked.get("vhost"),
        message_id=asked.get("message_id"),
        correlation_id=asked.get("correlation_id"),
        headers=headers,
        sample=_number(asked, "sample", 1, SAMPLE_LIMIT),
        keeps_bodies=asked.get("bodies", False),
        traces_max=_number(asked, "limit", TRACES_MAX, TRACES_LIMIT),
    )


def _number(asked: Mapping[str, Any], name: str, default: int, highest: int) -> int:
    value = asked.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= highest:
        raise AdministrationError(f"{name} must be a number from 1 to {highest}")
    return value


def _alike(found: FieldValue, wanted: FieldValue) -> bool:
    """Equal; a boolean is no number."""
    return isinstance(found, bool) == isinstance(wanted, bool) and found == wanted
