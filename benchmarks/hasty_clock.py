"""``python -m benchmarks.hasty_clock serve``: our broker; whenever it looks at its clock, half a second has passed.

A message that is published to a stream has it looked at twice, so messages come a second after each other, a year of
them within minutes. What counts elapsed time, as heartbeats do, has the machine's.
"""

from __future__ import annotations

import itertools
import time

from amqp_broker.cli import main
from amqp_broker.server.clock import SystemClock

STEP_MS = 500


def hasten() -> None:
    """Have the clock show the machine's time once, and then go on by itself."""
    times = itertools.count(time.time_ns() // 1_000_000, STEP_MS)
    SystemClock.wall_ms = lambda self: next(times)  # type: ignore[method-assign]  # the broker is not to know it


if __name__ == "__main__":
    hasten()
    main()
