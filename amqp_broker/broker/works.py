"""Work that takes too long for one go: done in slices, so that nobody else waits for more than one of them.

Whoever has something to do for each of very many messages (a purge, a large acknowledgement, what a lost connection
leaves) writes it as a generator that yields after each slice. The first slice is done at once, so what is not large is
done as if there were no slices; the rest goes on between the chunks of clients (``Broker.go_on``, called by the server
floor). What others can see should change at once or in the end, not slice by slice, wherever that can be had.

A client that asked for something large is not heard again before it is done: ``Unfinished`` suspends it, so that its
answers come in order and mean what they say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

SLICE_MESSAGES = 1_000  # for each of which some microsecond's work is to be done


class Work:
    """A piece of work that was begun, done in slices; arguments as of ``Works.begin``."""

    __slots__ = ("_slices", "_waiting", "holds_others_up", "is_done")

    def __init__(self, slices: Iterator[None], *, holds_others_up: bool = False) -> None:
        self._slices = slices
        self._waiting: list[Callable[[], None]] = []
        self.holds_others_up = holds_others_up
        self.is_done = False

    def when_done(self, go_on: Callable[[], None]) -> None:
        """Call somebody when the last slice is done, or now; in the order in which they asked."""
        if self.is_done:
            go_on()
        else:
            self._waiting.append(go_on)

    def run_slice(self) -> None:
        """Do one slice. A defect in it ends the work; whoever waits goes on all the same."""
        try:
            next(self._slices)
        except StopIteration:
            self._end()
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self.is_done = True
        waiting, self._waiting = self._waiting, []
        for go_on in waiting:
            go_on()


class Unfinished(Exception):
    """Work for a client that takes a while: it is to be heard again when that is done.

    Args:
        work: what that is.
        is_again: whether what it has sent is to be handled again then, and not what is behind that.
    """

    def __init__(self, work: Work, *, is_again: bool = False) -> None:
        super().__init__(work)
        self.work = work
        self.is_again = is_again


class Works:
    """All that one broker has begun and not finished. They take turns.

    Args:
        slice_messages: how many messages are handled in a slice.
    """

    def __init__(self, slice_messages: int = SLICE_MESSAGES) -> None:
        self.slice_messages = slice_messages
        self.unfinished: deque[Work] = deque()

    def begin(self, slices: Iterator[None], *, holds_others_up: bool = False) -> Work:
        """Do the first slice; what is left goes on later.

        Args:
            holds_others_up: whether clients that have nothing to do with it wait until it is done: every second turn is
                its own then, however many works there are.
        """
        work = Work(slices, holds_others_up=holds_others_up)
        work.run_slice()
        self._line_up(work)
        return work

    def run_slice(self) -> None:
        """Do one slice of the work whose turn it is."""
        if self.unfinished:
            work = self.unfinished.popleft()
            work.run_slice()
            self._line_up(work)

    def _line_up(self, work: Work) -> None:
        if work.is_done:
            return
        if work.holds_others_up:
            self.unfinished.insert(1, work)
        else:
            self.unfinished.append(work)
