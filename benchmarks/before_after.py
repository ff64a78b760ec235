"""`python -m benchmarks.before_after OLD NEW`: two trees of this broker under the same loads, by turns, in one run.

A tree is a folder that has `amqp_broker` in it: a working tree of git, or what `make wheel-compiled` leaves in
build/compiled. Each round puts the load on the one, then on the other, and is followed by one that begins with the
other; what is shown is the median over the rounds of the new one's figure divided by the old one's. The processor time
is what to look at: it says nearly the same on a busy machine, a rate does not. RabbitMQ is not asked here: that is
`python -m benchmarks`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import cells, writes
from benchmarks.brokers import RunningBroker
from benchmarks.cells import Cell
from benchmarks.comparing import Result, compare
from benchmarks.measuring import CPU, RATE, Timing
from interop.brokers import OurBroker

OLD, NEW = "old", "new"
WAYS = ("publish", "confirms", "auto-ack", "single-acks")
HOT_PATH = tuple(f"{way}/*/{size}" for way in WAYS for size in ("12B", "1KiB"))
TIMING = Timing(warm_up_s=0.2, window_s=0.4)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, cell by cell; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument(OLD, type=tree, help="the folder with the amqp_broker before")
    parser.add_argument(NEW, type=tree, help="the folder with the amqp_broker after")
    parser.add_argument("--cells", metavar="GLOB", action="append", help="which cells (default: the hot path's)")
    parser.add_argument("--rounds", type=int, metavar="N", default=7, help="of each cell on each tree (default 7)")
    options = parser.parse_args(arguments)
    patterns = options.cells or HOT_PATH
    chosen = [
        cell
        for cell in (*cells.cells(), *writes.cells())
        if any(fnmatchcase(cell.name, pattern) for pattern in patterns)
    ]
    results: list[Result] = []
    try:
        with running(OLD, options.old) as old, running(NEW, options.new) as new:
            for cell in chosen:
                results.append(_compared(old, new, cell, options.rounds))
                print(row(results[-1]), flush=True)
    except KeyboardInterrupt:
        return 130
    if all_ratios := [ratio for result in results if (ratio := result.ratio(CPU, NEW, OLD)) is not None]:
        print(f"CPU a message, new by old, over all: {statistics.geometric_mean(all_ratios):.3f}")
    return 1 if any(result.failures for result in results) else 0


@contextmanager
def running(kind: str, tree: Path) -> Iterator[RunningBroker]:
    """Start the broker of a tree, in a data folder of its own, and end it."""
    started_s = time.monotonic()
    process = OurBroker(environment={"PYTHONSAFEPATH": "1", "PYTHONPATH": str(tree)})
    try:
        yield RunningBroker(kind, process.address, process.pid, time.monotonic() - started_s, process.ctl)
    finally:
        process.stop()


def row(result: Result) -> str:
    """One line: processor time before and after, its ratio and how far the rounds are apart, the ratio of the rates."""
    if result.failures:
        return f"{result.name:32} failed: {result.failures}"
    ratios = sorted(result.ratios(CPU, NEW, OLD))
    quarter = len(ratios) // 4
    return (
        f"{result.name:32} {result.median(OLD, CPU):8.2f} {result.median(NEW, CPU):8.2f} us   "
        f"{result.ratio(CPU, NEW, OLD):.3f} ({ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f})   "
        f"rate {result.ratio(RATE, NEW, OLD):.3f}"
    )


def _compared(old: RunningBroker, new: RunningBroker, cell: Cell, rounds: int) -> Result:
    return compare({OLD: old, NEW: new}, cell, "", rounds, TIMING, lambda text: None)


def tree(text: str) -> Path:
    """The folder that an argument names."""
    path = Path(text).resolve()
    if not (path / "amqp_broker").is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} has no amqp_broker in it")
    return path


if __name__ == "__main__":
    sys.exit(main())
