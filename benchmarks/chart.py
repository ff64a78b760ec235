"""The ratios as an SVG: one bar a cell, ours by RabbitMQ's, on a logarithmic scale with the line of equality in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from benchmarks.comparing import Result
from benchmarks.measuring import CPU, P50, RATE

ROW = 18
NAMES_WIDTH = 260
BARS_WIDTH = 520
TOP = 64
TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)

_AHEAD, _BEHIND = "#2a7f62", "#b5472f"
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.t{font-weight:600;font-size:14px}.g{stroke:#ddd}.one{stroke:#222}"
)


def svg(results: Sequence[Result], figure: str = RATE) -> str:
    """A chart of one figure's ratios.

    Args:
        figure: of a rate, more is better; of all others, less.
    """
    shown = [(result.name, ratio) for result in results if (ratio := result.ratio(figure))]
    height = TOP + ROW * len(shown) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {NAMES_WIDTH + BARS_WIDTH + 20} {height}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="100%" height="100%" fill="#fff"/><text class="t" x="8" y="22">{escape(_title(figure))}</text>',
        *(_tick(value, height) for value in TICKS),
        *(_bar(number, name, ratio, figure) for number, (name, ratio) in enumerate(shown)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _title(figure: str) -> str:
    titles = {RATE: "Messages a second", CPU: "CPU a message", P50: "Median latency"}
    better = "more" if figure == RATE else "less"
    return f"{titles.get(figure, figure)}: amqp-broker by RabbitMQ, medians of ratios ({better} is better)"


def _x(ratio: float) -> float:
    low, high = math.log2(TICKS[0]), math.log2(TICKS[-1])
    part = (math.log2(min(max(ratio, TICKS[0]), TICKS[-1])) - low) / (high - low)
    return round(NAMES_WIDTH + part * BARS_WIDTH, 1)


def _tick(value: float, height: int) -> str:
    x, kind = _x(value), "one" if value == 1 else "g"
    return (
        f'<line class="{kind}" x1="{x}" x2="{x}" y1="{TOP - 14}" y2="{height - 8}"/>'
        f'<text x="{x}" y="{TOP - 20}" text-anchor="middle">{value:g}</text>'
    )


def _bar(number: int, name: str, ratio: float, figure: str) -> str:
    top, zero, x = TOP + ROW * number, _x(1), _x(ratio)
    is_ahead = ratio >= 1 if figure == RATE else ratio <= 1
    left, width = min(zero, x), round(abs(x - zero), 1)
    return (
        f'<text x="8" y="{top + 12}">{escape(name)}</text>'
        f'<rect x="{left}" y="{top + 2}" width="{width}" height="{ROW - 5}" fill="{_AHEAD if is_ahead else _BEHIND}"/>'
        f'<text x="{max(zero, x) + 5}" y="{top + 12}">{ratio:.2f}</text>'
    )
