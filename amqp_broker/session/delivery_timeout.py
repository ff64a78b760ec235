"""The longest time that a delivery may stay unacknowledged: after it the client's protocol ends what it was sent on.

A look is taken every ``consumer_timeout_sweep_ms``, from the first time on that something may become unacknowledged, as
long as that is so. Nothing is done for a delivery. (RabbitMQ docs, "Delivery Acknowledgement Timeout".)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.broker.timers import Timer


class DeliveryTimeout:
    """Looks at the deliveries of one receiver.

    Args:
        broker: whose time and settings it is.
        deliveries: those that are unacknowledged, the oldest first.
        may_come: whether others may become unacknowledged.
        on_timeout: called with the timeout in milliseconds when the oldest has waited for longer.
    """

    def __init__(
        self,
        broker: Broker,
        deliveries: Mapping[int, Unacknowledged],
        may_come: Callable[[], bool],
        on_timeout: Callable[[int], None],
    ) -> None:
        self._broker = broker
        self._deliveries = deliveries
        self._may_come = may_come
        self._on_timeout = on_timeout
        self._timer: Timer | None = None

    def watch(self) -> None:
        """From now on something may become unacknowledged."""
        settings = self._broker.settings
        if self._timer is None and settings.consumer_timeout_ms:
            self._timer = self._broker.timers.after(settings.consumer_timeout_sweep_ms, self._look)

    def stop(self) -> None:
        """The receiver ends. Those who listen hold on to this, so it lets go of them."""
        self._may_come = _nothing_comes
        self._on_timeout = _nobody_listens
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        oldest = next(iter(self._deliveries.values()), None)
        timeout_ms = self._broker.settings.consumer_timeout_ms
        if oldest is not None and oldest.delivered_ms < self._broker.clock.monotonic_ms() - timeout_ms:
            self._on_timeout(timeout_ms)
        elif self._deliveries or self._may_come():
            self.watch()


def _nothing_comes() -> bool:
    return False


def _nobody_listens(timeout_ms: int) -> None:
    pass
