"""A broker without sockets, journal or real time, and what must always be true of it.

``check_invariants`` looks inside: it compares what queues count with what they hold, and with what the channels of all
connections hold of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.ports import PassiveDriver
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.classic import ClassicQueue
from amqp_broker.broker.queues.consumers import Consumer
from amqp_broker.broker.queues.paging import OVERHEAD_BYTES
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.broker.works import SLICE_MESSAGES
from amqp_broker.protocols.amqp091.channel import Channel
from amqp_broker.protocols.amqp091.connection import Connection
from amqp_broker.protocols.amqp091.states import ChannelState
from amqp_broker.protocols.amqp10.entries import StreamEntries
from amqp_broker.settings import Settings
from tests.support.manual_clock import ManualClock


class MemoryDriver(PassiveDriver):
    """Has a broker do all that is left to do at once, unless ``goes_on`` says that long works wait."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self._is_going_on = False
        self._entry_forms = StreamEntries()

    def entry_forms(self) -> StreamEntries:
        """Those of AMQP 1.0."""
        return self._entry_forms

    def work_is_unfinished(self) -> None:
        """Go on until it is done."""
        if self._is_going_on:
            return
        self._is_going_on = True
        try:
            while self.broker.goes_on and self.broker.is_unfinished:
                self.broker.go_on()
        finally:
            self._is_going_on = False


class MemoryBroker(Broker):
    """A broker whose time a test moves.

    Args:
        settings: by name, where they differ from the defaults.
    """

    clock: ManualClock
    driver_type: ClassVar[type[MemoryDriver]] = MemoryDriver
    slice_messages: ClassVar[int] = SLICE_MESSAGES

    def __init__(self, **settings: Any) -> None:
        self._make(Settings(**settings), ManualClock())
        self.open()

    def _make(self, settings: Settings, clock: ManualClock) -> None:
        super().__init__(settings, clock, self.driver_type(self))
        self.works.slice_messages = self.slice_messages
        self.connections: list[Connection] = []  # those that clients of the test have made

    @property
    def virtual_host(self) -> VirtualHost:
        """The one that a new broker has."""
        return self.virtual_hosts[self.settings.default_virtual_host]

    def queue(self, name: str) -> Queue:
        """A queue of that virtual host."""
        return self.virtual_host.queue(name)

    def settle(self) -> None:
        """Do what follows from what the test has done to parts of the broker itself."""
        self.handle(_nothing_more)

    @contextmanager
    def holding_works(self) -> Iterator[None]:
        """Let what takes long wait after its first slice; it is done in the end."""
        self.goes_on = False
        yield
        self.goes_on = True
        self.settle()

    goes_on = True

    def advance(self, duration_ms: int) -> None:
        """Let time pass, and do at each deadline on the way what is due then."""
        end_ms = self.clock.monotonic_ms() + duration_ms
        while True:
            deadline_ms = self.timers.next_deadline_ms()
            if deadline_ms is None or deadline_ms > end_ms:
                break
            self.clock.advance(max(0, deadline_ms - self.clock.monotonic_ms()))
            self.run_due()
        self.clock.advance(end_ms - self.clock.monotonic_ms())

    # --- what must always be true

    def check_invariants(self) -> None:
        """Assert that every count is that of what is there, and that nobody waits for what could be had."""
        assert not self.is_unfinished
        assert not self.to_finish
        channels = [channel for connection in self.connections for channel in connection.channels.values()]
        for virtual_host in self.virtual_hosts.values():
            _check_bindings(virtual_host)
            for name, queue in virtual_host.queues.items():
                assert queue.name == name
                _check_queue(queue, channels)
        for channel in channels:
            _check_channel(channel)
        ready = [
            message
            for host in self.virtual_hosts.values()
            for queue in host.queues.values()
            if not isinstance(queue, StreamQueue)  # what is in memory of one is next to nothing
            for message in queue.messages()
        ]
        assert self.paging.used_bytes == sum(len(message.body) + OVERHEAD_BYTES for message in ready)
        waiting_for_replies = [channel for channel in channels if channel.consuming._reply_key]
        assert len(self.reply_consumers) == len(waiting_for_replies)


