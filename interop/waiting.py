"""Waiting for what a broker does in its own time: a message's life ends, a queue goes, a raft command is applied."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 5.0
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
