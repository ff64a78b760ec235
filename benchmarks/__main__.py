"""`python -m benchmarks`: which cells, how long, and where the results go.

The table goes to standard output, progress to standard error.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

from benchmarks import cells, footprint, growth, pauses, stock_clients
from benchmarks.brokers import OURS, RABBITMQ, running
from benchmarks.cells import Cell
from benchmarks.chart import svg
from benchmarks.comparing import Result, compare
from benchmarks.measuring import Timing
from benchmarks.report import circumstances, table, to_json
from interop.brokers import find_rabbitmq

TABLES = {
    "Side by side": cells.cells,
    "How cost grows": growth.cells,
    "Longest pauses": pauses.cells,
    "Start-up and memory": footprint.cells,
    "Stock clients": stock_clients.cells,
}
QUICK = ("*/transient/12B", "*/persistent/1KiB", "get", "rpc", "latency/5000-per-s", "start-up", "pika/*")


def main() -> int:
    """Run the benchmarks; returns the exit code."""
    options = _parse()
    signal.signal(signal.SIGTERM, _interrupt)
    patterns = options.cells or (QUICK if options.quick else ("*",))
    chosen = {
        title: [cell for cell in make() if any(fnmatchcase(cell.name, pattern) for pattern in patterns)]
        for title, make in TABLES.items()
    }
    if options.list:
        print("\n".join(cell.name for group in chosen.values() for cell in group))
        return 0
    results: dict[str, list[Result]] = {}
    try:
        _run(chosen, options, results)
    except KeyboardInterrupt:
        _say("interrupted; what is done so far:")
        return 130
    finally:
        _write(results, options)
    return 1 if any(result.failures for group in results.values() for result in group) else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", metavar="GLOB", action="append", help="only cells with such a name; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the cells' names and do nothing")
    parser.add_argument("--broker", choices=("both", OURS, RABBITMQ), default="both", help="only one of the two")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each cell is run on each broker (default 3)")
    parser.add_argument("--seconds", type=float, metavar="S", help="how long one run is measured (default 3)")
    parser.add_argument(
        "--quick", action="store_true", help="few cells, one round of one second, unless said otherwise"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a chart of the ratios")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (1.0 if options.quick else 3.0)
    return options


def _run(chosen: dict[str, list[Cell]], options: argparse.Namespace, results: dict[str, list[Result]]) -> None:
    timing = Timing(warm_up_s=min(0.5, options.seconds / 2), window_s=options.seconds)
    with ExitStack() as stack:
        brokers = {kind: stack.enter_context(running(kind)) for kind in _kinds(options.broker)}
        total, done, begun_s = sum(len(group) for group in chosen.values()), 0, time.monotonic()
        for title, group in chosen.items():
            for cell in group:
                done += 1
                _say(f"[{done}/{total}, {time.monotonic() - begun_s:.0f} s]")
                result = compare(brokers, cell, options.rounds, timing, _say)
                results.setdefault(title, []).append(result)


def _kinds(asked: str) -> Sequence[str]:
    if asked != "both":
        return (asked,)
    if find_rabbitmq() is None:
        _say("RabbitMQ is not installed: ours alone")
        return (OURS,)
    return (OURS, RABBITMQ)


def _write(results: dict[str, list[Result]], options: argparse.Namespace) -> None:
    if not results:
        return
    print(", ".join(f"{name} {value}" for name, value in circumstances().items()))
    for title, group in results.items():
        print(f"\n## {title}\n\n{table(group)}", flush=True)
    everything = [result for group in results.values() for result in group]
    if options.json:
        options.json.write_text(to_json(everything, {"rounds": options.rounds, "seconds": options.seconds}))
    if options.svg:
        options.svg.write_text(svg(everything))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