@contextmanager
def small_slices(count: int = 2) -> Iterator[None]:
    """Let so many messages be as many as fit into a slice of long work, for the brokers that are made meanwhile."""
    before = MemoryBroker.slice_messages
    MemoryBroker.slice_messages = count
    try:
        yield
    finally:
        MemoryBroker.slice_messages = before


def _nothing_more() -> None:
    pass


def _check_queue(queue: Queue, channels: list[Channel]) -> None:
    assert not queue.is_deleted
    assert not queue.is_changed
    held = [delivery for channel in channels for delivery in _deliveries_held(channel) if delivery.queue is queue]
    assert queue.unacknowledged_count == len(held)
    if isinstance(queue, StreamQueue):
        assert queue.ready_count == queue.end_offset - queue.first_offset
        return
    messages = list(queue.messages())
    assert isinstance(queue, ClassicQueue)
    assert queue.ready_count == len(messages) == len(queue.ready)
    assert queue.ready_bytes == sum(len(message.body) for message in messages)
    if messages:
        assert queue.ready.head() is messages[0]
    else:
        assert queue.ready.head() is None
    assert not {id(delivery.message) for delivery in held} & {id(message) for message in messages}
    consumers = [
        consumer for channel in channels for consumer in channel.consuming.consumers.values() if consumer.queue is queue
    ]
    assert Counter(consumers) == Counter(queue.consumers)
    in_turn = [consumer for level in (queue.consumers._levels or {}).values() for consumer in level]
    assert len(in_turn) == len(set(in_turn))
    assert set(in_turn) <= set(consumers), "one that has gone has its turn"
    for consumer in consumers:
        assert consumer.is_parked != (consumer in in_turn)
        assert not (consumer.is_parked and consumer.is_ready), "a consumer that could have messages is left aside"
    if messages:
        served = [queue.consumers.active] if queue.arguments.has_single_active_consumer else consumers
        assert not any(consumer is not None and consumer.is_ready for consumer in served), "a message waits for nothing"


def _deliveries_held(channel: Channel) -> list[Any]:
    """What a channel has unacknowledged, including what its open transaction has settled so far."""
    deliveries = list(channel.consuming.unacknowledged.values())
    if channel.transaction is not None:
        for _, settled in channel.transaction._settlements:
            deliveries.extend(settled.values())
    return deliveries


def _check_channel(channel: Channel) -> None:
    consuming = channel.consuming
    held = [delivery for delivery in _deliveries_held(channel) if delivery.consumer is not None]
    assert consuming._consumers_unacknowledged == len(held)
    limit = consuming.channel_prefetch_count
    is_full = limit > 0 and consuming._consumers_unacknowledged >= limit
    is_full = is_full or consuming._is_unacknowledged_max_reached()
    if channel.state is ChannelState.OPEN:
        assert consuming.has_room == (not is_full and not channel.connection.output.is_congested)
    else:
        assert not consuming.consumers
        assert not held
    by_consumer: Counter[Consumer] = Counter(delivery.consumer for delivery in held if delivery.consumer)
    for consumer in consuming.consumers.values():
        assert consumer.unacknowledged_count == by_consumer[consumer]
        if consumer.prefetch_count:
            assert consumer.unacknowledged_count <= consumer.prefetch_count
        virtual_host = consumer.queue.virtual_host
        assert isinstance(virtual_host, VirtualHost)
        assert virtual_host.queues.get(consumer.queue.name) is consumer.queue
    assert all(tag < consuming._next_tag for tag in consuming.unacknowledged)
    assert all(tag >= consuming._lowest_tag for tag in consuming.unacknowledged)


def _check_bindings(virtual_host: VirtualHost) -> None:
    outgoing = [binding for exchange in virtual_host.exchanges.values() for binding in exchange.bindings.values()]
    sources = {(source, end) for end, found in virtual_host._sources_of.items() for source in found}
    assert sources == {(binding.source, binding.destination) for binding in outgoing}
    assert len(outgoing) == sum(len(exchange.bindings) for exchange in virtual_host.exchanges.values())
    assert not any(exchange.is_deleted for exchange in virtual_host.exchanges.values())
    for binding in outgoing:
        holder = virtual_host.exchanges if not binding.is_to_queue else virtual_host.queues
        assert holder.get(binding.destination.name) is binding.destination
