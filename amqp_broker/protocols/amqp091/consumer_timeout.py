"""The longest time that a delivery may stay unacknowledged: after it the channel is closed.

A channel looks at its deliveries every ``consumer_timeout_sweep_ms``, from its first manual consumer or ``basic.get``
on, as long as something is or may become unacknowledged. Nothing is done for a delivery. (RabbitMQ docs, "Delivery
Acknowledgement Timeout".)
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from amqp_broker.broker.works import Unfinished
from amqp_broker.errors import NO_METHOD, precondition_failed

if TYPE_CHECKING:
    from amqp_broker.broker.timers import Timer
    from amqp_broker.protocols.amqp091.channel import Channel


class ConsumerTimeout:
    """One channel's patience.

    Args:
        channel: whose deliveries are looked at.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._timer: Timer | None = None

    def watch(self) -> None:
        """From now on something may become unacknowledged."""
        broker = self._channel.connection.broker
        if self._timer is None and broker.settings.consumer_timeout_ms:
            self._timer = broker.timers.after(broker.settings.consumer_timeout_sweep_ms, self._sweep)

    def stop(self) -> None:
        """The channel ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        consuming, connection = self._channel.consuming, self._channel.connection
        deliveries = consuming.unacknowledged
        oldest = next(iter(deliveries.values()), None)  # they are in the order of their tags
        timeout_ms = connection.broker.settings.consumer_timeout_ms
        earliest_ms = connection.broker.clock.monotonic_ms() - timeout_ms
        if oldest is not None and oldest.delivered_ms < earliest_ms:
            error = precondition_failed(
                f"delivery acknowledgement on channel {self._channel.number} timed out. Timeout value used: "
                f"{timeout_ms} ms. This timeout value can be configured, see consumers doc guide to learn more"
            )
            with suppress(Unfinished):  # the client asked for nothing, so nothing waits
                connection.fail(self._channel.number, error, NO_METHOD)
        elif deliveries or any(not consumer.no_ack for consumer in consuming.consumers.values()):
            self.watch()
