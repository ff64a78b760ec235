"""Numbers that a stream remembers for its clients: the last publishing id of each publisher, and how far consumers are.

Both change with every publish, or whenever a consumer likes, so a record is written for what has changed once a batch
of the journal, with the entries that came with it: after a crash, a stream has an entry if and only if it has its
publishing id. (RabbitMQ docs, "Streams and Super Streams", "Deduplication", "Offset Tracking".)
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.persistence.durability import Durability
from amqp_broker.broker.persistence.kinds import NOT_KEPT, RecordKind
from amqp_broker.broker.queues.stored import StoredQueue
from amqp_broker.wire.table import Table

VALUE_BYTES: Final = 8
NAMES_MAX: Final = 10_000  # of publishers, and of consumers; the one that was not heard of for longest goes


class Tracked:
    """A number that somebody has, and its record."""

    __slots__ = ("reference", "value")

    def __init__(self, value: int) -> None:
        self.value = value
        self.reference = NOT_KEPT


class Tracks:
    """The numbers of one kind, by name, the one that changed last at the end.

    Args:
        stream: whose.
        durability: has them written.
        kind: of their records.
    """

    __slots__ = ("_changed", "_durability", "_kind", "_stream", "_tracked")

    def __init__(self, stream: StoredQueue, durability: Durability, kind: RecordKind) -> None:
        self._stream = stream
        self._durability = durability
        self._kind = kind
        self._tracked: dict[str, Tracked] = {}
        self._changed: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._tracked)

    def get(self, name: str) -> int | None:
        """The number of that name."""
        tracked = self._tracked.get(name)
        return tracked.value if tracked is not None else None

    def values(self) -> dict[str, int]:
        """All of them."""
        return {name: tracked.value for name, tracked in self._tracked.items()}

    def put(self, name: str, value: int) -> None:
        """Remember another number; it is written with the next batch."""
        tracked = self._tracked.pop(name, None)
        if tracked is None:
            tracked = Tracked(value)
            if len(self._tracked) >= NAMES_MAX:
                self.drop(next(iter(self._tracked)))
        tracked.value = value
        self._tracked[name] = tracked
        if self._durability.has_journal:
            if not self._changed:
                self._durability.note_before_batch(self._write)
            self._changed[name] = None

    def drop(self, name: str) -> None:
        """Forget a number."""
        tracked = self._tracked.pop(name, None)
        self._changed.pop(name, None)
        if tracked is not None:
            self._durability.drop(tracked.reference)

    def restore(self, name: str, value: int, reference: int) -> int:
        """Put a number back; returns the reference of an older record of the same name, 0 where there is none."""
        before = self._tracked.pop(name, None)
        tracked = self._tracked[name] = Tracked(value)
        tracked.reference = reference
        return before.reference if before is not None else NOT_KEPT

    def clear(self) -> None:
        """The stream is gone."""
        for tracked in self._tracked.values():
            self._durability.drop(tracked.reference)
        self._tracked.clear()
        self._changed.clear()

    def _write(self) -> None:
        changed, self._changed = self._changed, {}
        if not self._stream.reference:  # it is gone
            return
        for name in changed:
            tracked = self._tracked[name]
            value = tracked.value.to_bytes(VALUE_BYTES, "big")  # as the protocol has it: beyond a table's integers
            fields: Table = {"queue": self._stream.reference, "name": name, "value": value}
            tracked.reference = self._durability.replace(tracked.reference, self._kind, fields)
