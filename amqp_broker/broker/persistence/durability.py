"""What outlives the broker: which changes are written to the journal, in which form, and how they are read back.

Theory of operation. Whatever is durable has one record, and keeps the record's reference; when it goes, the record is
dropped. A message has one record however many queues it is in: each queue's copy is one claim. Since the journal
commits what gathers between two of its batches whole or not at all, a transaction, or a message on its way from a queue
to its dead-letter exchange, is never seen half done: the broker does each in one go.

Which messages had been delivered is not written for each: a queue notes, once a batch, up to which one it has handed
messages out; what is still there after a restart and not beyond that mark is marked redelivered. The number of returns
to a quorum queue is written for the message itself.

Holds the records' contents. ``docs/journal.md`` describes the layers below. Recovery is in ``recovery.py``.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from amqp_broker.access.users import User
from amqp_broker.broker.message import Address, Digest, Message, digest_of
from amqp_broker.broker.ports import Clock
from amqp_broker.journal.port import Batch, Journal
from amqp_broker.wire.strings import decode_shortstr, encode_shortstr
from amqp_broker.wire.table import Table, encode_table

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.binding import Binding
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.classic import Queue
    from amqp_broker.broker.virtual_host import VirtualHost

NOT_KEPT: Final = 0  # the reference of what has no record


class RecordKind(IntEnum):
    """The kinds of records. A number is never given a new meaning."""

    VIRTUAL_HOST = 1
    USER = 2
    EXCHANGE = 3
    QUEUE = 4
    BINDING = 5
    MESSAGE = 6
    HANDED_OUT = 7
    RETURNED = 8
    PAGED = 9  # a message that is not kept, out of memory for the moment
    LIMITS = 10  # of a virtual host; a record of its own, because the virtual host's must stay before its queues'


_COUNT: Final = struct.Struct(">H")
_REFERENCE: Final = struct.Struct(">Q")
_TIMES: Final = struct.Struct(">QQ")  # published, expires: milliseconds since 1970, 0 for never
_NEVER: Final = bytes(8)  # the second of the times
_LENGTH: Final = struct.Struct(">I")
_ONE_QUEUE_AND_TIMES: Final = struct.Struct(">HQQQ")  # the usual beginning of a message's record, in one go
_NO_KEYS_AND_LENGTH: Final = struct.Struct(">HI")  # the usual middle: no extra routing keys, and the header's length
_MESSAGE: Final = int(RecordKind.MESSAGE)  # written with every message: looked up once
_RETURNED: Final = struct.Struct(">QI")


class KeptMessage(NamedTuple):
    """A message as its record holds it."""

    queues: tuple[int, ...]  # the references of the queues' records, in the order of the claims
    published_wall_ms: int
    expires_wall_ms: int
    address: Address
    header: bytes
    body: bytes
    digest: Digest  # of the header


class Returned(NamedTuple):
    """How often a kept message has come back to its quorum queue, and the record that says so."""

    reference: int
    times: int


class Durability:
    """Writes what is durable to a journal.

    Args:
        journal: where to; None keeps nothing, and everything counts as kept at once.
        clock: the wall clock goes into records, deadlines are kept on the monotonic one.
        is_kept_by_sync: whether what was written counts as kept only when it was synced.
    """

    def __init__(self, journal: Journal | None, clock: Clock, *, is_kept_by_sync: bool) -> None:
        self._journal = journal
        self._clock = clock
        self._is_kept_by_sync = is_kept_by_sync
        self._handed_out: list[Queue] = []  # whose mark has moved since the last batch
        self._returns: dict[int, Returned] = {}  # by the message's reference
        self._nothing_left_at = NOT_KEPT
        self.is_dirty = False  # something has gathered since the last batch was taken
        self.last_change = NOT_KEPT  # the position of what was last declared, deleted, bound or purged

    # --- how far it is

    @property
    def has_journal(self) -> bool:
        """Whether there is a disk at all."""
        return self._journal is not None

    @property
    def position(self) -> int:
        """What must be kept for all that has gathered to be kept; ``NOT_KEPT`` when nothing has."""
        return self._journal.position if self._journal is not None and self.is_dirty else NOT_KEPT

    def is_kept(self, position: int) -> bool:
        """Whether all up to a position is as durable as was asked for."""
        if position == NOT_KEPT or position < self._kept_position:
            return True
        return position <= self._nothing_left_at and not self.is_dirty

    @property
    def _kept_position(self) -> int:
        if self._journal is None:
            return sys.maxsize
        return self._journal.synced_position if self._is_kept_by_sync else self._journal.written_position

    @property
    def is_unsynced(self) -> bool:
        """Whether something was written that a crash of the machine may still cost."""
        return self._journal is not None and self._journal.synced_position < self._journal.written_position

    def take_batch(self, *, sync: bool = True) -> Batch | None:
        """Take what has gathered out of the journal, to be written.

        None says that there is nothing to write, and that all that was done until now is kept, unless it has yet to be
        synced. That holds only until something gathers again: what is dropped does not move the journal's position.

        Args:
            sync: whether to sync all that was written, too.

        Raises:
            JournalFailed: the journal failed before.
        """
        if self._journal is None:
            return None
        self.note_handed_out()
        self.is_dirty = False
        batch = self._journal.take_batch(sync=sync)
        has_nothing_left = batch is None and not (self._is_kept_by_sync and self.is_unsynced)
        self._nothing_left_at = self._journal.position if has_nothing_left else NOT_KEPT
        return batch

    # --- virtual hosts, users, exchanges, queues, bindings

    def _keep(self, kind: RecordKind, table: Table) -> int:
        if self._journal is None:
            return NOT_KEPT
        reference = self._journal.put(kind, encode_table(table))
        self._changed()
        return reference

    def _drop(self, reference: int) -> None:
        if reference and self._journal is not None:
            self._journal.drop(reference)
            self.is_dirty = True

    def _changed(self) -> None:
        if self._journal is not None:
            self.last_change = self._journal.position
            self.is_dirty = True

    def keep_virtual_host(self, virtual_host: VirtualHost) -> None:
        """A virtual host was created."""
        virtual_host.reference = self._keep(RecordKind.VIRTUAL_HOST, {"name": virtual_host.name})

    def keep_user(self, user: User) -> None:
        """A user was created or changed."""
        permissions: Table = {
            name: [permission.configure.source, permission.write.source, permission.read.source]
            for name, permission in user.permissions.items()
        }
        topic_permissions: Table = {
            name: {exchange: [permission.write, permission.read] for exchange, permission in by_exchange.items()}
            for name, by_exchange in user.topic_permissions.items()
        }
        before = user.reference
        user.reference = self._keep(
            RecordKind.USER,
            {
                "name": user.name,
                "password_hash": user.password_hash.value,
                "hashing_algorithm": user.password_hash.algorithm,
                "tags": list(user.tags),
                "permissions": permissions,
                "topic_permissions": topic_permissions,
                "connections_max": user.limits.connections_max,
                "channels_max": user.limits.channels_max,
            },
        )
        self._drop(before)

    def keep_limits(self, virtual_host: VirtualHost) -> None:
        """The limits of a virtual host were changed."""
        before, limits = virtual_host.limits_reference, virtual_host.limits
        virtual_host.limits_reference = self._keep(
            RecordKind.LIMITS,
            {
                "virtual_host": virtual_host.name,
                "connections_max": limits.connections_max,
                "queues_max": limits.queues_max,
            },
        )
        self._drop(before)

    def forget_virtual_host(self, virtual_host: VirtualHost) -> None:
        """A virtual host is gone; what was in it was forgotten before."""
        self._drop(virtual_host.limits_reference)
        virtual_host.limits_reference = NOT_KEPT
        self.forget(virtual_host)

    def keep_exchange(self, virtual_host: VirtualHost, exchange: Exchange) -> None:
        """An exchange was declared."""
        if exchange.durable:
            exchange.reference = self._keep(
                RecordKind.EXCHANGE,
                {
                    "virtual_host": virtual_host.name,
                    "name": exchange.name,
                    "type": exchange.type_name,
                    "auto_delete": exchange.auto_delete,
                    "internal": exchange.internal,
                    "arguments": exchange.table,
                },
            )

    def keep_queue(self, queue: Queue) -> None:
        """A queue was declared."""
        if queue.durable:
            queue.reference = self._keep(
                RecordKind.QUEUE,
                {
                    "virtual_host": queue.virtual_host.name,
                    "name": queue.name,
                    "auto_delete": queue.auto_delete,
                    "arguments": queue.table,
                },
            )

    def keep_binding(self, virtual_host: VirtualHost, binding: Binding) -> None:
        """A binding was made."""
        if binding.is_durable:
            binding.reference = self._keep(
                RecordKind.BINDING,
                {
                    "virtual_host": virtual_host.name,
                    "source": binding.source.name,
                    "to_queue": binding.is_to_queue,
                    "destination": binding.destination.name,
                    "routing_key": binding.routing_key,
                    "arguments": binding.arguments,
                },
            )

    def forget(self, gone: Exchange | Binding | VirtualHost | User) -> None:
        """Something that may have had a record is gone."""
        if gone.reference:
            self._drop(gone.reference)
            gone.reference = NOT_KEPT
            self._changed()

    def forget_queue(self, queue: Queue) -> None:
        """A queue is gone; its messages mean nothing without it, and are forgotten in their own time."""
        if queue.reference:
            self._drop(queue.handed_out_reference)
            self._drop(queue.reference)
            queue.reference = queue.handed_out_reference = NOT_KEPT
            self._changed()

    # --- messages

    def keep_message(self, queues: Sequence[Queue], messages: Sequence[Message], expiration_ms: int | None) -> None:
        """A persistent message goes to durable queues: write it once, and give each copy its claim.

        Args:
            queues: durable ones, at least one.
            messages: the copy of each.
            expiration_ms: the message's own; a queue's limit is the queue's.
        """
        if self._journal is None:
            return
        now_wall_ms = self._clock.wall_ms()
        expires_wall_ms = 0 if expiration_ms is None else now_wall_ms + expiration_ms
        payload = _message_parts(queues, messages[0], now_wall_ms, expires_wall_ms)
        reference = self._journal.put(_MESSAGE, payload, len(queues))
        self.is_dirty = True
        for message in messages:
            message.reference = reference
            reference += 1

    def keep_for_one(self, queue: Queue, message: Message, expiration_ms: int | None) -> None:
        """The same for the usual case, one queue."""
        journal = self._journal
        if journal is None:
            return
        now_wall_ms = self._clock.wall_ms()
        expires_wall_ms = 0 if expiration_ms is None else now_wall_ms + expiration_ms
        message.reference = journal.put(_MESSAGE, _message_parts((queue,), message, now_wall_ms, expires_wall_ms))
        self.is_dirty = True

    def page_out(self, queue: Queue, message: Message) -> None:
        """Give a message that is not kept a record to be read again from; it is forgotten at the next start."""
        if self._journal is not None and not message.reference:
            now_wall_ms, now_ms = self._clock.wall_ms(), self._clock.monotonic_ms()
            expires_wall_ms = 0 if message.expires_at_ms is None else now_wall_ms + message.expires_at_ms - now_ms
            payload = _message_parts([queue], message, now_wall_ms, expires_wall_ms)
            message.reference = self._journal.put(RecordKind.PAGED, payload)
            if message.delivery_count:
                self.note_returned(message)
            self.is_dirty = True

    def deadline_ms(self, queue: Queue, kept: KeptMessage) -> int | None:
        """When a message that was read back expires in a queue, on the monotonic clock."""
        ttl_ms = queue.arguments.message_ttl_ms
        if ttl_ms is None and not kept.expires_wall_ms:
            return None
        deadlines_ms = [kept.expires_wall_ms] if kept.expires_wall_ms else []
        if ttl_ms is not None:
            deadlines_ms.append(kept.published_wall_ms + ttl_ms)
        return self._clock.monotonic_ms() + min(deadlines_ms) - self._clock.wall_ms()

    def forget_references(self, references: Iterable[int]) -> None:
        """Messages that are on disk only are not wanted any more."""
        if self._journal is not None and (dropped := array("Q", references)):
            if self._returns:
                self._drop_returns(dropped)
            self._journal.drop_many(dropped)
            self._changed()

    def _drop_returns(self, references: Iterable[int]) -> None:
        for reference in self._returns.keys() & references:
            self._drop(self._returns.pop(reference).reference)

    def forget_message(self, message: Message) -> None:
        """A message has left its queue for good."""
        reference = message.reference
        if not reference or self._journal is None:
            return
        message.reference = NOT_KEPT
        self._journal.drop(reference)
        self.is_dirty = True
        if self._returns and reference in self._returns:
            self._drop(self._returns.pop(reference).reference)

    def forget_messages(self, messages: Iterable[Message]) -> None:
        """Many messages have left their queue for good; those that are not kept are none of our business."""
        if self._journal is None:
            return
        self.forget_references(message.reference for message in messages if message.reference)

    def handed_out(self, queue: Queue) -> None:
        """A queue has handed out a message beyond its mark."""
        self._handed_out.append(queue)
        self.is_dirty = True

    @property
    def pending_bytes(self) -> int:
        """What waits for the disk."""
        return self._journal.pending_bytes if self._journal is not None else 0

    def note_handed_out(self) -> None:
        """Write the marks that have moved; to be called before a batch is taken."""
        queues, self._handed_out = self._handed_out, []
        for queue in queues:
            queue.has_moved_mark = False
            if queue.reference and self._journal is not None:
                payload = encode_table({"queue": queue.reference, "marks": list(queue.handed_out_through)})
                before = queue.handed_out_reference or None
                queue.handed_out_reference = self._journal.replace(before, RecordKind.HANDED_OUT, payload)

    def note_returned(self, message: Message) -> None:
        """A kept message has come back to its quorum queue once more."""
        if message.reference and self._journal is not None:
            payload = _RETURNED.pack(message.reference, message.delivery_count)
            before = self._returns.get(message.reference)
            reference = self._journal.replace(before.reference if before else None, RecordKind.RETURNED, payload)
            self._returns[message.reference] = Returned(reference, message.delivery_count)
            self.is_dirty = True

    def adopt_returned(self, message_reference: int, returned: Returned) -> Returned | None:
        """A RETURNED record was read back; returns an older one of the same message, which no healthy journal has."""
        before = self._returns.get(message_reference)
        self._returns[message_reference] = returned
        return before

    def return_count(self, message_reference: int) -> int:
        """How often a kept message has come back."""
        returned = self._returns.get(message_reference)
        return returned.times if returned is not None else 0


def _message_parts(
    queues: Sequence[Queue], message: Message, now_wall_ms: int, expires_wall_ms: int
) -> tuple[bytes, ...]:
    """A message's record; its parts are joined if it is still wanted when it is written."""
    address, header, body = message.address, message.header, message.body
    if len(queues) == 1:
        start = _ONE_QUEUE_AND_TIMES.pack(1, queues[0].reference, now_wall_ms, expires_wall_ms)
    else:
        references = b"".join([_REFERENCE.pack(queue.reference) for queue in queues])
        start = _COUNT.pack(len(queues)) + references + _TIMES.pack(now_wall_ms, expires_wall_ms)
    keys = address.extra_routing_keys
    if keys:
        middle = _COUNT.pack(len(keys)) + b"".join(map(encode_shortstr, keys)) + _LENGTH.pack(len(header))
    else:
        middle = _NO_KEYS_AND_LENGTH.pack(0, len(header))
    return start, address.encoded, middle, header, body


