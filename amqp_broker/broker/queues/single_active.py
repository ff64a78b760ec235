"""Consumers of which one alone gets messages, until it goes (``x-single-active-consumer``), and who comes after it.

RabbitMQs differ in who that is: for classic queues the oldest of the highest priority, for quorum queues the oldest
until 3.13, and from 4.0 on one of a higher priority takes over while the active one is still there.
(RabbitMQ docs, "Single Active Consumer"; rabbit_fifo.erl, activate_next_consumer/2 and sort_waiting/1.)
"""

from __future__ import annotations

from amqp_broker.broker.queues.consumers import Consumer, Consumers


class SingleActive(Consumers):
    """The next one is the oldest of the highest priority."""

    __slots__ = ("_active",)

    def __init__(self) -> None:
        super().__init__()
        self._active: Consumer | None = None

    @property
    def active(self) -> Consumer | None:
        if self._active is None:
            self._active = self.successor()
        return self._active

    def add(self, consumer: Consumer) -> None:
        active = self.active
        super().add(consumer)
        if active is None:
            self._active = consumer

    def remove(self, consumer: Consumer) -> None:
        """Take a consumer out; if it was the active one, the next becomes active when somebody looks: very many may go
        together.
        """
        super().remove(consumer)
        if self._active is consumer:
            self._active = None

    def next_ready(self) -> Consumer | None:
        return self.first_ready()

    def first_ready(self) -> Consumer | None:
        active = self.active
        if active is None or active.is_parked:
            return None
        if active.is_ready:
            return active
        self.park(active)
        return None

    def successor(self) -> Consumer | None:
        """Who is to be active now; nobody where there is none. Whether it has room is of no matter."""
        return max(self, key=lambda consumer: consumer.priority, default=None)


class OldestActive(SingleActive):
    """The next one is the oldest, whatever the priorities."""

    __slots__ = ()

    def successor(self) -> Consumer | None:
        return next(iter(self), None)


class HighestActive(SingleActive):
    """One of a higher priority takes over as soon as the active one has settled all that it has, and gets no more.

    Of those of one priority it is the one that may have the most messages, and of these the oldest. The active one
    stays until it has settled all, also when the other has gone meanwhile.
    """

    __slots__ = ("_is_leaving",)

    def __init__(self) -> None:
        super().__init__()
        self._is_leaving = False

    def add(self, consumer: Consumer) -> None:
        super().add(consumer)
        active = self.active
        if active is not None and consumer.priority > active.priority:
            self._is_leaving = True

    def remove(self, consumer: Consumer) -> None:
        if self._active is consumer:
            self._is_leaving = False
        super().remove(consumer)

    def resume(self, consumer: Consumer) -> bool:
        """The same; or the active one has settled all, and makes way, whether it has room or not."""
        if super().resume(consumer):
            return True
        return self._is_leaving and consumer is self._active and not consumer.unacknowledged_count

    def first_ready(self) -> Consumer | None:
        if self._is_leaving:
            active = self.active
            if active is not None and active.unacknowledged_count:
                if not active.is_parked:
                    self.park(active)  # so that the queue is told when it settles something
                return None
            self._is_leaving = False
            self._active = self.successor()
        return super().first_ready()

    def successor(self) -> Consumer | None:
        return max(self, key=lambda consumer: (consumer.priority, consumer.prefetch_count), default=None)
