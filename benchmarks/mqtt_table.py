"""The table of ``benchmarks/mqtt.py`` as docs/mqtt.md has it: which lines a cell has, and what is said of each broker.

Shown is the median of the rounds and, in brackets, its ratio to this broker's. Holds no measuring.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Figures = dict[str, float]  # what was measured, by its unit; none where the broker does not do it


@dataclass
class Results:
    """What one broker has shown in the rounds of a cell.

    Args:
        rounds: the figures of those that came to their end.
        failures: why others did not.
    """

    rounds: list[Figures] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def median(self, unit: str) -> float | None:
        """The middle of what was measured; None where nothing was."""
        values = [one[unit] for one in self.rounds if unit in one]
        return statistics.median(values) if values else None

    def text(self, unit: str, ours: float | None) -> str:
        """The figure as the table has it, beside ours."""
        value = self.median(unit)
        if value is None:
            return self.failures[0] if self.failures else ""
        if math.isnan(value):
            return "finds none"
        lost = f", {len(self.failures)} of {len(self.failures) + len(self.rounds)} rounds failed"
        ratio = f" ({value / ours:.2g})" if ours else ""
        return f"{_said(value)}{ratio}{lost if self.failures else ''}"


def _said(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def head(titles: Sequence[str]) -> Iterator[str]:
    """The first lines."""
    yield f"| (load average before) | | {' | '.join(titles)} |"
    yield f"|---|---|{'---|' * len(titles)}"


def lines(title: str, load: float, results: Sequence[Results]) -> Iterator[str]:
    """The lines of a cell.

    Args:
        title: of the cell.
        load: of the machine, before it.
        results: of each broker, ours first.
    """
    units = dict.fromkeys(unit for one in results for figures in one.rounds for unit in figures)
    for place, unit in enumerate(units):
        ours = results[0].median(unit)
        texts = [results[0].text(unit, None), *(one.text(unit, ours) for one in results[1:])]
        yield f"| {f'{title} ({load:.1f})' if not place else ''} | {unit} | {' | '.join(texts)} |"