class MessageDecoder:
    """Reads MESSAGE and PAGED records. What one has in common with the one before it is not decoded again.

    Most messages of a backlog are alike in all but their bodies, and there may be millions.
    """

    def __init__(self) -> None:
        self._queues_bytes: bytes | None = None
        self._address_bytes = self._header_bytes = b""  # the latter with its length before it
        self._queues: tuple[int, ...] = ()
        self._address: Address
        self._header = b""
        self._digest: Digest

    def decode(self, payload: bytes) -> KeptMessage:
        """Read a record's payload."""
        is_other = self._queues_bytes is None or not payload.startswith(self._queues_bytes)
        times_offset = self._read_queues(payload) if is_other else len(self._queues_bytes or b"")
        offset = times_offset + _TIMES.size
        if is_other or not payload.startswith(self._address_bytes, offset):
            self._read_address(payload, offset)
        offset += len(self._address_bytes)
        if is_other or not payload.startswith(self._header_bytes, offset):
            self._read_header(payload, offset)
        published_wall_ms, expires_wall_ms = _TIMES.unpack_from(payload, times_offset)
        body = payload[offset + len(self._header_bytes) :]
        return KeptMessage(
            self._queues, published_wall_ms, expires_wall_ms, self._address, self._header, body, self._digest
        )

    def _read_queues(self, payload: bytes) -> int:
        (count,) = _COUNT.unpack_from(payload, 0)
        self._queues = struct.unpack_from(f">{count}Q", payload, _COUNT.size)
        end = _COUNT.size + int(count) * _REFERENCE.size
        self._queues_bytes = payload[:end]
        return end

    def _read_address(self, payload: bytes, start: int) -> None:
        exchange, offset = decode_shortstr(payload, start)
        routing_key, offset = decode_shortstr(payload, offset)
        encoded = payload[start:offset]
        (count,) = _COUNT.unpack_from(payload, offset)
        offset += _COUNT.size
        keys = []
        for _ in range(count):
            key, offset = decode_shortstr(payload, offset)
            keys.append(key)
        self._address = Address(exchange, routing_key, encoded, tuple(keys))
        self._address_bytes = payload[start:offset]

    def _read_header(self, payload: bytes, start: int) -> None:
        (header_bytes,) = _LENGTH.unpack_from(payload, start)
        end = start + _LENGTH.size + header_bytes
        self._header = payload[start + _LENGTH.size : end]
        self._header_bytes = payload[start:end]
        self._digest = digest_of(self._header)


