"""The matcher of an exchange, of any type, that holds messages back: what asks for a delay matches its holder alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from amqp_broker.broker.delayed.header import delay_ms_of
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher, Verdict

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.base import Queue


class DelayingMatcher(Matcher):
    """The matcher of an exchange that holds back.

    Args:
        inner: the exchange's own, which is asked for what asks for no delay, or has had it.
        holder: of the exchange.
    """

    may_be_remembered = False

    def __init__(self, inner: Matcher, holder: Queue) -> None:
        super().__init__(inner.arguments)
        self.inner = inner
        self._holder = holder

    def check(self, binding: Binding) -> None:
        self.inner.check(binding)

    def add(self, binding: Binding) -> None:
        self.inner.add(binding)

    def bound(self, binding: Binding) -> None:
        self.inner.bound(binding)

    def remove(self, binding: Binding) -> None:
        self.inner.remove(binding)

    def removed(self) -> None:
        self.inner.removed()

    def apply(self, definition: dict[str, object]) -> None:
        self.inner.apply(definition)

    def restore(self, reference: int, value: bytes) -> int | None:
        return self.inner.restore(reference, value)

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        headers = message.headers
        if headers is not None and delay_ms_of(headers):
            return (self._holder,)
        return self.inner.match(message)

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        verdict = self.inner.explain(binding, message)
        delay_ms = delay_ms_of(message.headers) if message.headers is not None else 0
        return Verdict(verdict.matches, f"after {delay_ms} ms: {verdict.why}") if delay_ms else verdict


def delay_by(exchange: Exchange, holder: Queue | None) -> None:
    """Let an exchange hold back what asks for it, or no more where no holder is given."""
    matcher = exchange.matcher
    if holder is not None:
        exchange.matcher = DelayingMatcher(matcher, holder)
        exchange.may_be_remembered = False
    elif isinstance(matcher, DelayingMatcher):
        exchange.matcher = matcher.inner
        says: Any = matcher.inner  # as in ``Exchange``
        exchange.may_be_remembered = says.may_be_remembered
    exchange.is_delaying = holder is not None
