"""What was aimed at, and whether it was reached: each target is a bound for the worst of some cells.

Ratios are ours by RabbitMQ's, medians over the rounds. A target none of whose cells was run is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from benchmarks.brokers import COMPILED, OURS, PEERS
from benchmarks.comparing import Result
from benchmarks.footprint import KIBIBYTES, START
from benchmarks.measuring import CPU, LATENESS, LONGEST, MEMORY, P50, P99, RATE
from benchmarks.report import NAMES

Value = tuple[str, float]  # of a cell
Measure = Callable[[Sequence[Result], str, str], Iterator[Value]]  # by the kind of broker that is ours, and by whose

BIG = ("*16KiB", "*1MiB")
FIXED_RATE = ("latency/*",)
PAUSE_MS = 20


@dataclass(frozen=True)
class Target:
    """One line of the table.

    Args:
        text: what it is about.
        measure: finds the values.
        bound: the worst value may be this.
        more_is_better: whether the bound is the least instead of the most.
        is_ours_alone: whether RabbitMQ's figures have no part in it.
    """

    text: str
    measure: Measure
    bound: float
    more_is_better: bool = False
    is_ours_alone: bool = False


def _ratios(figure: str, *patterns: str, but: Sequence[str] = ()) -> Measure:
    def measure(results: Sequence[Result], kind: str, peer: str) -> Iterator[Value]:
        for result in results:
            ratio = result.ratio(figure, kind, peer)
            if ratio is not None and _is_like(result.name, patterns) and not _is_like(result.name, but):
                yield result.name, ratio

    return measure


def _ours(figure: str, *patterns: str) -> Measure:
    def measure(results: Sequence[Result], kind: str, peer: str) -> Iterator[Value]:
        for result in results:
            value = result.median(kind, figure)
            if value is not None and _is_like(result.name, patterns):
                yield result.name, value

    return measure


def _pauses(results: Sequence[Result], kind: str, peer: str) -> Iterator[Value]:
    """The longest wait of another client by what is allowed: RabbitMQ's own, or less where that is long."""
    for result in results:
        mine, other = result.median(kind, LONGEST), result.median(peer, LONGEST)
        if mine is not None and other is not None and _is_like(result.name, ("pause/*",)):
            yield result.name, mine / min(PAUSE_MS, other)


