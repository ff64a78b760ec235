"""Drops, messages that went nowhere: how many, for which reason, from which exchange, with which key.

Always on. It costs a call for a message that is lost, and nothing for one that is not. However many keys there are,
the memory is bounded: when there are twice as many rows as are kept, those with the fewest messages become sums, one
for each virtual host and reason. What is counted for each reason is exact, ever since the broker began.

A message that its publisher was told of (returned, refused with an error or a negative confirm) is counted only where
a publisher without confirms would not know: when a full queue refuses it. Holds no way of a single message; that is
``message_traces.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias, TypedDict

if TYPE_CHECKING:
    from amqp_broker.broker.message import Address, Message
    from amqp_broker.broker.ports import Clock

ROWS_KEPT: Final = 1000  # a few hundred bytes each


class DropReason(StrEnum):
    """The reason why a message went nowhere."""

    UNROUTABLE = "unroutable"  # no binding led anywhere, and there was no alternate exchange
    EXPIRED = "expired"  # in a queue without a dead-letter exchange, as for the next three
    MAXLEN = "maxlen"
    REJECTED = "rejected"
    DELIVERY_LIMIT = "delivery_limit"
    REFUSED = "refused"  # the queue was full, and refuses publishes then
    DUPLICATE = "duplicate"  # the queue takes a value of a header once at a time (``queues/deduplicating.py``)
    DEAD_LETTER_UNROUTABLE = "dead_letter_unroutable"  # the dead-letter exchange led nowhere
    CYCLE = "cycle"  # a dead letter that came back to a queue where it had died
    PURGED = "purged"
    QUEUE_DELETED = "queue_deleted"  # with what it held


class DropInfo(TypedDict):
    """A row. Where many were put together, exchange, key, user and queue are None."""

    vhost: str
    reason: str
    exchange: str | None
    routing_key: str | None
    user: str | None  # who published it, where that is known
    queue: str | None  # where it was, where it had reached one
    policy: str | None  # that set the limit, where the queue was not declared with it
    count: int
    last_at: int | None  # the last one, in milliseconds since 1970


RowKey: TypeAlias = "tuple[str, str, str | None, str | None, str | None, str | None]"


class _Row:
    __slots__ = ("count", "last_ms", "policy")

    def __init__(self) -> None:
        self.count = 0
        self.last_ms = 0
        self.policy: str | None = None


class Drops:
    """The counts of one broker.

    Args:
        clock: tells when.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[RowKey, _Row] = {}
        self._put_together: dict[tuple[str, str], int] = {}
        self._totals: dict[str, int] = {str(reason): 0 for reason in DropReason}

    # --- counting

    def unroutable(self, virtual_host: str, address: Address, user: str | None) -> None:
        """A client's publish led nowhere, and the client did not want it back.

        Args:
            user: who published it; None where that is not known any more, because it was held back.
        """
        key = (virtual_host, "unroutable", address.exchange, address.routing_key, user, None)
        self._add(key, 1, self._clock.wall_ms())

    def died(
        self, virtual_host: str, queue: str, messages: Sequence[Message], reason: str, policy: str | None = None
    ) -> None:
        """Messages died in a queue, and go nowhere from there.

        Args:
            policy: that set the limit at which they did.
        """
        now_ms = self._clock.wall_ms()
        for message in messages:
            address = message.address
            row = self._add((virtual_host, reason, address.exchange, address.routing_key, None, queue), 1, now_ms)
            row.policy = policy

    def dead_letter_lost(self, virtual_host: str, queue: str, address: Address, *, is_cycle: bool) -> None:
        """What died in a queue led nowhere from its dead-letter exchange."""
        reason = "cycle" if is_cycle else "dead_letter_unroutable"
        key = (virtual_host, reason, address.exchange, address.routing_key, None, queue)
        self._add(key, 1, self._clock.wall_ms())

    def emptied(self, virtual_host: str, queue: str, count: int, reason: DropReason) -> None:
        """All that waited in a queue is gone, whatever it was."""
        if count:
            self._add((virtual_host, str(reason), None, None, None, queue), count, self._clock.wall_ms())

    def _add(self, key: RowKey, count: int, now_ms: int) -> _Row:
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= 2 * ROWS_KEPT:
                self._put_small_ones_together()
            row = self._rows[key] = _Row()
        row.count += count
        row.last_ms = now_ms
        self._totals[key[1]] += count
        return row

    def _put_small_ones_together(self) -> None:
        rows = self._largest_first()
        for key, row in rows[ROWS_KEPT:]:
            host_and_reason = (key[0], key[1])
            self._put_together[host_and_reason] = self._put_together.get(host_and_reason, 0) + row.count
        self._rows = dict(rows[:ROWS_KEPT])

    def _largest_first(self) -> list[tuple[RowKey, _Row]]:
        return sorted(self._rows.items(), key=lambda item: (-item[1].count, -item[1].last_ms))

    def forget_virtual_host(self, name: str) -> None:
        """A virtual host has gone; the sums over all stay."""
        self._rows = {key: row for key, row in self._rows.items() if key[0] != name}
        self._put_together = {key: count for key, count in self._put_together.items() if key[0] != name}

    # --- told

    def totals(self) -> dict[str, int]:
        """How many messages went nowhere since the broker began, by the reason."""
        return dict(self._totals)

    def rows(self, virtual_host: str | None = None) -> Iterator[DropInfo]:
        """All rows, those with the most messages first, and then what was put together.

        Args:
            virtual_host: of this one only.
        """
        for key, row in self._largest_first():
            if virtual_host is None or key[0] == virtual_host:
                yield _described(key, row.count, row.last_ms, row.policy)
        for (host, reason), count in list(self._put_together.items()):
            if virtual_host is None or host == virtual_host:
                yield _described((host, reason, None, None, None, None), count, None, None)


def _described(key: RowKey, count: int, last_ms: int | None, policy: str | None) -> DropInfo:
    virtual_host, reason, exchange, routing_key, user, queue = key
    return {
        "vhost": virtual_host,
        "reason": reason,
        "exchange": exchange,
        "routing_key": routing_key,
        "user": user,
        "queue": queue,
        "policy": policy,
        "count": count,
        "last_at": last_ms,
    }
