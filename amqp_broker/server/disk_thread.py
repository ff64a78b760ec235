"""One thread that does one job after the other, and tells the event loop when each is done.

A thread that waits for its next job is woken in a fraction of the time that borrowing one from trio takes, and what is
to be done with the outcome is done as soon as the loop hears of it, without a task that would have to be woken first.
That is what a confirm waits for. Does not know what the jobs are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

import trio

Result = TypeVar("Result")


class Job(Generic[Result]):
    """Work for the thread, and afterwards what came of it."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._result: Result

    def run(self) -> None:
        """Do the work. Never raises."""
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> Result:
        """What the work returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result


class DiskThread:
    """The thread; made in the event loop that it reports to, and ended with ``end``."""

    def __init__(self) -> None:
        self._todo: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._done: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], Result], done: Callable[[Job[Result]], None]) -> None:
        """Have something done in the thread, after what came before.

        Args:
            work: what is to be done there.
            done: called in the event loop with the job when it is done; must not raise.
        """
        job = Job(work)

        def run() -> None:
            job.run()
            self._done.put(partial(done, job))
            self._token.run_sync_soon(self.tell)

        self._todo.put(run)

    def tell(self) -> None:
        """Tell now of all that is done; else that waits for the next round of the event loop."""
        while not self._done.empty():
            self._done.get()()

    async def end(self) -> None:
        """Let the thread end when it has done what it was given; all is done, and told, when this returns."""
        told = trio.Event()
        self._todo.put(partial(self._token.run_sync_soon, told.set))
        self._todo.put(None)
        with trio.CancelScope(shield=True):
            await told.wait()
        self._thread.join()

    def _run(self) -> None:
        while (run := self._todo.get()) is not None:
            run()
