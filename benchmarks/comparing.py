"""Rounds on both brokers in turn, and what is left of them: medians, and medians of ratios.

A ratio is taken within a round, whose two halves follow each other at once, so what else the machine does at the time
weighs on both.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.brokers import OURS, RABBITMQ, RunningBroker, await_rest
from benchmarks.cells import Cell
from benchmarks.measuring import Figures, Timing

Progress = Callable[[str], None]


@dataclass
class Result:
    """All rounds of one cell, by the kind of broker; a failure says why there are none, or no more."""

    name: str
    table: str = ""
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def median(self, kind: str, figure: str) -> float | None:
        """A figure's median over the rounds."""
        values = [figures[figure] for figures in self.rounds.get(kind, ()) if figure in figures]
        return statistics.median(values) if values else None

    def ratios(self, figure: str, kind: str = OURS, of: str = RABBITMQ) -> list[float]:
        """One broker's figure divided by another's, round by round."""
        pairs = zip(self.rounds.get(kind, ()), self.rounds.get(of, ()), strict=False)
        return [mine[figure] / other[figure] for mine, other in pairs if figure in mine and other.get(figure)]

    def ratio(self, figure: str, kind: str = OURS, of: str = RABBITMQ) -> float | None:
        """The median of these: ours, or the compiled build's, by RabbitMQ's, unless others are named."""
        ratios = self.ratios(figure, kind, of)
        return statistics.median(ratios) if ratios else None


def compare(
    brokers: Mapping[str, RunningBroker], cell: Cell, table: str, rounds: int, timing: Timing, progress: Progress
) -> Result:
    """Run a cell on the brokers in turn, so many times; the one that begins changes with every round."""
    result = Result(cell.name, table)
    kinds = list(brokers)
    for number in range(rounds):
        for kind in kinds if number % 2 == 0 else reversed(kinds):
            if kind in result.failures:
                continue
            try:
                await_rest(brokers[kind].pid)
                figures = cell.run(brokers[kind], timing)
            except (RuntimeError, OSError) as error:
                result.failures[kind] = str(error) or type(error).__name__
                progress(f"{cell.name}  {kind}: failed: {error}")
            else:
                result.rounds.setdefault(kind, []).append(figures)
                progress(f"{cell.name}  {kind}: {_short(figures)}")
    return result


def _short(figures: Figures) -> str:
    return "  ".join(f"{name} {value:,.1f}" for name, value in figures.items())
