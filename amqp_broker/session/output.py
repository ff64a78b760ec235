"""Output to one client: a queue of bytes, which holds consumers back and may wait for the journal.

- Above the high-water mark the connection is congested: its consumers get nothing more until half of the mark is left.
  Far above it the client is not heard any more, because it asks for more and more and reads none of it.
- The client is not to read that something durable was done before it is: from ``hold_until`` on, all that is said waits
  until the journal has kept a position.

Knows no protocol: what is sent are bytes, whole frames of whatever kind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from amqp_broker.journal.stretches import Sendable

# Above the high-water mark consumers get nothing more; above so many times the mark the client is not heard any more.
BYTES_MAX_FACTOR = 16


class Hold(NamedTuple):
    """From this index of the output on, it waits until the journal has kept all up to this position."""

    start: int
    position: int


class Output:
    """The output of one connection.

    Args:
        high_water_bytes: the mark.
        is_kept: whether the journal has kept all up to a position (``Durability.is_kept``).
        awaiting_commit: who is called when the journal has kept more (``Broker.awaiting_commit``).
        on_output: called when there is something to take.
        on_congestion: called when ``is_congested`` has changed.
        on_unheld: called when nothing is held back any more.
    """

    def __init__(
        self,
        high_water_bytes: int,
        is_kept: Callable[[int], bool],
        awaiting_commit: dict[Callable[[], None], None],
        *,
        on_output: Callable[[], None],
        on_congestion: Callable[[], None],
        on_unheld: Callable[[], None],
    ) -> None:
        self.is_congested = False  # more waits than the high-water mark allows
        self.waiting_bytes = 0  # what is to be sent and has not left
        self.sent_bytes = 0
        self.waiting_bytes_max = BYTES_MAX_FACTOR * high_water_bytes  # with more the client is not heard any more
        self._high_water_bytes = high_water_bytes
        self._is_kept = is_kept
        self._awaiting_commit = awaiting_commit
        self._on_output = on_output
        self._on_congestion = on_congestion
        self._on_unheld = on_unheld
        self._parts: list[Sendable] = []
        self._holds: deque[Hold] = deque()
        self._go_on: Callable[[], None] | None = None

    def send(self, data: Sendable) -> None:
        """Queue bytes for the client."""
        if not self._parts:
            self._on_output()
        self._parts.append(data)
        self.waiting_bytes += len(data)
        if self.waiting_bytes > self._high_water_bytes and not self.is_congested:
            self.is_congested = True
            self._on_congestion()

    def take(self) -> list[Sendable]:
        """All that may be sent now, in order."""
        if self._holds:
            return self._take_unheld()
        parts, self._parts = self._parts, []
        return parts

    def sent(self, sent_bytes: int) -> None:
        """So many bytes have left."""
        self.sent_bytes += sent_bytes
        self.waiting_bytes -= sent_bytes
        assert self.waiting_bytes >= 0, "more bytes were sent than waited"
        if self.is_congested and self.waiting_bytes <= self._high_water_bytes // 2:
            self.is_congested = False
            self._on_congestion()

    def discard(self) -> None:
        """Nobody will take it; the garbage collector may take its time."""
        self._holds.clear()
        self._parts.clear()
        self._go_on = None
        self._awaiting_commit.pop(self._journal_committed, None)

    def detach(self) -> None:
        """Nobody will say anything more: let go of those who listen, which hold on to it."""
        self._on_output = self._on_congestion = self._on_unheld = _nobody_listens

    # --- a client that does not read

    def wait_for_room(self, go_on: Callable[[], None]) -> None:
        """Call when the client has read enough to be heard again: at the next ``tell_room``."""
        self._go_on = go_on

    def tell_room(self) -> None:
        """It has: whoever waited for it goes on."""
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            go_on()

    # --- output that waits for the journal

    @property
    def is_held(self) -> bool:
        """Whether something waits for the journal."""
        return len(self._holds) > 0

    def hold_until(self, position: int) -> None:
        """Send what comes from now on only when the journal has kept all up to a position."""
        if not self._is_kept(position):
            if self._holds:  # what is said behind others waits for as much as they do
                position = max(position, self._holds[-1].position)
            self._holds.append(Hold(len(self._parts), position))
            self._awaiting_commit[self._journal_committed] = None

    def _take_unheld(self) -> list[Sendable]:
        is_kept = self._is_kept
        while self._holds and is_kept(self._holds[0].position):
            self._holds.popleft()
        if not self._holds:
            return self.take()
        held_from = self._holds[0].start
        parts, self._parts = self._parts[:held_from], self._parts[held_from:]
        self._holds = deque(Hold(hold.start - held_from, hold.position) for hold in self._holds)
        return parts

    def _journal_committed(self) -> None:
        if not self._holds or self._is_kept(self._holds[-1].position):
            self._awaiting_commit.pop(self._journal_committed, None)
            self._holds.clear()
            self._on_unheld()
        self._on_output()


def _nobody_listens() -> None:
    pass
