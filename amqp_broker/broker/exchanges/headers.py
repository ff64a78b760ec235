"""The headers exchange: the message's headers against the binding's arguments.

A binding is found by what it wants: one that wants all is kept under one of its pairs of name and value, the one that
the fewest others are kept under; one that is content with any, under each of them. So a message meets the bindings
that one of its headers speaks for, instead of every one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from amqp_broker.broker.erlang_text import erlang_term
from amqp_broker.broker.exchanges.binding import Binding, BindingIdentity
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher, Verdict
from amqp_broker.errors import precondition_failed
from amqp_broker.wire.table import FieldValue, Table, encode_table, plain_name, type_name

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.base import Queue

X_MATCH = "x-match"
SHOWN_CHARACTERS_MAX = 100
MATCH_KINDS = ("all", "any", "all-with-x", "any-with-x")

_Key = tuple[str, str, object]
_ALWAYS: _Key = ("", "always", None)  # what wants nothing in particular is kept under this


class HeadersMatcher(Matcher):
    """Destinations by headers (AMQP 0-9-1, 3.1.3.4; RabbitMQ's ``-with-x`` kinds)."""

    may_be_remembered = False

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._patterns: dict[BindingIdentity, _Pattern] = {}
        self._found_by: dict[_Key, dict[BindingIdentity, _Pattern]] = {}

    def check(self, binding: Binding) -> None:
        """Refuse an ``x-match`` that means nothing."""
        kind = binding.arguments.get(X_MATCH, "all")
        if not isinstance(kind, str):
            raise precondition_failed(
                f"Invalid x-match field type {type_name(kind)} (value {erlang_term(kind)}); expected longstr"
            )
        if kind not in MATCH_KINDS:
            raise precondition_failed(
                f"Invalid x-match field value {erlang_term(kind)}; expected all, any, all-with-x, or any-with-x"
            )

    def add(self, binding: Binding) -> None:
        """Prepare its pattern."""
        pattern = self._patterns[binding.identity] = _Pattern(binding.arguments, binding.destination)
        pattern.kept_under = self._keys_for(pattern)
        for key in pattern.kept_under:
            self._found_by.setdefault(key, {})[binding.identity] = pattern

    def remove(self, binding: Binding) -> None:
        """Forget its pattern."""
        for key in self._patterns.pop(binding.identity).kept_under:
            patterns = self._found_by[key]
            del patterns[binding.identity]
            if not patterns:
                del self._found_by[key]

    def _keys_for(self, pattern: _Pattern) -> list[_Key]:
        keys = list(dict.fromkeys(_key(name, value) for name, value in pattern.wanted))
        if not pattern.needs_all:
            return keys
        return [min(keys, key=lambda key: len(self._found_by.get(key, ())), default=_ALWAYS)]

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        """All whose pattern fits the headers."""
        headers = message.headers or {}
        found_by = self._found_by
        for key in _keys_of(headers):
            for pattern in found_by.get(key, {}).values():
                if pattern.fits(headers):
                    yield pattern.destination

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        """Which header is missing or differs."""
        pattern = _Pattern(binding.arguments, binding.destination)
        headers = message.headers or {}
        kind = "all of them" if pattern.needs_all else "any of them"
        if not pattern.wanted and pattern.needs_all:
            return Verdict(True, "the binding wants no header")
        if not pattern.wanted:
            return Verdict(False, "the binding wants any of its headers, and has none")
        if pattern.fits(headers):
            return Verdict(True, f"the headers are those that the binding wants, {kind}")
        problems = [_difference(name, value, headers) for name, value in pattern.wanted]
        return Verdict(False, f"the binding wants {kind}: " + ", ".join(filter(None, problems)))


def _difference(name: str, wanted: FieldValue, headers: Table) -> str:
    """What is wrong with one header, in words; empty where nothing is."""
    if name not in headers:
        return f"there is no header '{name}'"
    found = headers[name]
    if _same(wanted, found):
        return ""
    return f"header '{name}' is {_shown(found)} and not {_shown(wanted)}"


def _shown(value: FieldValue) -> str:
    text = f"'{value}'" if isinstance(value, str) else f"{value!r} ({type_name(value)})"
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "..."


class _Pattern:
    """A binding's arguments, made ready to be compared."""

    __slots__ = ("destination", "kept_under", "names_repeat", "needs_all", "wanted")

    def __init__(self, arguments: Table, destination: Exchange | Queue) -> None:
        self.destination = destination
        self.kept_under: list[_Key] = []
        kind = arguments.get(X_MATCH, "all")
        with_x = kind in ("all-with-x", "any-with-x")
        self.needs_all = kind in ("all", "all-with-x")
        self.wanted = [
            (plain_name(name), value)
            for name, value in arguments.items()
            if plain_name(name) != X_MATCH and (with_x or not name.startswith("x-"))
        ]
        self.names_repeat = len({name for name, _ in self.wanted}) < len(self.wanted)

    def fits(self, headers: Table) -> bool:
        if self.names_repeat:
            return self._fits_each_in_turn(headers)
        if self.needs_all:
            return all(name in headers and _same(value, headers[name]) for name, value in self.wanted)
        return any(name in headers and _same(value, headers[name]) for name, value in self.wanted)

    def _fits_each_in_turn(self, headers: Table) -> bool:
        """Where the pattern has a name several times: the first value against the header's first, and so on."""
        values: dict[str, list[FieldValue]] = {}
        for name, value in headers.items():
            values.setdefault(plain_name(name), []).append(value)
        fitting = 0
        for name, value in self.wanted:
            found = values.get(name)
            if found and _same(value, found.pop(0)):
                fitting += 1
        return fitting == len(self.wanted) if self.needs_all else fitting > 0


def _keys_of(headers: Table) -> Iterator[_Key]:
    """What patterns that may fit these headers are kept under."""
    yield _ALWAYS
    for name, value in headers.items():
        if type(name) is not str:
            name = plain_name(name)
        yield _key(name, None)
        if value is not None:
            yield _key(name, value)


def _key(name: str, value: FieldValue) -> _Key:
    """Equal for values that are the same to a pattern; None is the void, which wants the header with any value."""
    if value is None or isinstance(value, bool):
        return (name, str(value), None)
    if isinstance(value, list | dict):
        return (name, "nested", encode_table({"": value}))
    return (name, "plain", _comparable(value))


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
