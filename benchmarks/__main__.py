"""`python -m benchmarks`: this broker and each RabbitMQ that is installed, on ports of their own, under the same loads.

The tables go to standard output, progress to standard error, all figures and the charts into files below build/.
Everything with its defaults takes an hour and more, with the compiled build as well half as long again.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

from benchmarks import cells, footprint, growth, management, pauses, stock_clients, writes
from benchmarks.brokers import COMPILED, OURS, PEERS, not_running, running
from benchmarks.cells import Cell
from benchmarks.chart import growth_svg, svg
from benchmarks.comparing import Result, compare
from benchmarks.measuring import Timing
from benchmarks.report import circumstances, from_json, tables, to_json
from benchmarks.targets import targets_table
from interop.brokers import REPOSITORY


@dataclass(frozen=True)
class Table:
    """Cells that are shown together.

    Args:
        title: what they are about.
        make: makes them.
        rounds: how often each is run, unless it is said otherwise.
        shares_brokers: whether they are run on brokers that others have used; else each starts its own.
    """

    title: str
    make: Callable[[], list[Cell]]
    rounds: int
    shares_brokers: bool = True


TABLES = (
    Table("Side by side", cells.cells, 3),
    Table("One, ten, a hundred at a time", writes.cells, 3),
    Table("How cost grows", growth.cells, 3),
    Table("Longest pauses", pauses.cells, 1, shares_brokers=False),
    Table("Looked at", management.cells, 1, shares_brokers=False),
    Table("Start-up and memory", footprint.cells, 1, shares_brokers=False),
    Table("Stock clients", stock_clients.cells, 2),
)
QUICK = ("*/transient/12B", "*/persistent/1KiB", "get", "rpc", "latency/5000-per-s", "start-up", "pika/*")
WRITTEN_TO = REPOSITORY / "build" / "benchmarks"  # unless other files are named
EXAMPLES = """\
examples:
  make bench                                                 everything, an hour and more
  make bench ARGS="--quick"                                  a first look, two minutes
  make bench ARGS="--list"                                   the names of all cells
  make bench ARGS="--cells 'auto-ack/*' --cells rpc"         some cells
  make bench ARGS="--cells 'pause/*' --broker ours"          one broker alone
  make bench COMPILED=1                                      everything, and the compiled build in a column of its own
  make bench ARGS="--json all.json --svg ratios.svg"         for the documentation
  make bench ARGS="--from a.json b.json --svg ratios.svg"    tables and charts of earlier runs, nothing is run