def queues_end(kept: KeptMessage) -> int:
    """Where in a record's payload the queues end and the times begin."""
    return _COUNT.size + len(kept.queues) * _REFERENCE.size


def middle_offset_of(kept: KeptMessage) -> int:
    """Where in a record's payload the time of publishing ends: what follows is the same for messages that are alike."""
    return queues_end(kept) + _TIMES.size // 2


def does_expire(payload: bytes, middle_offset: int) -> bool:
    """Whether the message of a record has a time of its own to die."""
    return not payload.startswith(_NEVER, middle_offset)


def body_offset_of(payload: bytes, middle_offset: int) -> int:
    """Where in a record's payload the body begins; nothing else is decoded."""
    offset = middle_offset + len(_NEVER)
    offset += payload[offset] + 1  # the exchange
    offset += payload[offset] + 1  # the routing key
    (count,) = _COUNT.unpack_from(payload, offset)
    offset += _COUNT.size
    for _ in range(count):
        offset += payload[offset] + 1
    (header_bytes,) = _LENGTH.unpack_from(payload, offset)
    return offset + _LENGTH.size + int(header_bytes)


def decode_message(payload: bytes) -> KeptMessage:
    """Read one MESSAGE or PAGED record."""
    return MessageDecoder().decode(payload)


def decode_returned(payload: bytes) -> tuple[int, int]:
    """Read a RETURNED record: the message's reference, and how often it has come back."""
    reference, count = _RETURNED.unpack(payload)
    return reference, count
