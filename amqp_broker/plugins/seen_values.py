"""The values that a deduplicating exchange has seen: the last so many, each for its time, in memory and, where the
exchange asks for it, in the journal.

Theory of operation. A value is remembered by a digest of it, so one costs the same however long it is. One that is kept
on disk has a record of its own, which is written in the go that routes its message, so that a crash finds both or none;
the record is dropped when the value is forgotten. Deadlines are kept on the monotonic clock, and written on the wall
clock, beside the time of writing: if the clock has been set back since, a value is as old as if it had come now. What
has expired is forgotten as others come, two for each, so that nobody waits while very many go.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from typing import Final, NamedTuple

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.host import Host
from amqp_broker.broker.persistence.kinds import NOT_KEPT

DIGEST_BYTES: Final = 16
FORGOTTEN_AT_ONCE: Final = 2
_RECORD: Final = struct.Struct(f">Q{DIGEST_BYTES}s")  # expires, in milliseconds since 1970, 0 for never; the digest
_WRITTEN: Final = struct.Struct(">Q")  # behind that where it expires: likewise, when it was written


class Seen(NamedTuple):
    """The record of a value in memory."""

    deadline_ms: int | None  # on the monotonic clock; None for never
    reference: int  # of the record


class SeenValues:
    """The values that one exchange has seen.

    Args:
        virtual_host: where the exchange is.
        exchange: it.
        size_max: how many are remembered; then the oldest is forgotten. It may change.
        is_kept: whether they outlive the broker, as far as the exchange does. It may change (``keep``).
    """

    def __init__(self, virtual_host: Host, exchange: Exchange, size_max: int, *, is_kept: bool) -> None:
        self._host = virtual_host
        self._exchange = exchange
        self.size_max = size_max
        self._is_kept = is_kept
        self._seen: dict[bytes, Seen] = {}  # by digest, the oldest first

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, value: str) -> bool:
        seen = self._seen.get(_digest(value))
        return seen is not None and not self._has_expired(seen)

    def add(self, value: str, ttl_ms: int | None) -> bool:
        """Remember a value; returns False when it is remembered already, which changes nothing.

        Args:
            ttl_ms: for how long; None for as long as there is room.
        """
        digest = _digest(value)
        seen = self._seen.get(digest)
        if seen is not None:
            if not self._has_expired(seen):
                return False
            self._forget(digest)
        self._make_room()
        self._remember(digest, ttl_ms)
        return True

    def keep(self, is_kept: bool) -> None:
        """Let what is remembered outlive the broker from now on, or no more. What is there follows in slices."""
        if is_kept != self._is_kept:
            self._is_kept = is_kept
            self._host.works.begin(self._follow(is_kept))

    def _follow(self, is_kept: bool) -> Iterator[None]:
        digests = iter(list(self._seen))
        while self._is_kept == is_kept and (some := list(islice(digests, self._host.works.slice_messages))):
            for digest in some:
                seen = self._seen.get(digest)
                if seen is None or bool(seen.reference) == is_kept:
                    continue
                self._host.durability.drop(seen.reference)
                reference = self._write(digest, seen.deadline_ms) if is_kept else NOT_KEPT
                self._seen[digest] = Seen(seen.deadline_ms, reference)
            yield

    def restore(self, reference: int, record: bytes) -> int | None:
        """Remember what was read back, as ``Matcher.restore``; a policy by which it is kept may be read later."""
        expires_wall_ms, digest = _RECORD.unpack_from(record)
        seen = Seen(self._deadline_ms(expires_wall_ms, record) if expires_wall_ms else None, reference)
        if self._has_expired(seen):
            return None
        older = self._seen.pop(digest, None)
        self._seen[digest] = seen
        return older.reference if older is not None else NOT_KEPT

    def _deadline_ms(self, expires_wall_ms: int, record: bytes) -> int:
        clock = self._host.clock
        now_wall_ms = clock.wall_ms()
        if len(record) > _RECORD.size:  # an earlier release has not said when it wrote it
            (written_wall_ms,) = _WRITTEN.unpack_from(record, _RECORD.size)
            now_wall_ms = max(now_wall_ms, written_wall_ms)
        return clock.monotonic_ms() + expires_wall_ms - now_wall_ms

    def forget_all(self) -> None:
        """The exchange goes. The records mean nothing without its own, and are dropped in slices."""
        seen, self._seen = self._seen, {}
        self._host.works.begin(self._drop_all(seen))

    def _drop_all(self, seen: dict[bytes, Seen]) -> Iterator[None]:
        values = iter(seen.values())
        while some := list(islice(values, self._host.works.slice_messages)):
            self._host.durability.forget_references([one.reference for one in some if one.reference])
            yield

    def _has_expired(self, seen: Seen) -> bool:
        return seen.deadline_ms is not None and seen.deadline_ms <= self._host.clock.monotonic_ms()

    def _make_room(self) -> None:
        for _ in range(FORGOTTEN_AT_ONCE):
            oldest = next(iter(self._seen), None)
            if oldest is None or not (len(self._seen) >= self.size_max or self._has_expired(self._seen[oldest])):
                break
            self._forget(oldest)

    def _remember(self, digest: bytes, ttl_ms: int | None) -> None:
        deadline_ms = None if ttl_ms is None else self._host.clock.monotonic_ms() + ttl_ms
        self._seen[digest] = Seen(deadline_ms, self._write(digest, deadline_ms) if self._is_kept else NOT_KEPT)

    def _write(self, digest: bytes, deadline_ms: int | None) -> int:
        """Write the record of a value; returns its reference."""
        if deadline_ms is None:
            record = _RECORD.pack(0, digest)
        else:
            clock = self._host.clock
            now_wall_ms = clock.wall_ms()
            expires_wall_ms = max(1, now_wall_ms + deadline_ms - clock.monotonic_ms())
            record = _RECORD.pack(expires_wall_ms, digest) + _WRITTEN.pack(now_wall_ms)
        return self._host.durability.keep_for_exchange(self._exchange, record)

    def _forget(self, digest: bytes) -> None:
        self._host.durability.drop(self._seen.pop(digest).reference)


def _digest(value: str) -> bytes:
    return blake2b(value.encode(errors="surrogateescape"), digest_size=DIGEST_BYTES).digest()
