"""The making of exchanges, queues and bindings that an import has put into the journal, in one virtual host, in slices.

The import counts from the moment when the journal has it, and what others do between the slices comes after it:

- what is there by then stays as it is, and the import's of that name is forgotten;
- a declaration of something that is not made yet has it made first, and so finds it there: with the same properties
  all is well, with others it is refused, as always;
- what is deleted stays deleted, and takes along what the import says of it: a binding whose end was deleted, or was
  deleted and declared again, is not made;
- who asks for something that is not made yet, to bind, to consume or to delete it, is told that it is not there, as
  before the import was answered;
- with the virtual host all of it goes.

A start after a crash finds the same: the records say what the import was, and behind them what others have done.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from amqp_broker.broker.definitions.reading import HostPlan, NewBinding, NewExchange, NewQueue
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.observer import Kind
from amqp_broker.broker.persistence.definitions import keep_binding
from amqp_broker.broker.type_registry import UnknownType
from amqp_broker.errors import AmqpError
from amqp_broker.logs import log_event

if TYPE_CHECKING:
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.virtual_host import VirtualHost
    from amqp_broker.broker.works import Work

SLICE_MADE = 20  # exchanges, queues or bindings, some 30 microseconds each


class HostMaking:
    """The part of an import to be made in one virtual host, which knows it as ``VirtualHost.pending`` meanwhile.

    Args:
        host: the virtual host.
        plan: what is to be made, with its records' references when ``leave_what_is_there`` is called.
        who: wants it.
    """

    def __init__(self, host: VirtualHost, plan: HostPlan, who: str) -> None:
        self._host = host
        self._exchanges = plan.exchanges
        self._queues = plan.queues
        self._bindings = plan.bindings
        self._who = who
        self._declared_since: set[tuple[str, str]] = set()  # kinds and names of what others have declared anew
        self.work: Work | None = None  # what takes the steps
        self.exchange_count = self.queue_count = self.binding_count = 0  # of those that were made

    def leave_what_is_there(self) -> None:
        """Forget what others have declared since the plan was made, in the go in which the records are written."""
        self._host.pending = self
        for name in self._exchanges.keys() & self._host.exchanges.keys():
            self._host.durability.drop(self._exchanges.pop(name).reference)
        for name in self._queues.keys() & self._host.queues.keys():
            self._host.durability.drop(self._queues.pop(name).reference)

    def steps(self) -> Iterator[None]:
        """Make all of it, a slice a step."""
        count = 0
        for name in list(self._exchanges):
            self.make_exchange(name)
            count += 1
            if count % SLICE_MADE == 0:
                yield
        for name in list(self._queues):
            self.make_queue(name)
            count += 1
            if count % SLICE_MADE == 0:
                yield
        self._bindings.reverse()
        while self._bindings:
            self._make_binding(self._bindings.pop())
            count += 1
            if count % SLICE_MADE == 0:
                yield
        self._end()

    def _end(self) -> None:
        if self._host.pending is self:
            self._host.pending = None

    def forget(self) -> None:
        """The virtual host is deleted: no record may be left, or a start would bring it back."""
        exchanges, queues, bindings = self._exchanges, self._queues, self._bindings
        self._exchanges, self._queues, self._bindings = {}, {}, []
        references = [one.reference for one in exchanges.values() if one.reference]
        references += [one.reference for one in queues.values() if one.reference]
        references += [one.reference for one in bindings if one.reference]
        self._host.durability.forget_references(references)
        self._end()

    # --- one of them

    def make_exchange(self, name: str) -> None:
        """Make an exchange now, if it is one that is to be made."""
        new = self._exchanges.pop(name, None)
        if new is not None:
            self._make_exchange(new)
        elif name not in self._host.exchanges:
            self._declared_since.add(("exchange", name))

    def _make_exchange(self, new: NewExchange) -> None:
        host = self._host
        if new.name in host.exchanges:
            host.durability.drop(new.reference)
            return
        try:
            exchange = host.add_exchange(
                new.name,
                new.type_name,
                durable=new.durable,
                auto_delete=new.auto_delete,
                internal=new.internal,
                table=new.table,
            )
        except (AmqpError, UnknownType) as error:
            self._leave_out("exchange", new.name, new.reference, error)
            return
        exchange.reference = new.reference
        self.exchange_count += 1
        host.tell_declared(Kind.EXCHANGE, new.name, exchange, self._who)

    def make_queue(self, name: str) -> None:
        """Make a queue now, if it is one that is to be made."""
        new = self._queues.pop(name, None)
        if new is not None:
            self._make_queue(new)
        elif name not in self._host.queues:
            self._declared_since.add(("queue", name))

    def _make_queue(self, new: NewQueue) -> None:
        host = self._host
        if new.name in host.queues:
            host.durability.drop(new.reference)
            return
        try:
            queue = host.add_queue(
                new.name, durable=new.durable, auto_delete=new.auto_delete, owner=None, table=new.table
            )
        except (AmqpError, UnknownType) as error:
            self._leave_out("queue", new.name, new.reference, error)
            return
        queue.reference = new.reference
        self.queue_count += 1
        host.churn.queues_created += 1
        host.tell_declared(Kind.QUEUE, new.name, queue, self._who)

    def _make_binding(self, new: NewBinding) -> None:
        source = self._end_of("exchange", new.source)
        destination = self._end_of(new.kind, new.destination)
        if source is None or destination is None or not isinstance(source, Exchange):
            self._host.durability.drop(new.reference)
            return
        try:
            source.matcher.check(Binding(source, destination, new.routing_key, new.table))
            binding = self._host.add_binding_if_new(source, destination, new.routing_key, new.table)
        except AmqpError as error:
            self._leave_out("binding", f"from {new.source} to {new.destination}", new.reference, error)
            return
        if binding is None:
            self._host.durability.drop(new.reference)
            return
        if new.durable and binding.is_durable:
            binding.reference = new.reference
        else:  # an end is another one than when it was checked
            self._host.durability.drop(new.reference)
            keep_binding(self._host.durability, self._host.name, binding)
        self.binding_count += 1
        self._host.tell_declared(Kind.BINDING, new.source, binding, self._who)

    def _end_of(self, kind: str, name: str) -> Exchange | Queue | None:
        """An end of a binding; None for one that is not there any more, or was declared after the import."""
        if (kind, name) in self._declared_since:
            return None
        return (self._host.exchanges if kind == "exchange" else self._host.queues).get(name)

    def _leave_out(self, kind: str, name: str, reference: int, error: Exception) -> None:
        """It could be had when it was checked, and cannot any more: a plugin fails, or was switched off."""
        self._host.durability.drop(reference)
        virtual_host = self._host.name
        log_event(logging.WARNING, "definition left out", vhost=virtual_host, kind=kind, name=name, reason=str(error))
