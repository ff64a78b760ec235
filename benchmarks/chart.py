"""Results as SVG: the ratios, one bar a cell on a logarithmic scale; and how cost grows, a panel for each thing."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape

from benchmarks.brokers import OURS, RABBITMQ
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
    return f"{titles.get(figure, figure)}: amqp-broker by RabbitMQ 3.10, medians of ratios ({better} is better)"


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


# --- growth

PANEL_WIDTH, PANEL_HEIGHT = 300, 190
PLOT_LEFT, PLOT_TOP, PLOT_WIDTH, PLOT_HEIGHT = 44, 56, 230, 96
PANELS_IN_A_ROW = 3
_GROWTH_NAME = re.compile(r"growth/(\d+)-(.+)")
_LINES = ((OURS, _AHEAD, "amqp-broker"), (RABBITMQ, _BEHIND, "RabbitMQ"))
_GROWTH_STYLE = f"{_STYLE}.n{{font-size:10px}}polyline{{fill:none;stroke-width:2}}"


def growth_svg(results: Sequence[Result]) -> str:
    """A chart of the processor time for a message, for each thing that there is more and more of."""
    panels: dict[str, list[tuple[int, Result]]] = {}
    for result in results:
        if found := _GROWTH_NAME.fullmatch(result.name):
            panels.setdefault(found[2].replace("-", " "), []).append((int(found[1]), result))
    rows = -(-len(panels) // PANELS_IN_A_ROW)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {PANEL_WIDTH * PANELS_IN_A_ROW} {PANEL_HEIGHT * rows + 30}">',
        f"<style>{_GROWTH_STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        '<text class="t" x="8" y="20">CPU of the broker for a message, in us (less is better): '
        "amqp-broker green, RabbitMQ 3.10 red</text>",
    ]
    for number, (what, points) in enumerate(panels.items()):
        left, top = number % PANELS_IN_A_ROW * PANEL_WIDTH, number // PANELS_IN_A_ROW * PANEL_HEIGHT + 20
        parts += [f'<g transform="translate({left},{top})">', *_panel(what, sorted(points, key=lambda p: p[0])), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(what: str, points: list[tuple[int, Result]]) -> list[str]:
    figures = {kind: [result.median(kind, CPU) for _, result in points] for kind, _, _ in _LINES}
    highest = max([value for line in figures.values() for value in line if value] or [1.0])
    across = [PLOT_LEFT + round(PLOT_WIDTH * at / max(1, len(points) - 1)) for at in range(len(points))]
    bottom = PLOT_TOP + PLOT_HEIGHT
    parts = [
        f'<text x="8" y="24">{escape(what)}</text>',
        f'<line class="one" x1="{PLOT_LEFT}" x2="{PLOT_LEFT + PLOT_WIDTH}" y1="{bottom}" y2="{bottom}"/>',
    ]
    parts += [
        f'<text class="n" x="{x}" y="{bottom + 16}" text-anchor="middle">{count:,}</text>'
        for x, (count, _) in zip(across, points, strict=True)
    ]
    for kind, colour, name in _LINES:
        seen = [
            (x, round(bottom - PLOT_HEIGHT * value / highest, 1), value)
            for x, value in zip(across, figures[kind], strict=True)
            if value is not None
        ]
        if not seen:
            continue
        corners = " ".join(f"{x},{y}" for x, y, _ in seen)
        parts.append(f'<polyline points="{corners}" stroke="{colour}"><title>{name}</title></polyline>')
        parts += [
            f'<text class="n" x="{x}" y="{y - 5}" text-anchor="middle" fill="{colour}">{value:.1f}</text>'
            for x, y, value in seen
        ]
    return parts
