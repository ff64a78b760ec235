"""The topology of a virtual host: exchanges, queues and bindings, as they come and as they go.

Whatever goes takes other things along: a queue its bindings, a binding the auto-delete exchange that it was the last
of, a connection its exclusive queues, a virtual host all there is. Nobody finds what goes from that moment on; taking
it out of matchers and of the journal is done in slices, because it may be very much.

``lookup_version`` grows with every change after which a route or a permission that somebody has looked up may no longer
hold: whoever remembers some looks them up again.

Holds no rules; who may change what is ``virtual_host.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.counters import DiskCounts
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.host import Host
from amqp_broker.broker.observer import Kind
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import not_found
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.shared import Shared

# What takes long is done in slices (works.py), which are so many messages; in those,
BINDING_EFFORT: Final = 5  # a binding is taken out of a matcher and forgotten, some 10 microseconds
QUEUE_EFFORT: Final = 20  # a queue is closed, some 30 microseconds


class Topology(Host):
    """Exchanges, queues and bindings that know of each other.

    Args:
        shared: of the broker.
        name: of the virtual host.
    """

    def __init__(self, shared: Shared, name: str) -> None:
        super().__init__(shared, name)
        self._shared = shared
        self.churn = shared.churn
        self.disk_counts_of_deleted = DiskCounts()
        self.queues: dict[str, Queue] = {}
        self.exchanges: dict[str, Exchange] = {}
        self._sources_of: dict[Exchange | Queue, dict[Exchange, None]] = {}  # what is bound to them
        self._queues_of: dict[object, dict[Queue, None]] = {}  # exclusive ones, by their owner

    # --- looking them up

    def described(self, kind: str, name: str) -> str:
        """A queue or exchange as texts name it: ``queue 'q' in vhost '/'``."""
        return f"{kind} '{name}' in vhost '{self.name}'"

    def exchange(self, name: str) -> Exchange:
        """Look an exchange up.

        Raises:
            AmqpError: 404.
        """
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise not_found("exchange", name, self.name)
        return exchange

    def queue(self, name: str) -> Queue:
        """Look a queue up.

        Raises:
            AmqpError: 404.
        """
        queue = self.queues.get(name)
        if queue is None:
            raise not_found("queue", name, self.name)
        return queue

    # --- exchanges

    def put_exchange(self, exchange: Exchange) -> None:
        """An exchange is new."""
        self.exchanges[exchange.name] = exchange
        self.lookup_version += 1

    def apply_to_exchange(self, exchange: Exchange, alternate: str | None) -> None:
        """Let another alternate exchange be in force; what was declared stays for comparisons and records."""
        if exchange.apply(alternate):
            self.lookup_version += 1

    def let_delay(self, exchange: Exchange, is_delaying: bool) -> None:
        """Have an exchange hold back what asks for it from now on, or no more; what it holds is let go in its time."""
        raise NotImplementedError

    def remove_exchange(self, exchange: Exchange, by: str = "") -> None:
        """An exchange goes with its bindings. Another one of its name stays.

        Args:
            by: the user who wants it; empty for the broker.
        """
        if not exchange.is_deleted:
            self._hide_exchange(exchange, by)
            self._remove_bindings_of(exchange, by)

    def _hide_exchange(self, exchange: Exchange, by: str) -> None:
        exchange.is_deleted = True
        if self.exchanges.get(exchange.name) is exchange:
            del self.exchanges[exchange.name]
        exchange.matcher.removed()
        if exchange.holder is not None:
            exchange.holder.close()
        self.durability.forget(exchange)
        self._deleted(Kind.EXCHANGE, exchange.name, exchange, by)

    # --- bindings

    def add_binding(
        self, source: Exchange, destination: Exchange | Queue, routing_key: str, arguments: Table
    ) -> Binding:
        """Add a binding that was checked and is new, or was read from the journal."""
        binding = Binding(source, destination, routing_key, arguments)
        source.bind(binding)
        self._sources_of.setdefault(destination, {})[source] = None
        self.lookup_version += 1
        return binding

    def add_binding_if_new(
        self, source: Exchange, destination: Exchange | Queue, routing_key: str, arguments: Table
    ) -> Binding | None:
        """The same for one that was checked and may be there; None when it is."""
        if Binding(source, destination, routing_key, arguments).identity in source.bindings:
            return None
        return self.add_binding(source, destination, routing_key, arguments)

    def remove_binding(self, binding: Binding, by: str) -> None:
        """Remove a binding, and an auto-delete exchange with its last one."""
        source, destination = binding.source, binding.destination
        source.unbind(binding.identity)
        if not source.bindings.lead_to(destination):
            self._forget_source(source, destination)
        self.durability.forget(binding)
        self._deleted(Kind.BINDING, source.name, binding, by)
        self.lookup_version += 1
        if source.auto_delete and not source.bindings:
            self.remove_exchange(source)

    def _forget_source(self, source: Exchange, destination: Exchange | Queue) -> None:
        sources = self._sources_of[destination]
        del sources[source]
        if not sources:
            del self._sources_of[destination]

    def _remove_bindings_of(self, gone: Exchange | Queue, by: str) -> int:
        """Something is deleted: the bindings to it and from it go, and auto-delete exchanges with their last ones.

        However many there are, nobody sees them from now on: nobody finds a deleted exchange, and no route leads to
        what is deleted. Taking them out of matchers and of the journal is done in slices. A crash before the end does
        no harm: a start drops a binding whose source or destination is not there when its record is read, and what
        has the same name by now has a later record.

        Returns:
            How many bindings there were.
        """
        removed: list[list[Binding]] = []
        to_do: list[Exchange | Queue] = [gone]
        while to_do:  # no recursion: clients choose how long a chain of exchanges is
            current = to_do.pop()
            if isinstance(current, Exchange):
                for destination in current.bindings.destinations():
                    removed.append(current.bindings.take(destination))
                    self._forget_source(current, destination)
            for source in self._sources_of.pop(current, ()):
                removed.append(source.bindings.take(current))
                if source.auto_delete and not source.bindings and not source.is_deleted:
                    self._hide_exchange(source, "")
                    to_do.append(source)
        self.lookup_version += 1
        count = sum(map(len, removed))
        self.works.begin(self._forget_bindings(removed, by))
        return count

    def _forget_bindings(self, removed: list[list[Binding]], by: str) -> Iterator[None]:
        effort = 0
        while removed:
            bindings = removed.pop()
            while bindings:
                binding = bindings.pop()
                if not binding.source.is_deleted:  # else nobody will ask its matcher any more
                    binding.source.matcher.remove(binding)
                self.durability.forget(binding)
                self._deleted(Kind.BINDING, binding.source.name, binding, by)
                effort += BINDING_EFFORT
                if effort >= self.works.slice_messages:
                    effort = 0
                    yield

    def tell_declared(self, kind: Kind, name: str, thing: object, by: str) -> None:
        """Tell those who look on that something is new."""
        if self.observers.present_for_changes:
            self.observers.declared(kind, self.name, name, thing, by)

    def _deleted(self, kind: Kind, name: str, thing: object, by: str) -> None:
        if self.observers.present_for_changes:
            self.observers.deleted(kind, self.name, name, thing, by)

    # --- queues

    def put_queue(self, queue: Queue) -> None:
        """A queue is new."""
        self.queues[queue.name] = queue
        if queue.owner is not None:
            self._queues_of.setdefault(queue.owner, {})[queue] = None
        self.lookup_version += 1

    def remove_queue(self, queue: Queue, by: str = "") -> None:
        if queue.is_deleted:
            return
        self._hide_queue(queue, by)
        self._take_down(queue, by)

    def _hide_queue(self, queue: Queue, by: str) -> None:
        """From now on nobody finds it, and no route leads there."""
        if queue.dying_count:
            self._shared.publish_dead_letters()
        queue.is_deleted = True
        self.churn.queues_deleted += 1
        self._shared.counts_of_deleted_queues.add(queue.declared.queue_type, queue.counts)
        self.disk_counts_of_deleted.add(queue.counts)
        if self.queues.get(queue.name) is queue:
            del self.queues[queue.name]
        if queue.owner in self._queues_of:
            self._queues_of[queue.owner].pop(queue, None)
        self._deleted(Kind.QUEUE, queue.name, queue, by)

    def _take_down(self, queue: Queue, by: str) -> int:
        """Close a queue that was hidden; returns the effort of what is done at once, the first slices of each part."""
        slice_max = self.works.slice_messages
        messages_effort = min(queue.ready_count, slice_max)
        bindings_effort = min(self._remove_bindings_of(queue, by) * BINDING_EFFORT, slice_max)
        queue.close()
        return QUEUE_EFFORT + bindings_effort + messages_effort

    def _take_down_all(self, queues: list[Queue]) -> Iterator[None]:
        """Close queues that were hidden; each leaves the list, because to free them all in the end takes long, too."""
        queues.reverse()
        effort = 0
        while queues:
            effort += self._take_down(queues.pop(), "")
            if effort >= self.works.slice_messages:
                effort = 0
                yield

    def remove_exclusive_queues(self, owner: object) -> None:
        """A connection has gone, and its exclusive queues with it: all of them at once, as far as anybody can see."""
        queues = list(self._queues_of.pop(owner, ()))
        if queues:
            for queue in queues:
                self._hide_queue(queue, "")
            self.lookup_version += 1
            self.works.begin(self._take_down_all(queues))

    # --- all of it

    def clear(self, by: str = "") -> None:
        """All there is goes: at once for everybody, and for the journal.

        Args:
            by: the user who wants it; empty for the broker.
        """
        queues, exchanges = list(self.queues.values()), list(self.exchanges.values())
        unused: list[Queue] = []
        for queue in queues:
            self._hide_queue(queue, by)
        bindings = [binding for exchange in exchanges for binding in exchange.bindings.values()]
        self.durability.forget_definitions(queues, [*exchanges, *bindings])
        for exchange in exchanges:
            exchange.is_deleted = True
            exchange.matcher.removed()
            if exchange.holder is not None:
                exchange.holder.close()
            self._deleted(Kind.EXCHANGE, exchange.name, exchange, by)
        self.exchanges.clear()
        self._sources_of.clear()
        self.lookup_version += 1
        for queue in queues:
            if len(queue.consumers):  # to be told now: their connections may be gone before the last slice
                queue.close()
            else:
                unused.append(queue)
        self.works.begin(self._take_down_all(unused))
