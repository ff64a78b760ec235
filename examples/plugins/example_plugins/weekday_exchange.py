"""The exchange type x-weekday: a message goes to what is bound with the weekday on which it is published."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher
from amqp_broker.broker.host import Host
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import precondition_failed
from amqp_broker.wire.table import Table

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class WeekdayMatcher(Matcher):
    """Destinations by the day, in UTC; the key of a binding is one of WEEKDAYS."""

    may_be_remembered = False  # the same key does not lead to the same place tomorrow

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._bindings: list[Binding] = []

    def placed(self, virtual_host: Host, exchange: Exchange) -> None:
        """The broker's clock, which a test can move, says which day it is."""
        self._clock = virtual_host.clock

    def check(self, binding: Binding) -> None:
        """Refuse what is no day."""
        if binding.routing_key not in WEEKDAYS:
            raise precondition_failed(f"'{binding.routing_key}' is none of {', '.join(WEEKDAYS)}")

    def add(self, binding: Binding) -> None:
        """One more binding."""
        self._bindings.append(binding)

    def remove(self, binding: Binding) -> None:
        """One binding less."""
        self._bindings = [one for one in self._bindings if one.identity != binding.identity]

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        """All that is bound with today."""
        today = WEEKDAYS[datetime.fromtimestamp(self._clock.wall_ms() / 1000, UTC).weekday()]
        return [one.destination for one in self._bindings if one.routing_key == today]
