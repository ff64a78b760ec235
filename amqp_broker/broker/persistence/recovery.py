"""From the journal back to a broker: the records are applied in the order in which they were written.

A message whose queue is gone is dropped here; one whose time came while the broker was down is put into its queue all
the same, and dies there as any other does, so that it is dead-lettered. Holds no formats; those are in
``durability.py``. What there may be millions of is in ``message_recovery.py``.

After a repair records may be missing. When it is a virtual host's, that is made again for what is in it. When it is one
of drops, what had been replaced is back beside what it was replaced with, and the newer one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from amqp_broker.access.passwords import SHA256, PasswordHash
from amqp_broker.access.patterns import Pattern
from amqp_broker.access.users import Permission, TopicPermission, User, UserLimits
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.persistence.durability import RecordKind, Returned, decode_returned
from amqp_broker.broker.persistence.message_recovery import MessageRecovery
from amqp_broker.broker.virtual_host import VirtualHost, VirtualHostLimits
from amqp_broker.wire.table import FieldValue, Table, decode_table

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.queues.classic import Queue
    from amqp_broker.journal.port import Journal, LiveRecord, Progress

MESSAGE = int(RecordKind.MESSAGE)  # compared for each record, which takes an Enum's member three times as long


class Recovery:
    """One reading of a journal into an empty broker.

    Args:
        broker: empty.
        journal: not recovered yet.
    """

    def __init__(self, broker: Broker, journal: Journal) -> None:
        self._broker = broker
        self._journal = journal
        self._queues: dict[int, Queue] = {}
        self._orphans: list[int] = []
        self._to_remove: list[Callable[[], None]] = []  # what there is twice
        self._messages = MessageRecovery(broker, self._queues)

    def steps(self, progress: Progress | None) -> Iterator[None]:
        """Read it all, one portion of records a step.

        Args:
            progress: called now and then with the bytes read so far and the bytes there are.

        Raises:
            JournalDamaged: what is on disk is not what was written.
            FormatNotSupported: a newer release wrote it.
        """
        for records in self._journal.recover(progress):
            self._restore_all(records)
            yield
        self._finish()

    def _restore_all(self, records: Sequence[LiveRecord]) -> None:
        restore_message = self._messages.restore
        for reference, kind, payload, claims in records:
            if kind == MESSAGE:
                restore_message(reference, payload, claims)
            else:
                self._restore(reference, kind, payload)

    def _finish(self) -> None:
        self._messages.flush()
        self._journal.drop_many(self._orphans)
        self._journal.drop_many(self._messages.orphans)
        self._mend()
        for queue in self._queues.values():
            queue.recovered()

    @property
    def homeless_count(self) -> int:
        """How many messages were dropped because their queues are gone."""
        return len(self._messages.orphans)

    def _mend(self) -> None:
        """Write what was missing, and remove what is there twice."""
        for virtual_host in self._broker.virtual_hosts.values():
            if not virtual_host.reference:
                self._broker.durability.keep_virtual_host(virtual_host)
        for remove in self._to_remove:
            remove()

    def _restore(self, reference: int, kind: int, payload: bytes) -> None:
        if kind == RecordKind.PAGED:
            self._orphans.append(reference)
        elif kind == RecordKind.RETURNED:
            self._restore_returned(reference, payload)
        else:
            table, _ = decode_table(payload, 0)
            RESTORERS[RecordKind(kind)](self, reference, table)

    def _virtual_host_of(self, table: Table) -> VirtualHost:
        name = _text(table["virtual_host"])
        return self._broker.virtual_hosts.get(name) or self._broker.add_virtual_host(name)

    def _restore_virtual_host(self, reference: int, table: Table) -> None:
        name = _text(table["name"])
        virtual_host = self._broker.virtual_hosts.get(name) or self._broker.add_virtual_host(name)
        self._drop_older(virtual_host.reference)
        virtual_host.reference = reference

    def _drop_older(self, reference: int) -> None:
        """Something has a newer record: the one before, if there is any, is not wanted."""
        if reference:
            self._orphans.append(reference)

    def _restore_user(self, reference: int, table: Table) -> None:
        password_hash, tags, permissions = table["password_hash"], table["tags"], table["permissions"]
        assert isinstance(password_hash, bytes)
        assert isinstance(tags, list)
        assert isinstance(permissions, dict)
        stored = PasswordHash(_text(table.get("hashing_algorithm", SHA256)), password_hash)
        user = User(_text(table["name"]), stored, tuple(_text(tag) for tag in tags), reference=reference)
        user.limits = UserLimits(_limit(table, "connections_max"), _limit(table, "channels_max"))
        for virtual_host, patterns in permissions.items():
            assert isinstance(patterns, list)
            configure, write, read = (Pattern(_text(pattern)) for pattern in patterns)
            user.permissions[virtual_host] = Permission(configure, write, read)
        for virtual_host, by_exchange in _table(table.get("topic_permissions", {})).items():
            user.topic_permissions[virtual_host] = {
                exchange: _topic_permission(patterns) for exchange, patterns in _table(by_exchange).items()
            }
        before = self._broker.users.get(user.name)
        self._drop_older(before.reference if before is not None else 0)
        self._broker.users.put(user)

    def _restore_limits(self, reference: int, table: Table) -> None:
        virtual_host = self._broker.virtual_hosts.get(_text(table["virtual_host"]))
        if virtual_host is None:
            self._orphans.append(reference)
            return
        virtual_host.limits = VirtualHostLimits(_limit(table, "connections_max"), _limit(table, "queues_max"))
        self._drop_older(virtual_host.limits_reference)
        virtual_host.limits_reference = reference

    def _restore_exchange(self, reference: int, table: Table) -> None:
        virtual_host = self._virtual_host_of(table)
        name = _text(table["name"])
        before = virtual_host.exchanges.get(name)
        if before is not None:
            self._to_remove.append(partial(virtual_host.remove_exchange, before))
        exchange = virtual_host.add_exchange(
            name,
            _text(table["type"]),
            durable=True,
            auto_delete=table["auto_delete"] is True,
            internal=table["internal"] is True,
            table=_table(table["arguments"]),
        )
        exchange.reference = reference

    def _restore_queue(self, reference: int, table: Table) -> None:
        virtual_host = self._virtual_host_of(table)
        name = _text(table["name"])
        before = virtual_host.queues.get(name)
        if before is not None:
            del self._queues[before.reference]
            self._to_remove.append(partial(virtual_host.remove_queue, before))
        queue = virtual_host.add_queue(
            name,
            durable=True,
            auto_delete=table["auto_delete"] is True,
            owner=None,
            table=_table(table["arguments"]),
        )
        queue.reference = reference
        self._queues[reference] = queue

    def _restore_binding(self, reference: int, table: Table) -> None:
        virtual_host = self._virtual_host_of(table)
        source = virtual_host.exchanges.get(_text(table["source"]))
        name = _text(table["destination"])
        destination = (virtual_host.queues if table["to_queue"] is True else virtual_host.exchanges).get(name)
        if source is None or destination is None:
            self._orphans.append(reference)
            return
        routing_key, arguments = _text(table["routing_key"]), _table(table["arguments"])
        binding = source.bindings.get(Binding(source, destination, routing_key, arguments).identity)
        if binding is None:
            binding = virtual_host.add_binding(source, destination, routing_key, arguments)
        self._drop_older(binding.reference)
        binding.reference = reference

    def _restore_handed_out(self, reference: int, table: Table) -> None:
        queue = self._queues.get(_integer(table["queue"]))
        marks = table["marks"]
        if queue is None or not isinstance(marks, list):
            self._orphans.append(reference)
            return
        self._drop_older(queue.handed_out_reference)
        queue.handed_out_reference = reference
        queue.handed_out_through = [_integer(mark) for mark in marks]

    def _restore_returned(self, reference: int, payload: bytes) -> None:
        message_reference, count = decode_returned(payload)
        if self._messages.is_counted(message_reference):
            before = self._broker.durability.adopt_returned(message_reference, Returned(reference, count))
            self._drop_older(before.reference if before is not None else 0)
        else:
            self._orphans.append(reference)


RESTORERS = {
    RecordKind.VIRTUAL_HOST: Recovery._restore_virtual_host,
    RecordKind.USER: Recovery._restore_user,
    RecordKind.LIMITS: Recovery._restore_limits,
    RecordKind.EXCHANGE: Recovery._restore_exchange,
    RecordKind.QUEUE: Recovery._restore_queue,
    RecordKind.BINDING: Recovery._restore_binding,
    RecordKind.HANDED_OUT: Recovery._restore_handed_out,
}


def _text(value: FieldValue) -> str:
    assert isinstance(value, str)
    return value


def _integer(value: FieldValue) -> int:
    assert isinstance(value, int)
    return int(value)


def _table(value: FieldValue) -> Table:
    assert isinstance(value, dict)
    return value


def _limit(table: Table, name: str) -> int | None:
    value = table.get(name)
    return None if value is None else _integer(value)


def _topic_permission(patterns: FieldValue) -> TopicPermission:
    assert isinstance(patterns, list)
    write, read = patterns
    return TopicPermission(_text(write), _text(read))
