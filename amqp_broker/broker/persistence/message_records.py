"""The bytes of the records of messages, of how often one has come back to its quorum queue, and of what the types of
exchanges keep.

There may be millions of them, so they have a form of their own, in place of the tables of the definitions
(``definitions.py``). Does not know the journal, nor when anything is written.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from amqp_broker.broker.message import Address, Digest, Message, carried_key, digest_of
from amqp_broker.broker.queues.stored import StoredQueue
from amqp_broker.wire.strings import decode_shortstr, encode_shortstr

_COUNT: Final = struct.Struct(">H")
_REFERENCE: Final = struct.Struct(">Q")
_TIMES: Final = struct.Struct(">QQ")  # published, expires: milliseconds since 1970, 0 for never
_NEVER: Final = bytes(8)  # the second of the times
_LENGTH: Final = struct.Struct(">I")
_ONE_QUEUE_AND_TIMES: Final = struct.Struct(">HQQQ")  # the usual beginning of a message's record, in one go
ONE_QUEUE_AND_TIMES_BYTES: Final = _ONE_QUEUE_AND_TIMES.size
_DEAD_LETTER: Final = 0x8000  # added to the number of extra routing keys
KEYS_MAX: Final = 0x7FFF  # of these; a header may have more, where it is larger than a frame of AMQP 0-9-1
QUEUES_MAX: Final = 0xFFFF
_NO_KEYS_AND_LENGTH: Final = struct.Struct(">HI")  # the usual middle: no extra routing keys, and the header's length
_RETURNED: Final = struct.Struct(">QI")
_HOLDER_AND_TIMES: Final = struct.Struct(">2xQQQ")  # all that a start needs of a message that is held back


class KeptMessage(NamedTuple):
    """A message as its record holds it."""

    queues: tuple[int, ...]  # the references of the queues' records, in the order of the claims
    published_wall_ms: int
    expires_wall_ms: int
    address: Address
    header: bytes
    body: bytes
    digest: Digest  # of the header


def message_parts(
    queues: Sequence[StoredQueue], message: Message, now_wall_ms: int, expires_wall_ms: int
) -> tuple[bytes, ...]:
    """A message's record; its parts are joined if it is still wanted when it is written.

    Args:
        queues: durable ones, whose records it names, at most ``QUEUES_MAX``.
        message: what to write.
        now_wall_ms: when it was published, in milliseconds since 1970.
        expires_wall_ms: when its own time ends, likewise; 0 for never.
    """
    address, header, body = message.address, message.header, message.body
    if len(queues) == 1:
        start = _ONE_QUEUE_AND_TIMES.pack(1, queues[0].reference, now_wall_ms, expires_wall_ms)
    else:
        references = b"".join([_REFERENCE.pack(queue.reference) for queue in queues])
        start = _COUNT.pack(len(queues)) + references + _TIMES.pack(now_wall_ms, expires_wall_ms)
    keys = address.extra_routing_keys[:KEYS_MAX]
    if keys or address.is_dead_letter:
        count = len(keys) | (_DEAD_LETTER if address.is_dead_letter else 0)
        middle = _COUNT.pack(count) + b"".join([encode_shortstr(carried_key(key)) for key in keys])
        middle += _LENGTH.pack(len(header))
    else:
        middle = _NO_KEYS_AND_LENGTH.pack(0, len(header))
    return start, address.encoded, middle, header, body


def part_before_body(address: Address, header: bytes) -> bytes:
    """What stands between the times and the body in the record of a message that is no dead letter, nor was copied."""
    return b"%b%b%b" % (address.encoded, _NO_KEYS_AND_LENGTH.pack(0, len(header)), header)


class MessageDecoder:
    """Reads MESSAGE, PAGED and DELAYED records. What one has in common with the one before it is not decoded again.

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
        for _ in range(count & ~_DEAD_LETTER):
            key, offset = decode_shortstr(payload, offset)
            keys.append(key)
        self._address = Address(exchange, routing_key, encoded, tuple(keys), bool(count & _DEAD_LETTER))
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


def published_wall_ms_of(payload: bytes, queues_end: int) -> int:
    """When the message of a record was published, in milliseconds since 1970."""
    return int(_REFERENCE.unpack_from(payload, queues_end)[0])


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
    for _ in range(count & ~_DEAD_LETTER):
        offset += payload[offset] + 1
    (header_bytes,) = _LENGTH.unpack_from(payload, offset)
    return offset + _LENGTH.size + int(header_bytes)


def decode_message(payload: bytes) -> KeptMessage:
    """Read one MESSAGE, PAGED or DELAYED record."""
    return MessageDecoder().decode(payload)


def decode_held(payload: bytes) -> tuple[int, int, int]:
    """Read the start of a DELAYED record.

    Returns:
        Its holder's reference, and, in milliseconds since 1970, when it is due and when it began to be held, which is
        0 where an earlier release has written the record.
    """
    holder, due_wall_ms, held_wall_ms = _HOLDER_AND_TIMES.unpack_from(payload)
    return holder, due_wall_ms, held_wall_ms


def encode_returned(message_reference: int, times: int, header: bytes) -> bytes:
    """A RETURNED record: the message's reference, how often it has come back, its content header if that changed."""
    return _RETURNED.pack(message_reference, times) + header


def decode_returned(payload: bytes) -> tuple[int, int, bytes]:
    """Read a RETURNED record: reference, how often, and the content header that changed, empty where it has not."""
    reference, count = _RETURNED.unpack_from(payload)
    return reference, count, payload[_RETURNED.size :]


def encode_of_exchange(exchange_reference: int, value: bytes) -> bytes:
    """An EXCHANGE_STATE record: the exchange's reference, and what its type keeps."""
    return _REFERENCE.pack(exchange_reference) + value


def decode_of_exchange(payload: bytes) -> tuple[int, bytes]:
    """Read an EXCHANGE_STATE record: the exchange's reference, and what its type keeps."""
    (reference,) = _REFERENCE.unpack_from(payload)
    return int(reference), payload[_REFERENCE.size :]
