"""Recorded bytes as a transcript: what was said, in both directions, as text by which two brokers can be compared.

What differs between two runs of one program is replaced: generated names and UUIDs by numbers in the order in which
they appear, time stamps that the broker made, the broker's version. Passwords are not shown.

Not here: sockets (proxy.py), what is compared with what (comparison.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from amqp_broker.errors import AmqpError
from amqp_broker.wire import content, frames, methods
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.table import Timestamp, type_name

CLIENT = ">"
BROKER = "<"

_CONTENT_METHODS = (methods.Basic.Publish, methods.Basic.Deliver, methods.Basic.GetOk, methods.Basic.Return)
_COMPARED_SERVER_PROPERTIES = ("product", "capabilities")
_BROKERS_TIMES = {"time", "timestamp_in_ms"}
_HIDDEN = {"response"}  # of connection.start-ok and secure-ok: it holds the password
_GENERATED = re.compile(
    r"amq\.(?:gen|ctag)-[\w-]{20,}|amq\.rabbitmq\.reply-to\.[\w+/=.-]+"
    r"|\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
)
_TEXT_LENGTH_MAX = 300


class Entry(NamedTuple):
    """One thing that was said: by whom, on which channel, the method's name and its fields as text."""

    direction: str
    channel: int
    name: str
    fields: dict[str, str]

    def __str__(self) -> str:
        return " ".join([f"{self.direction} {self.channel} {self.name}", *(f"{k}={v}" for k, v in self.fields.items())])


@dataclass
class _Unfinished:
    """A message whose body has not come whole."""

    name: str
    fields: dict[str, str]
    left_bytes: int | None = None
    body: bytes = b""


class _Direction:
    """One half of a connection."""

    def __init__(self, direction: str) -> None:
        self._direction = direction
        self._splitter = frames.FrameSplitter(0)
        self._start: bytes | None = b""
        self._unfinished: dict[int, _Unfinished] = {}
        self.broker = ""

    def entries(self, data: bytes) -> Iterator[Entry]:
        """What is whole with these bytes."""
        if self._start is not None:
            self._start += data
            if self._start[:4] != b"AMQP"[: len(self._start)]:
                data, self._start = self._start, None
            elif len(self._start) < len(frames.PROTOCOL_HEADER):
                return
            else:
                size = len(frames.PROTOCOL_HEADER)
                yield Entry(self._direction, 0, "protocol header", {"bytes": repr(self._start[:size])})
                data, self._start = self._start[size:], None
        for kind, channel, payload in self._splitter.split(data):
            yield from self._frame(kind, channel, payload)

    def _frame(self, kind: int, channel: int, payload: bytes) -> Iterator[Entry]:
        unfinished = self._unfinished.get(channel)
        if kind == frames.METHOD:
            entry = self._method(channel, payload)
            if entry is not None:
                yield entry
            return
        if kind == frames.HEADER and unfinished is not None:
            unfinished.left_bytes = content.body_size(payload)
            unfinished.fields["properties"] = _properties_text(payload)
        elif kind == frames.BODY and unfinished is not None and unfinished.left_bytes is not None:
            unfinished.body += payload
            unfinished.left_bytes -= len(payload)
        elif kind != frames.HEARTBEAT:
            yield Entry(self._direction, channel, f"frame of kind {kind}", {"payload": _shown(payload)})
        if unfinished is not None and unfinished.left_bytes == 0:
            del self._unfinished[channel]
            fields = {**unfinished.fields, "body": _shown(unfinished.body)}
            yield Entry(self._direction, channel, unfinished.name, fields)

    def _method(self, channel: int, payload: bytes) -> Entry | None:
        try:
            method = methods.decode_method(payload)
        except (WireError, AmqpError):
            return Entry(self._direction, channel, "unreadable method", {"payload": _shown(payload)})
        if isinstance(method, methods.Connection.Start):
            properties = method.server_properties
            # Ours says that it is a RabbitMQ, for the sake of clients, and what it is in keys of its own.
            names = ("broker", "broker_version") if "broker" in properties else ("product", "version")
            self.broker = " ".join(str(properties.get(name, "?")) for name in names)
        fields = {name: _field_text(name, getattr(method, name)) for name in method.attributes()}
        if isinstance(method, _CONTENT_METHODS):
            self._unfinished[channel] = _Unfinished(str(method.name), fields)
            return None
        return Entry(self._direction, channel, str(method.name), fields)


@dataclass
class ConnectionTranscript:
    """One connection: all that was said, in the order in which it passed the proxy."""

    entries: list[Entry] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._directions = {direction: _Direction(direction) for direction in (CLIENT, BROKER)}

    @property
    def broker(self) -> str:
        """The product and version that the broker gave; empty when it never said anything."""
        return self._directions[BROKER].broker

    def add(self, direction: str, data: bytes) -> None:
        """Bytes that passed in this direction."""
        try:
            for entry in self._directions[direction].entries(data):
                self.entries.append(self._normalised(entry))
        except AmqpError as error:
            self.entries.append(Entry(direction, 0, "unreadable bytes", {"why": str(error)}))

    def ended(self, direction: str) -> None:
        """This side has closed."""
        self.entries.append(Entry(direction, 0, "end", {}))

    def _normalised(self, entry: Entry) -> Entry:
        return entry._replace(fields={name: _GENERATED.sub(self._number, text) for name, text in entry.fields.items()})

    def _number(self, found: re.Match[str]) -> str:
        return self._names.setdefault(found.group(), f"(name {len(self._names) + 1})")


def _field_text(name: str, value: object) -> str:
    if name in _HIDDEN:
        return "(hidden)"
    if name == "mechanisms":
        return _shown(sorted(str(value).split()))  # RabbitMQ's order changes from node to node
    if name == "server_properties" and isinstance(value, Mapping):
        return _shown({key: value[key] for key in _COMPARED_SERVER_PROPERTIES if key in value})
    return _shown(value)


def _properties_text(header_payload: bytes) -> str:
    try:
        properties = content.decode_properties(header_payload)
    except (WireError, AmqpError):
        return _shown(header_payload)
    return _shown(
        {name: value for name in properties.__dataclass_fields__ if (value := getattr(properties, name)) is not None}
    )


def _shown(value: object, key: str = "") -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_shown(item, name)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    if isinstance(value, Timestamp) and key in _BROKERS_TIMES:
        return "(time)"
    if isinstance(value, int | float) and type(value) not in (int, bool, float):
        return f"{value} ({type_name(value)})"
    text = repr(value)
    return text if len(text) <= _TEXT_LENGTH_MAX else f"{text[:_TEXT_LENGTH_MAX]}... ({len(text)} long)"
