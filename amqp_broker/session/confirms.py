"""Confirms of a publisher: which of its publishes are as durable as they must be, in the order they came in.

Publishes are numbered by the protocol. What one chunk brings gets into one batch of the journal, so what was accepted
makes one run, whose position is the last of its messages'; what was refused is a run by itself. Runs are told in order:
at the end of the chunk, or when the journal has kept what they wait for. How a run is said is the protocol's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.publishing import REFUSED, TAKEN, Outcome

TellRun = Callable[[int, int, bool], None]  # takes the first number, the last, and whether they were accepted


class Run:
    """Publishes that nothing is told of yet: accepted ones of one chunk, or one that was refused."""

    __slots__ = ("accepted", "first", "last", "position")

    def __init__(self, number: int, outcome: Outcome) -> None:
        self.first = self.last = number
        self.accepted = outcome != REFUSED
        self.position = outcome if self.accepted else TAKEN  # of the journal: it must be kept up to there


class Confirms:
    """The confirms of one publisher.

    Args:
        broker: whose chunks they end with.
        is_kept: whether the journal has kept all up to a position (``Durability.is_kept``).
        tell: called with each run when it may be said, accepted ones that follow each other as one.
    """

    def __init__(self, broker: Broker, is_kept: Callable[[int], bool], tell: TellRun) -> None:
        self._broker = broker
        self._is_kept = is_kept
        self._tell = tell
        self._runs: deque[Run] = deque()
        self._will_finish = False

    @property
    def unconfirmed_count(self) -> int:
        """How many publishes wait."""
        return sum(run.last - run.first + 1 for run in self._runs)

    def add(self, number: int, outcome: Outcome) -> None:
        """Confirm a publish with the chunk that is being handled, or when the journal has kept what it must.

        Args:
            number: one more than the last.
            outcome: what came of it (``Ingress.put``).
        """
        if not self._will_finish:
            self._will_finish = True
            self._broker.to_finish.append(self.finish)
        elif outcome != REFUSED and self._runs[-1].accepted:
            run = self._runs[-1]
            run.last = number
            run.position = outcome or run.position  # it only grows
            return
        self._runs.append(Run(number, outcome))

    def finish(self) -> None:
        """Tell of all that is as durable as it must be."""
        self._will_finish = False
        is_kept = self._is_kept
        runs = self._runs
        first = last = 0
        while runs and is_kept(runs[0].position):
            run = runs.popleft()
            if run.accepted:
                first, last = first or run.first, run.last
                continue
            if first:
                self._tell(first, last, True)
                first = 0
            self._tell(run.first, run.last, False)
        if first:
            self._tell(first, last, True)
        if runs:
            self._broker.awaiting_commit[self.finish] = None
        else:
            self._broker.awaiting_commit.pop(self.finish, None)

    def release(self) -> None:
        """The publisher goes: nothing that has not been told will be. It is let go of, for it holds on to this."""
        self._runs.clear()
        self._tell = _nobody_listens
        self._broker.awaiting_commit.pop(self.finish, None)


def _nobody_listens(first: int, last: int, accepted: bool) -> None:
    pass
