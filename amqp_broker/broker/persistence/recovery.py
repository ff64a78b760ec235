"""From the journal back to a broker: the records are applied in the order in which they were written.

A message whose queue is gone is dropped here; one whose time came while the broker was down is put into its queue all
the same, and dies there as any other does, so that it is dead-lettered. Holds no formats; what each kind of record does
is in ``restoring.py``, and what there may be millions of in ``message_recovery.py``.

After a repair records may be missing. When it is a virtual host's, that is made again for what is in it. When it is one
of drops, what had been replaced is back beside what it was replaced with, and the newer one counts.

A record that this release cannot give its meaning ends the start, whatever is wrong with it: the journal's checksums
say that it is what was written, so another release wrote it, and a broker without it would not be the same.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from amqp_broker.access.client import Client
from amqp_broker.broker.message import Message
from amqp_broker.broker.persistence.definitions import decode_together, keep_virtual_host
from amqp_broker.broker.persistence.durability import Returned
from amqp_broker.broker.persistence.kinds import RecordKind
from amqp_broker.broker.persistence.message_records import (
    MessageDecoder,
    decode_held,
    decode_of_exchange,
    decode_returned,
)
from amqp_broker.broker.persistence.message_recovery import MessageRecovery
from amqp_broker.broker.persistence.restoring import RESTORERS, NotUnderstood, Restored
from amqp_broker.broker.type_registry import UnknownType
from amqp_broker.errors import AmqpError
from amqp_broker.journal.failures import FormatNotSupported
from amqp_broker.wire.table import RECORD_DEPTH, decode_table

if TYPE_CHECKING:
    from amqp_broker.broker.contents import Contents
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.journal.port import Journal, LiveRecord, Progress

MESSAGE: Final = int(RecordKind.MESSAGE)  # compared for each record, which takes an Enum's member three times as long
PAGED: Final = int(RecordKind.PAGED)
RETURNED: Final = int(RecordKind.RETURNED)
DELAYED: Final = int(RecordKind.DELAYED)
STREAM_BLOCK: Final = int(RecordKind.STREAM_BLOCK)
EXCHANGE_STATE: Final = int(RecordKind.EXCHANGE_STATE)
DEFINITIONS: Final = int(RecordKind.DEFINITIONS)


class Recovery(Restored):
    """One reading of a journal into an empty broker.

    Args:
        broker: empty.
        journal: not recovered yet.
    """

    def __init__(self, broker: Contents, journal: Journal) -> None:
        super().__init__(broker)
        self._journal = journal
        self._messages = MessageRecovery(broker, self.queues, self.pasts)
        self._wall_ms = broker.clock.wall_ms()
        self._monotonic_less_wall_ms = broker.clock.monotonic_ms() - self._wall_ms

    def steps(self, progress: Progress | None) -> Iterator[None]:
        """Read it all, one portion of records a step.

        Args:
            progress: called now and then with the bytes read so far and the bytes there are.

        Raises:
            JournalDamaged: what is on disk is not what was written.
            FormatNotSupported: this release does not know the format, or what a record means; nothing was written.
        """
        for records in self._journal.recover(progress):
            self._restore_all(records)
            yield
        self._finish()

    def _restore_all(self, records: Sequence[LiveRecord]) -> None:
        restore_message = self._messages.restore
        for reference, kind, payload, claims in records:
            try:
                if kind == MESSAGE:
                    restore_message(reference, payload, claims)
                elif kind == DEFINITIONS:
                    self._restore_together(reference, payload, claims)
                else:
                    self._restore(reference, kind, payload)
            except (AmqpError, UnknownType, ValueError, LookupError, struct.error) as error:
                raise _not_supported(reference, kind, str(error)) from error

    def _finish(self) -> None:
        self._messages.flush()
        self._journal.drop_many(self.dropped)
        self._journal.drop_many(self._messages.unowned)
        self._repair()
        self._apply_policies()
        for queue in self.queues.values():
            queue.recovered()
        for holder in self.holders.values():
            holder.recovered()
        for virtual_host in self.broker.virtual_hosts.values():
            virtual_host.client_sessions.recovered(partial(self._client, virtual_host.name))

    def _client(self, virtual_host: str, user_name: str, client_id: str) -> Client | None:
        user = self.broker.users.get(user_name)
        return Client(user, virtual_host, client_id=client_id) if user is not None else None

    @property
    def dropped_message_count(self) -> int:
        """How many messages were dropped because their queues are gone."""
        return len(self._messages.unowned)

    def _repair(self) -> None:
        """Write what was missing, and remove what is there twice."""
        for virtual_host in self.broker.virtual_hosts.values():
            if not virtual_host.reference:
                keep_virtual_host(self.broker.durability, virtual_host)
        for remove in self.to_remove:
            remove()

    def _apply_policies(self) -> None:
        """What is older than the policies is under them, too."""
        for virtual_host in self.broker.virtual_hosts.values():
            if virtual_host.policies.are_any:
                before = [queue for queue in virtual_host.queues.values() if not queue.knows_each]
                for _ in virtual_host.policies.apply_to_all():
                    pass
                for queue in before:
                    if queue.knows_each:
                        self._show_what_is_on_disk(queue)

    def _show_what_is_on_disk(self, queue: Queue) -> None:
        decode = MessageDecoder().decode
        for stretch in queue.stretches(0, queue.ready_count):
            if stretch.references:
                kept = [decode(payload) for payload in self._journal.read_many(stretch.references)]
                queue.show([Message(one.address, one.header, b"", True, one.digest.priority) for one in kept])

    def _restore(self, reference: int, kind: int, payload: bytes) -> None:
        if kind == PAGED:
            self.drop(reference)
        elif kind == STREAM_BLOCK:
            self._messages.restore_block(reference, payload)
        elif kind == DELAYED:
            self._restore_held(reference, payload)
        elif kind == RETURNED:
            self._restore_returned(reference, payload)
        elif kind == EXCHANGE_STATE:
            self._restore_of_exchange(reference, payload)
        elif kind in RESTORERS:
            fields, _ = decode_table(payload, 0, RECORD_DEPTH)
            RESTORERS[kind](self, reference, fields)
        else:
            raise NotUnderstood("this release does not know this kind of record")

    def _restore_together(self, reference: int, payload: bytes, claims: Sequence[int]) -> None:
        live = frozenset(claims)
        for number, (kind, fields) in enumerate(decode_together(payload), start=reference):
            if number in live:
                RESTORERS[kind](self, number, fields)

    def _restore_held(self, reference: int, payload: bytes) -> None:
        holder_reference, due_wall_ms, held_wall_ms = decode_held(payload)
        holder = self.holders.get(holder_reference)
        if holder is None:
            self.drop(reference)
            return
        if held_wall_ms > self._wall_ms:  # the clock was set back: nothing is held for longer than it asked for
            due_wall_ms -= held_wall_ms - self._wall_ms
        holder.restore_held(reference, due_wall_ms + self._monotonic_less_wall_ms)

    def _restore_of_exchange(self, reference: int, payload: bytes) -> None:
        exchange_reference, value = decode_of_exchange(payload)
        exchange = self.exchanges.get(exchange_reference)
        older = None if exchange is None else exchange.matcher.restore(reference, value)
        if older is None:
            self.drop(reference)
        else:
            self.drop_older(older)

    def _restore_returned(self, reference: int, payload: bytes) -> None:
        message_reference, count, header = decode_returned(payload)
        if self._messages.is_counted(message_reference):
            before = self.broker.durability.adopt_returned(message_reference, Returned(reference, count, header))
            self.drop_older(before.reference if before is not None else 0)
        else:
            self.drop(reference)


def _not_supported(reference: int, kind: int, problem: str) -> FormatNotSupported:
    known = {int(known_kind): known_kind.name.lower() for known_kind in RecordKind}
    name = f", {known[kind]}" if kind in known else ""
    return FormatNotSupported(f"record {reference} of the journal (kind {kind}{name}) cannot be read: {problem}")