def _growth(figure: str, few: str, many: str) -> Measure:
    """Ours with much by ours with little."""

    def measure(results: Sequence[Result], kind: str, peer: str) -> Iterator[Value]:
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
    Target("a hundred a call, publish only, transient, 12 B: rate", _ratios(RATE, "writes/100/publish"), 2, True),
    Target("a hundred a call, publish with confirms: rate", _ratios(RATE, "writes/100/confirms"), 3, True),
    Target("a hundred a call, automatic acks: rate", _ratios(RATE, "writes/100/auto-ack"), 1.5, True),
    Target("a hundred a call, confirms and acks: rate", _ratios(RATE, "writes/100/single-acks"), 2, True),
    *(
        Target(
            f"a hundred a call, confirms and acks, persistent, {text}: rate",
            _ratios(RATE, f"writes/100/single-acks/persistent/{size}"),
            bound,
            True,
        )
        for text, size, bound in (("12 B", "12B", 3), ("1 KiB", "1KiB", 4), ("16 KiB", "16KiB", 2.5))
    ),
    Target(
        "a hundred a call, fan-out to 5, transient: rate", _ratios(RATE, "writes/100/fan-out-5/transient"), 1.5, True
    ),
    Target(
        "a hundred a call, fan-out to 5, persistent: rate", _ratios(RATE, "writes/100/fan-out-5/persistent"), 2.5, True
    ),
    Target("one message a call, publish only: rate", _ratios(RATE, "writes/1/publish"), 2, True),
    Target("one message a call, all else: rate", _ratios(RATE, "writes/1/*", but=("writes/1/publish",)), 3, True),
    Target("every cell: rate", _ratios(RATE, *SIDE_BY_SIDE, but=FIXED_RATE), 1.2, True),
    Target("every cell up to 1 KiB: CPU a message", _ratios(CPU, *SIDE_BY_SIDE, but=BIG), 1 / 3),
    Target("one request at a time, basic.get: CPU", _ratios(CPU, "get"), 0.455),
    Target("one request at a time, call and answer: CPU", _ratios(CPU, "rpc"), 0.415),
    Target("100 messages a second: CPU a message", _ratios(CPU, "latency/idle-100-per-s"), 0.285),
    Target("latency, idle and at 5,000/s: p50", _ratios(P50, "latency/*-per-s"), 1.25),
    Target("latency, idle and at 5,000/s: p99", _ratios(P99, "latency/*-per-s"), 1),
    Target("start-up: time", _ratios(START, "start-up"), 0.1),
    Target("idle: memory", _ratios(MEMORY, "start-up"), 1 / 3),
    Target("memory for a connection", _ratios(KIBIBYTES, "memory/connection"), 0.5),
    Target("memory for a channel", _ratios(KIBIBYTES, "memory/channel"), 0.5),
    Target("longest wait of another client, by RabbitMQ's or 20 ms, whichever is less", _pauses, 1),
    Target("longest pause of our event loop, ms", _ours(LATENESS, "pause/*"), PAUSE_MS, is_ours_alone=True),
    Target(
        "a million ready: our rate by that with none",
        _growth(RATE, "growth/0-ready", "growth/1000000-ready"),
        0.95,
        more_is_better=True,
        is_ours_alone=True,
    ),
    *(
        Target(f"{text}: our CPU a message by that with {few}", _growth(CPU, *names), bound, is_ours_alone=True)
        for text, few, names, bound in (
            ("10,000 queues", "10", ("growth/10-queues", "growth/10000-queues"), 1.15),
            ("10,000 bindings", "10", ("growth/10-bindings", "growth/10000-bindings"), 1.25),
            ("1,000 busy connections", "10", ("growth/10-busy-connections", "growth/1000-busy-connections"), 1.25),
            ("5,000 idle connections", "none", ("growth/0-idle-connections", "growth/5000-idle-connections"), 1.25),
        )
    ),
)


def targets_table(results: Sequence[Result]) -> str:
    """A Markdown table; empty when no target's cells are among the results.

    Bold is what is missed. What RabbitMQ has no part in stands in the first column of each build.
    """
    measured = {kind for result in results for kind in result.rounds}
    kinds = [kind for kind in (OURS, COMPILED) if kind in measured]
    peers = [peer for peer in PEERS if peer in measured] or list(PEERS)[:1]
    lines = []
    for target in TARGETS:
        reached = [
            "" if target.is_ours_alone and peer != peers[0] else _reached(target, results, kind, peer)
            for peer in peers
            for kind in kinds
        ]
        if any(reached):
            asked = f"{'at least' if target.more_is_better else 'at most'} {target.bound:.3g}"
            lines.append("| " + " | ".join((target.text, asked, *reached)) + " |")
    if not lines:
        return ""
    head = ["target", "asked", *(f"{NAMES[kind]}, by {NAMES[peer]}" for peer in peers for kind in kinds)]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines])


def _reached(target: Target, results: Sequence[Result], kind: str, peer: str) -> str:
    """The worst value, bold where it will not do; empty when nothing was measured."""
    values = list(target.measure(results, kind, peer))
    if not values:
        return ""
    worst = (min if target.more_is_better else max)(values, key=lambda value: value[1])
    is_met = worst[1] >= target.bound if target.more_is_better else worst[1] <= target.bound
    where = f" ({worst[0]})" if len(values) > 1 else ""
    return f"{worst[1]:.2f}{where}" if is_met else f"**{worst[1]:.2f}**{where}"
