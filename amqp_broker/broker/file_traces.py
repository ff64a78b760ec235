"""Traces to files: what the firehose copies, as lines of JSON or blocks of text (RabbitMQ's plugin rabbitmq_tracing).

A trace belongs to a virtual host and turns its firehose on; with the last one it is turned off. A pattern, as a topic
exchange has them, says of the keys of the copies (``publish.EXCHANGE``, ``deliver.QUEUE``) which are written. Traces
are gone when the broker ends; their files stay.

Lines wait here in memory until somebody takes them (``take``) and writes them: the server floor, where there is a data
folder. What is more than fits is left out, and counted. Holds no file.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.broker.erlang_text import erlang_term
from amqp_broker.broker.exchanges.topic import fits
from amqp_broker.broker.json_values import json_ready
from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.logs import log_event
from amqp_broker.wire.table import FieldValue, Table

if TYPE_CHECKING:
    from amqp_broker.broker.firehose import Firehose
    from amqp_broker.broker.ports import Clock, Driver
    from amqp_broker.broker.virtual_host import VirtualHost

FORMATS: Final = ("json", "text")
PENDING_BYTES_MAX = 8 * 1024 * 1024  # that wait to be written, of all traces together
FILE_BYTES_MAX: Final = 100 * 1024 * 1024
BYTES_LIMIT: Final = 2**40
NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
ENDING: Final = ".log"
TITLES: Final = (
    ("Node:         ", "node"),
    ("Connection:   ", "connection"),
    ("Virtual host: ", "vhost"),
    ("User:         ", "user"),
    ("Channel:      ", "channel"),
    ("Exchange:     ", "exchange_name"),
)


class FileTrace:
    """One trace.

    Args:
        virtual_host: the name of the one that it traces.
        name: its own; its file's is the same, with ``.log``.
        form: json or text.
        pattern: of the keys of copies.
        payload_bytes_max: of each body that is written; None for all.
        file_bytes_max: how large its file may become; then it is put aside, and the one that was there before goes.
    """

    def __init__(
        self,
        virtual_host: str,
        name: str,
        form: str,
        pattern: str,
        payload_bytes_max: int | None,
        file_bytes_max: int,
    ) -> None:
        self.virtual_host = virtual_host
        self.name = name
        self.form = form
        self.pattern = pattern
        self.payload_bytes_max = payload_bytes_max
        self.file_bytes_max = file_bytes_max
        self.written_count = 0
        self.left_out_count = 0

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return self.name + ENDING

    def describe(self) -> dict[str, object]:
        """What it is, and how much it has written."""
        described: dict[str, object] = {
            "vhost": self.virtual_host,
            "name": self.name,
            "format": self.form,
            "pattern": self.pattern,
        }
        if self.payload_bytes_max is not None:
            described["max_payload_bytes"] = self.payload_bytes_max
        described["max_file_bytes"] = self.file_bytes_max
        described["file"] = self.file_name
        described["written"] = self.written_count
        described["left_out"] = self.left_out_count
        return described


class FileTraces:
    """The traces of one broker.

    Args:
        firehose: that they look at.
        clock: tells when.
        driver: told when there is something to be written.
    """

    def __init__(self, firehose: Firehose, clock: Clock, driver: Driver) -> None:
        self._firehose = firehose
        self._clock = clock
        self._driver = driver
        self._traces: dict[str, FileTrace] = {}  # by name: it is a file's, too
        self._pending: dict[str, list[bytes]] = {}  # by file
        self._limits: dict[str, int] = {}  # likewise
        self._pending_bytes = 0

    # --- changes

    def add(self, virtual_host: VirtualHost, name: str, asked: Mapping[str, Any], who: str) -> FileTrace:
        """Begin a trace, or another one in its place.

        Args:
            asked: ``format``, ``pattern``, and perhaps ``max_payload_bytes`` and ``max_file_bytes``; others are passed
                over.
            who: wants it, for the log.

        Raises:
            AdministrationError: something in it cannot be.
        """
        if not self._driver.writes_traces():
            raise AdministrationError("a trace needs a folder for its file: start the broker with a data folder")
        if not NAME.fullmatch(name):
            raise AdministrationError(
                f"a trace cannot be named {name!r}: its file has the same name, so it consists of 1 to 100 letters "
                "of ASCII, digits, hyphens, dots and underscores, and begins with no dot"
            )
        self._forget_what_is_gone()
        before = self._traces.get(name)
        if before is not None and before.virtual_host != virtual_host.name:
            raise AdministrationError(
                f"virtual host '{before.virtual_host}' has a trace '{name}', and the file of that name: choose another"
            )
        if asked.get("format") not in FORMATS:
            raise AdministrationError("format not json or text")
        if not isinstance(asked.get("pattern"), str):
            raise AdministrationError("pattern must be a text: # for all")
        trace = FileTrace(
            virtual_host.name,
            name,
            asked["format"],
            asked["pattern"],
            _bytes(asked, "max_payload_bytes", 0),
            _bytes(asked, "max_file_bytes", 1) or FILE_BYTES_MAX,
        )
        self._traces[name] = trace
        self._limits[trace.file_name] = trace.file_bytes_max
        self._firehose.tap(virtual_host.name, self._copied)
        self._firehose.turn_on(virtual_host)
        log_event(logging.INFO, "file trace added", trace=name, vhost=virtual_host.name, who=who)
        return trace

    def remove(self, virtual_host: str, name: str, who: str) -> None:
        """End a trace; its file stays.

        Raises:
            NotThere: there is none.
        """
        self.get(virtual_host, name)
        del self._traces[name]
        if not any(trace.virtual_host == virtual_host for trace in self._traces.values()):
            self._firehose.tap(virtual_host, None)
            self._firehose.turn_off(virtual_host)
        log_event(logging.INFO, "file trace removed", trace=name, vhost=virtual_host, who=who)

    def _forget_what_is_gone(self) -> None:
        """Virtual hosts may have been deleted, with their traces."""
        gone = [trace.name for trace in self._traces.values() if not self._firehose.is_tapped(trace.virtual_host)]
        for name in gone:
            del self._traces[name]

    # --- what there is

    def get(self, virtual_host: str, name: str) -> FileTrace:
        """Look a trace up.

        Raises:
            NotThere: there is none of that name in that virtual host.
        """
        self._forget_what_is_gone()
        trace = self._traces.get(name)
        if trace is None or trace.virtual_host != virtual_host:
            raise NotThere(f"there is no trace '{name}' in virtual host '{virtual_host}'")
        return trace

    def all(self, virtual_host: str | None = None) -> list[FileTrace]:
        """All traces, or those of a virtual host."""
        self._forget_what_is_gone()
        return [one for one in self._traces.values() if virtual_host is None or one.virtual_host == virtual_host]

    def take(self) -> list[tuple[str, bytes, int]]:
        """What is to be written now: for each file its name, the bytes, and how large it may become."""
        pending, self._pending = self._pending, {}
        self._pending_bytes = 0
        return [(name, b"".join(lines), self._limits[name]) for name, lines in pending.items()]

    # --- what is traced

    def _copied(self, virtual_host: str, key: str, headers: Table, body: bytes) -> None:
        """The firehose has made a copy."""
        for trace in self._traces.values():
            if trace.virtual_host == virtual_host and fits(trace.pattern, key):
                self._write(trace, key, headers, body)

    def _write(self, trace: FileTrace, key: str, headers: Table, body: bytes) -> None:
        if trace.payload_bytes_max is not None:
            body = body[: trace.payload_bytes_max]
        if self._pending_bytes + len(body) > PENDING_BYTES_MAX:
            trace.left_out_count += 1
            return
        when = datetime.fromtimestamp(self._clock.wall_ms() / 1000, UTC).isoformat(timespec="milliseconds")
        form = json_line if trace.form == "json" else text_block
        line = form(when, key, headers, body)
        self._pending.setdefault(trace.file_name, []).append(line)
        self._pending_bytes += len(line)
        trace.written_count += 1
        self._driver.trace_has_lines()


def _bytes(asked: Mapping[str, Any], name: str, lowest: int) -> int | None:
    value = asked.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise AdministrationError(f"{name} not integer")
    if not lowest <= value <= BYTES_LIMIT:
        raise AdministrationError(f"{name} must be a number from {lowest} to {BYTES_LIMIT}")
    return value


def json_line(when: str, key: str, headers: Table, body: bytes) -> bytes:
    """A copy as a line of JSON."""
    is_publish = "routed_queues" in headers
    shown = {
        "timestamp": when,
        "type": "published" if is_publish else "received",
        "node": headers["node"],
        "connection": headers["connection"],
        "vhost": headers["vhost"],
        "user": headers["user"],
        "channel": headers["channel"],
        "exchange": headers["exchange_name"],
        "queue": "none" if is_publish else key.removeprefix("deliver."),
        "routed_queues": headers["routed_queues"] if is_publish else "none",
        "routing_keys": headers["routing_keys"],
        "properties": json_ready(headers["properties"]),
        "payload": base64.b64encode(body).decode(),
    }
    text = json.dumps(shown, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"


def text_block(when: str, key: str, headers: Table, body: bytes) -> bytes:
    """A copy as a block of text, which people read."""
    is_publish = "routed_queues" in headers
    lines = ["=" * 80, f"{when}: Message {'published' if is_publish else 'received'}", ""]
    for title, name in TITLES:
        lines.append(f"{title}{headers[name]!s}")
    lines.append(f"Routing keys: {_names(headers['routing_keys'])}")
    if is_publish:
        lines.append(f"Routed queues: {_names(headers['routed_queues'])}")
    else:
        lines.append(f"Queue:        {key.removeprefix('deliver.')}")
    lines += [f"Properties:   {erlang_term(headers['properties'])}", "Payload: "]
    return "\n".join(lines).encode("utf-8", "replace") + b"\n" + body + b"\n\n"


def _names(names: FieldValue) -> str:
    """A list of names as Erlang shows it."""
    return f"[{','.join([erlang_term(name) for name in names])}]" if isinstance(names, list) else "[]"
