"""Waiting for what a broker does in its own time: a message's life ends, a queue goes, a raft command is applied."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0  # nothing takes that long where all is well; RabbitMQ 4.0.5 may answer nobody for 5 s (raw_client.py)
STEP_S = 0.005


def until(is_so: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Returns as soon as it is so; asks again every few milliseconds.

    Raises:
        AssertionError: it still is not when the patience has run out.
    """
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, f"it was not so within {patience_s} s"
        time.sleep(STEP_S)


def let_pass(milliseconds: int) -> None:
    """Time that must go by for the question to be one, for instance longer than a message's TTL."""
    time.sleep(milliseconds / 1000)


class Lifetime:
    """How long something must be there at least, from now on: a message that has a TTL, a queue that expires.

    A machine that has much to do may need longer than that to ask, and then nothing can be asked any more.
    """

    def __init__(self, milliseconds: int) -> None:
        self._ends_s = time.monotonic() + milliseconds / 1000

    @property
    def is_over(self) -> bool:
        """Whether it may be gone; looked at behind the question."""
        return time.monotonic() >= self._ends_s
