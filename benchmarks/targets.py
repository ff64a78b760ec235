"""What was aimed at, and whether it was reached: each target is a bound for the worst of some cells.

Ratios are ours by RabbitMQ's, medians over the rounds. A target none of whose cells was run is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from benchmarks.brokers import OURS
from benchmarks.comparing import Result
from benchmarks.footprint import KIBIBYTES, START
from benchmarks.measuring import CPU, LATENESS, MEMORY, P50, P99, RATE
from benchmarks.report import kinds_of

Value = tuple[str, float]  # of a cell
Measure = Callable[[Sequence[Result], str], Iterator[Value]]  # by the kind of broker that is ours

BIG = ("*16KiB", "*1MiB")
FIXED_RATE = ("latency/*",)


@dataclass(frozen=True)
class Target:
    """One line of the table.

    Args:
        text: what it is about.
        measure: finds the values.
        bound: the worst value may be this.
        more_is_better: whether the bound is the least instead of the most.
    """

    text: str
    measure: Measure
    bound: float
    more_is_better: bool = False


def _ratios(figure: str, *patterns: str, but: Sequence[str] = ()) -> Measure:
    def measure(results: Sequence[Result], kind: str) -> Iterator[Value]:
        for result in results:
            ratio = result.ratio(figure, kind)
            if ratio is not None and _is_like(result.name, patterns) and not _is_like(result.name, but):
                yield result.name, ratio

    return measure


def _ours(figure: str, *patterns: str) -> Measure:
    def measure(results: Sequence[Result], kind: str) -> Iterator[Value]:
        for result in results:
            value = result.median(kind, figure)
            if value is not None and _is_like(result.name, patterns):
                yield result.name, value

    return measure


def _growth(figure: str, few: str, many: str) -> Measure:
    """Ours with much by ours with little."""

    def measure(results: Sequence[Result], kind: str) -> Iterator[Value]:
        by_name = {result.name: result for result in results}
        if few in by_name and many in by_name:
            little, much = by_name[few].median(kind, figure), by_name[many].median(kind, figure)
            if little and much:
                yield many, much / little

    return measure


def _is_like(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


SIDE_BY_SIDE = (
    *("publish/*", "confirms/*", "auto-ack/*", "single-acks/*", "multiple-acks/*", "fan-out*", "topic/*", "headers/*"),
    *("queues/*", "channels/*", "priorities/*", "get", "rpc", "latency/*"),
)
TARGETS = (
    Target("publish only, transient, 12 B: rate", _ratios(RATE, "publish/transient/12B"), 2, True),
    Target("publish with confirms, transient, 12 B: rate", _ratios(RATE, "confirms/transient/12B"), 3, True),
    Target("end to end, automatic acks, transient, 12 B: rate", _ratios(RATE, "auto-ack/transient/12B"), 1.5, True),
    Target("end to end, confirms and acks, transient, 12 B: rate", _ratios(RATE, "single-acks/transient/12B"), 2, True),
    Target("the same, persistent, 12 B: rate", _ratios(RATE, "single-acks/persistent/12B"), 3, True),
    Target("the same, persistent, 1 KiB: rate", _ratios(RATE, "single-acks/persistent/1KiB"), 4, True),
    Target("the same, persistent, 16 KiB: rate", _ratios(RATE, "single-acks/persistent/16KiB"), 2.5, True),
    Target("fan-out to 5, transient: rate", _ratios(RATE, "fan-out-5/transient/*"), 1.5, True),
    Target("fan-out to 5, persistent: rate", _ratios(RATE, "fan-out-5/persistent/*"), 2.5, True),
    Target("one message a call, publish only: rate", _ratios(RATE, "writes/1/publish"), 2, True),
    Target("one message a call, all else: rate", _ratios(RATE, "writes/1/*", but=("writes/1/publish",)), 3, True),
    Target("every cell: rate", _ratios(RATE, *SIDE_BY_SIDE, but=FIXED_RATE), 1, True),
    Target("every cell up to 1 KiB: CPU a message", _ratios(CPU, *SIDE_BY_SIDE, but=BIG), 1 / 3),
    Target("latency, idle and at 5,000/s: p50", _ratios(P50, "latency/*-per-s"), 1.25),
    Target("latency, idle and at 5,000/s: p99", _ratios(P99, "latency/*-per-s"), 1),
    Target("start-up: time", _ratios(START, "start-up"), 0.1),
    Target("idle: memory", _ratios(MEMORY, "start-up"), 1 / 3),
    Target("memory for a connection", _ratios(KIBIBYTES, "memory/connection"), 0.5),
    Target("memory for a channel", _ratios(KIBIBYTES, "memory/channel"), 0.5),
    Target(
        "a million ready: our rate by that with none",
        _growth(RATE, "growth/0-ready", "growth/1000000-ready"),
        0.9,
        True,
    ),
    Target(
        "10,000 queues: our CPU a message by that with 10",
        _growth(CPU, "growth/10-queues", "growth/10000-queues"),
        1.25,
    ),
    Target(
        "10,000 bindings: our CPU a message by that with 10",
        _growth(CPU, "growth/10-bindings", "growth/10000-bindings"),
        1.25,
    ),
    Target(
        "1,000 busy connections: our CPU a message by that with 10",
        _growth(CPU, "growth/10-busy-connections", "growth/1000-busy-connections"),
        1.25,
    ),
    Target(
        "5,000 idle connections: our CPU a message by that with none",
        _growth(CPU, "growth/0-idle-connections", "growth/5000-idle-connections"),
        1.25,
    ),
    Target("longest pause of our event loop, ms", _ours(LATENESS, "pause/*"), 20),
)


def targets_table(results: Sequence[Result]) -> str:
    """A Markdown table; empty when no target's cells are among the results."""
    kinds = kinds_of(results)
    lines = []
    for target in TARGETS:
        reached = [_reached(target, results, kind) for kind in kinds]
        if any(reached):
            asked = f"{'at least' if target.more_is_better else 'at most'} {target.bound:.3g}"
            lines.append("| " + " | ".join((target.text, asked, *(each or " | " for each in reached))) + " |")
    if not lines:
        return ""
    titles = ["measured, the worst" if kind == OURS else f"{kind}, the worst" for kind in kinds]
    head = ["target", "asked", *(title for each in titles for title in (each, "met"))]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines])


def _reached(target: Target, results: Sequence[Result], kind: str) -> str:
    """The worst value and whether it will do, as two cells of the table; empty when nothing was measured."""
    values = list(target.measure(results, kind))
    if not values:
        return ""
    worst = (min if target.more_is_better else max)(values, key=lambda value: value[1])
    is_met = worst[1] >= target.bound if target.more_is_better else worst[1] <= target.bound
    where = f" ({worst[0]})" if len(values) > 1 else ""
    return f"{worst[1]:.2f}{where} | {'yes' if is_met else '**no**'}"
