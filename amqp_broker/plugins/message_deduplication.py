"""x-message-deduplication: a fanout that lets each value of the header ``x-deduplication-header`` through once (the
plugin rabbitmq_message_deduplication).

It remembers the last ``x-cache-size`` values, each for ``x-cache-ttl`` milliseconds where that is given; a message may
bring a ``x-cache-ttl`` of its own. With ``x-cache-persistence`` of ``disk`` a durable exchange remembers them after a
restart and a crash, too; without it, or with ``memory``, it does not, as with that plugin. Messages without the header
go through. Policies may have all three, and then overrule the arguments. How values are remembered is in
``seen_values.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from amqp_broker.broker.erlang_text import erlang_term
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.destinations import Destinations
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher, Verdict
from amqp_broker.broker.host import Host
from amqp_broker.broker.policies import CACHE_PERSISTENCE, CACHE_SIZE, CACHE_TTL, number_of
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import precondition_failed
from amqp_broker.plugins.seen_values import SeenValues
from amqp_broker.wire.table import FieldValue, Table

HEADER = "x-deduplication-header"
MEMORY, DISK = "memory", "disk"
TTL_MAX_MS = 2**53  # more is as much as for ever, and would not fit into a record


class MessageDeduplicationMatcher(Matcher):
    """All destinations, once for each value."""

    may_be_remembered = False
    counts_messages = True

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._destinations = Destinations()
        size = _positive(arguments, CACHE_SIZE)
        if size is None:
            raise precondition_failed("Missing x-cache-size argument")
        self._declared_size = size
        self._declared_ttl_ms = self._ttl_ms = _positive(arguments, CACHE_TTL)
        self._persistence = arguments.get(CACHE_PERSISTENCE, MEMORY)
        if self._persistence not in (MEMORY, DISK):
            raise precondition_failed("Invalid x-cache-persistence argument: it is memory or disk")
        self._values: SeenValues | None = None

    def placed(self, virtual_host: Host, exchange: Exchange) -> None:
        self._values = SeenValues(virtual_host, exchange, self._declared_size, is_kept=self._persistence == DISK)

    def apply(self, definition: dict[str, object]) -> None:
        """A policy overrules the arguments, as with that plugin."""
        size, ttl_ms = number_of(definition, CACHE_SIZE), number_of(definition, CACHE_TTL)
        self._seen.size_max = self._declared_size if size is None else size
        self._ttl_ms = self._declared_ttl_ms if ttl_ms is None else ttl_ms
        self._seen.keep(definition.get(CACHE_PERSISTENCE, self._persistence) == DISK)

    def removed(self) -> None:
        self._seen.forget_all()

    def restore(self, reference: int, value: bytes) -> int | None:
        return self._seen.restore(reference, value)

    @property
    def _seen(self) -> SeenValues:
        assert self._values is not None, "it is in a virtual host before anything comes"
        return self._values

    def add(self, binding: Binding) -> None:
        self._destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        self._destinations.remove(binding.destination)

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        headers = message.headers or {}
        if HEADER not in headers:  # a null is a value, as in RabbitMQ's plugin
            return self._destinations
        is_new = self._seen.add(erlang_term(headers[HEADER]), self._ttl_of(headers.get("x-cache-ttl")))
        return self._destinations if is_new else []

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        headers = message.headers or {}
        if HEADER not in headers:
            return Verdict(True, f"every message without the header {HEADER} goes to all")
        if self._values is not None and erlang_term(headers[HEADER]) in self._values:
            return Verdict(False, "there was a message with this value of the header already")
        return Verdict(True, "there was no message with this value of the header")

    def _ttl_of(self, own: FieldValue) -> int | None:
        has_own = isinstance(own, int) and not isinstance(own, bool) and own > 0
        ttl_ms = own if has_own and isinstance(own, int) else self._ttl_ms
        return ttl_ms if ttl_ms is not None and ttl_ms < TTL_MAX_MS else None


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
