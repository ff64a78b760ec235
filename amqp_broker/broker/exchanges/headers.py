"""The headers exchange: the message's headers against the binding's arguments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from amqp_broker.broker.binding import Binding, BindingIdentity
from amqp_broker.errors import precondition_failed
from amqp_broker.wire.table import FieldValue, Table, encode_table, type_name

if TYPE_CHECKING:
    from amqp_broker.broker.exchange import Exchange
    from amqp_broker.broker.queue import Queue

X_MATCH = "x-match"
MATCH_KINDS = ("all", "any", "all-with-x", "any-with-x")


class HeadersMatcher:
    """Destinations by headers (AMQP 0-9-1, 3.1.3.4; RabbitMQ's ``-with-x`` kinds)."""

    reads_headers = True

    def __init__(self) -> None:
        self._patterns: dict[BindingIdentity, tuple[_Pattern, Exchange | Queue]] = {}

    def check(self, binding: Binding) -> None:
        """Refuse an ``x-match`` that means nothing."""
        kind = binding.arguments.get(X_MATCH, "all")
        if not isinstance(kind, str):
            raise precondition_failed(
                f"Invalid x-match field type {type_name(kind)} (value {kind!r}); expected longstr"
            )
        if kind not in MATCH_KINDS:
            raise precondition_failed(
                f'Invalid x-match field value <<"{kind}">>; expected all, any, all-with-x, or any-with-x'
            )

    def add(self, binding: Binding) -> None:
        """Prepare its pattern."""
        self._patterns[binding.identity] = (_Pattern(binding.arguments), binding.destination)

    def remove(self, binding: Binding) -> None:
        """Forget its pattern."""
        del self._patterns[binding.identity]

    def match(self, routing_key: str, headers: Table | None) -> Iterable[Exchange | Queue]:
        """All whose pattern fits the headers."""
        headers = headers or {}
        for pattern, destination in self._patterns.values():
            if pattern.fits(headers):
                yield destination


class _Pattern:
    """A binding's arguments, made ready to be compared."""

    __slots__ = ("_needs_all", "_wanted")

    def __init__(self, arguments: Table) -> None:
        kind = arguments.get(X_MATCH, "all")
        with_x = kind in ("all-with-x", "any-with-x")
        self._needs_all = kind in ("all", "all-with-x")
        self._wanted = [
            (name, value)
            for name, value in arguments.items()
            if name != X_MATCH and (with_x or not name.startswith("x-"))
        ]

    def fits(self, headers: Table) -> bool:
        if self._needs_all:
            return all(name in headers and _same(value, headers[name]) for name, value in self._wanted)
        return any(name in headers and _same(value, headers[name]) for name, value in self._wanted)


def _same(wanted: FieldValue, found: FieldValue) -> bool:
    """Whether a header's value is the wanted one: void wants any, widths do not count, a boolean is no number."""
    if wanted is None:
        return True
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    if isinstance(wanted, list | dict) or isinstance(found, list | dict):
        return encode_table({"": wanted}) == encode_table({"": found})  # inside, widths do count
    return _comparable(wanted) == _comparable(found)


def _comparable(value: FieldValue) -> FieldValue:
    """Long strings and byte arrays are the same thing to RabbitMQ."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