"""


def main() -> int:
    """Run the benchmarks; returns the exit code."""
    options = _parse()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    if options.earlier:
        return _show(options.earlier, options)
    patterns = options.cells or (QUICK if options.quick else ("*",))
    chosen = {each: _matching(each.make(), patterns) for each in TABLES}
    if options.list:
        print("\n".join(cell.name for group in chosen.values() for cell in group))
        return 0
    if not any(chosen.values()):
        _say(f"no cell has a name like {' or '.join(patterns)}; --list shows all")
        return 2
    _choose_files(options)
    results: list[Result] = []
    try:
        _run(chosen, options, results)
    except KeyboardInterrupt:
        _say("interrupted; what is done so far:" if results else "interrupted before a cell was done")
        return 130
    except (RuntimeError, OSError) as error:
        _say(f"a broker did not start: {error}")
        return 1
    finally:
        _write(results, circumstances(), options)
    return 1 if any(result.failures for result in results) else 0


def _show(paths: Sequence[Path], options: argparse.Namespace) -> int:
    """Write what earlier runs measured; returns the exit code."""
    texts = []
    for path in paths:
        try:
            texts.append(path.read_text())
            from_json(texts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            _say(f"{path}: not a file that --json has written: {error!r}")
            return 2
    results, where = from_json(texts)
    _write(results, where, options)
    return 0


def _choose_files(options: argparse.Namespace) -> None:
    """Where everything goes for which no file is named: an hour is too long to lose what it found."""
    WRITTEN_TO.mkdir(parents=True, exist_ok=True)
    name = time.strftime("%Y%m%d-%H%M%S")
    options.json = options.json or WRITTEN_TO / f"{name}.json"
    options.svg = options.svg or WRITTEN_TO / f"{name}.svg"
    options.growth_svg = options.growth_svg or WRITTEN_TO / f"{name}-growth.svg"


def _matching(made: list[Cell], patterns: Sequence[str]) -> list[Cell]:
    return [cell for cell in made if any(fnmatchcase(cell.name, pattern) for pattern in patterns)]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__.partition("\n\n")[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--cells", metavar="GLOB", action="append", help="only cells with such a name; may be repeated")
    add("--list", action="store_true", help="print the cells' names and do nothing")
    add("--broker", choices=("all", OURS, COMPILED, *PEERS), default="all", help="only one of them")
    add(
        "--compiled", action="store_true", help="the compiled build as well, by turns with ours (make bench COMPILED=1)"
    )
    add("--rounds", type=_count, metavar="N", help="how often each cell is run on each broker (default 3; long ones 1)")
    add("--seconds", type=_seconds, metavar="S", default=1.0, help="how long one run is measured (default 1)")
    add("--quick", action="store_true", help="few cells, one round of one second, unless said otherwise")
    for name, what in (
        ("--json", "everything that was measured"),
        ("--svg", "a chart of the ratios"),
        ("--growth-svg", "a chart of how cost grows"),
    ):
        add(name, type=_new_file, metavar="FILE", help=f"where to write {what} (default: below build/benchmarks)")
    add("--from", dest="earlier", type=Path, nargs="+", metavar="FILE", help="show what --json has written, together")
    options = parser.parse_args()
    if options.quick:
        options.rounds = options.rounds or 1
    return options


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _new_file(text: str) -> Path:
    """A file that can be written in the end, which is looked at before the hour and not behind it."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written: name a file in a folder that exists")
    return path


def _run(chosen: dict[Table, list[Cell]], options: argparse.Namespace, results: list[Result]) -> None:
    timing = Timing(warm_up_s=0.5, window_s=options.seconds)
    total, begun_s = sum(len(group) for group in chosen.values()), time.monotonic()
    for each, group in chosen.items():
        if not group:
            continue
        with ExitStack() as stack:
            kinds = _kinds(options.broker, options.compiled)
            if each.shares_brokers:
                brokers = {kind: stack.enter_context(running(kind)) for kind in kinds}
            else:
                brokers = {kind: not_running(kind) for kind in kinds}
            for cell in group:
                _say(f"[{len(results) + 1}/{total}, {time.monotonic() - begun_s:.0f} s]")
                results.append(compare(brokers, cell, each.title, options.rounds or each.rounds, timing, _say_of_round))


def _kinds(asked: str, is_compiled_as_well: bool) -> Sequence[str]:
    ours = (OURS, COMPILED) if is_compiled_as_well else (OURS,)
    if asked != "all":
        return ours if asked == OURS else (asked,)
    peers = [kind for kind, find in PEERS.items() if find() is not None]
    if not peers:
        _say("RabbitMQ is not installed: ours alone")
    return (*ours, *peers)


def _write(results: list[Result], where: dict[str, str], options: argparse.Namespace) -> None:
    if not results:
        return
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    for title in dict.fromkeys(result.table for result in results):
        print(f"\n## {title}\n\n{tables([each for each in results if each.table == title])}", flush=True)
    if reached := targets_table(results):
        print(f"\n## Targets\n\n{reached}", flush=True)
    if options.json:
        _say(f"all figures: {options.json}")
        options.json.write_text(to_json(results, where, {"rounds": options.rounds, "seconds": options.seconds}))
    if options.svg:
        options.svg.write_text(svg([result for result in results if result.table == TABLES[0].title]))
    if options.growth_svg:
        options.growth_svg.write_text(growth_svg(results))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_interruptions: list[int] = []


def _interrupt(number: int, frame: object) -> NoReturn:
    _interruptions.append(number)
    raise KeyboardInterrupt


def _say_of_round(text: str) -> None:
    """Say how a round went; ends all where an interruption was hidden by what failed as it was cleaned up."""
    _say(text)
    if _interruptions:
        raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
