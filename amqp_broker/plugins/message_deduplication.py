"""x-message-deduplication: a fanout that lets each value of the header ``x-deduplication-header`` through once (the
plugin rabbitmq_message_deduplication).

It remembers the last ``x-cache-size`` values, each for ``x-cache-ttl`` milliseconds where that is given; a message may
bring a ``x-cache-ttl`` of its own. What it remembers is in memory, and gone after a restart, also where
``x-cache-persistence`` is ``disk``. Messages without the header go through.
"""

from __future__ import annotations

from collections.abc import Iterable

from amqp_broker.broker.erlang_text import erlang_term
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.destinations import Destinations
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher, Verdict
from amqp_broker.broker.host import Host
from amqp_broker.broker.ports import Clock
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import precondition_failed
from amqp_broker.wire.table import FieldValue, Table

HEADER = "x-deduplication-header"
PERSISTENCES = ("memory", "disk")


class MessageDeduplicationMatcher(Matcher):
    """All destinations, once for each value."""

    may_be_remembered = False

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._destinations = Destinations()
        size = _positive(arguments, "x-cache-size")
        if size is None:
            raise precondition_failed("Missing x-cache-size argument")
        self._size_max = size
        self._ttl_ms = _positive(arguments, "x-cache-ttl")
        if arguments.get("x-cache-persistence", "memory") not in PERSISTENCES:
            raise precondition_failed("Invalid x-cache-persistence argument: it is memory or disk")
        self._deadlines_ms: dict[str, int | None] = {}  # by value, the oldest first
        self._clock: Clock | None = None

    def placed(self, virtual_host: Host, exchange: Exchange) -> None:
        self._clock = virtual_host.clock

    def add(self, binding: Binding) -> None:
        self._destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        self._destinations.remove(binding.destination)

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        headers = message.headers or {}
        value = headers.get(HEADER)
        if value is None:
            return self._destinations
        return [] if self._is_duplicate(erlang_term(value), headers.get("x-cache-ttl")) else self._destinations

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        value = (message.headers or {}).get(HEADER)
        if value is None:
            return Verdict(True, f"every message without the header {HEADER} goes to all")
        now_ms = 0 if self._clock is None else self._clock.monotonic_ms()
        deadline_ms = self._deadlines_ms.get(erlang_term(value), 0)
        if deadline_ms is None or deadline_ms > now_ms:
            return Verdict(False, "there was a message with this value of the header already")
        return Verdict(True, "there was no message with this value of the header")

    def _is_duplicate(self, value: str, ttl: FieldValue) -> bool:
        assert self._clock is not None, "it is in a virtual host before anything comes"
        now_ms = self._clock.monotonic_ms()
        if value in self._deadlines_ms:
            deadline_ms = self._deadlines_ms[value]
            if deadline_ms is None or deadline_ms > now_ms:
                return True
            del self._deadlines_ms[value]
        has_own = isinstance(ttl, int) and not isinstance(ttl, bool) and ttl > 0
        ttl_ms = ttl if has_own and isinstance(ttl, int) else self._ttl_ms
        if len(self._deadlines_ms) >= self._size_max:
            del self._deadlines_ms[next(iter(self._deadlines_ms))]
        self._deadlines_ms[value] = None if ttl_ms is None else now_ms + ttl_ms
        return False


def _positive(arguments: Table, name: str) -> int | None:
    """A positive integer, or a text of one; None where the argument is absent."""
    value = arguments.get(name)
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise precondition_failed(f"Invalid {name} argument: it must be a positive integer")
    return int(value)
