"""Results as SVG: ratios of rates, a line a cell; and how cost grows, a panel a thing. The scales are logarithmic."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape

from benchmarks.brokers import COMPILED, OURS, RABBITMQ, RABBITMQ_4
from benchmarks.comparing import Result
from benchmarks.measuring import CPU, RATE

ROW = 16
NAMES_WIDTH, MARKS_WIDTH = 210, 560
TOP = 92
TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32)

_COLOURS = {OURS: "#1f6fb4", COMPILED: "#2a7f62", RABBITMQ: "#b5472f", RABBITMQ_4: "#c98a1b"}
_NAMES = {OURS: "plain", COMPILED: "compiled", RABBITMQ: "RabbitMQ 3.10", RABBITMQ_4: "RabbitMQ 4.0"}
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.t{font-weight:600;font-size:14px}.n{font-size:10px}"
    ".m{text-anchor:middle}.e{text-anchor:end}.g{stroke:#ddd}.one{stroke:#222}"
)


def svg(results: Sequence[Result]) -> str:
    """A chart of the rates: each of ours by each RabbitMQ's; loads at a fixed rate are left out."""
    pairs = [(mine, peer) for mine in (OURS, COMPILED) for peer in (RABBITMQ, RABBITMQ_4)]
    shown: list[tuple[str, dict[tuple[str, str], float]]] = []
    for result in results:
        found = {pair: ratio for pair in pairs if (ratio := result.ratio(RATE, *pair)) is not None}
        if found and not result.name.startswith("latency/"):
            shown.append((result.name, found))
    height = TOP + ROW * len(shown) + 12
    title = "Messages a second: amqp-broker by RabbitMQ, medians of ratios (right of 1: amqp-broker is ahead)"
    seen = [pair for pair in pairs if any(pair in found for _, found in shown)]
    parts = [
        *_head(NAMES_WIDTH + MARKS_WIDTH + 40, height, title),
        *_legend(seen),
        f'<rect x="{_x(TICKS[0])}" y="{TOP - 6}" width="{round(_x(1) - _x(TICKS[0]), 1)}" height="{height - TOP}" '
        'fill="#fbeeea"/>',
        *(_tick(value, height) for value in TICKS),
    ]
    for number, (name, found) in enumerate(shown):
        middle = TOP + ROW * number + ROW // 2
        parts.append(f'<text x="8" y="{middle + 4}">{escape(name)}</text>')
        parts += [_mark(_x(ratio), middle, *pair) for pair, ratio in found.items()]
        if beyond := [ratio for ratio in found.values() if ratio > TICKS[-1]]:
            parts.append(f'<text class="n" x="{_x(TICKS[-1]) + 8}" y="{middle + 4}">{max(beyond):.0f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(width: int, height: int, title: str) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="100%" height="100%" fill="#fff"/><text class="t" x="8" y="22">{escape(title)}</text>',
    ]


def _legend(pairs: Sequence[tuple[str, str]]) -> list[str]:
    parts = []
    for number, (mine, peer) in enumerate(pairs):
        x = 16 + number * 196
        words = f"{_NAMES[mine]}, by {_NAMES[peer]}"
        parts += [_mark(x, 42, mine, peer), f'<text x="{x + 10}" y="46">{escape(words)}</text>']
    return parts


def _x(ratio: float) -> float:
    low, high = math.log2(TICKS[0]), math.log2(TICKS[-1])
    part = (math.log2(min(max(ratio, TICKS[0]), TICKS[-1])) - low) / (high - low)
    return round(NAMES_WIDTH + part * MARKS_WIDTH, 1)


def _tick(value: float, height: int) -> str:
    x, kind = _x(value), "one" if value == 1 else "g"
    return (
        f'<line class="{kind}" x1="{x}" x2="{x}" y1="{TOP - 10}" y2="{height - 8}"/>'
        f'<text class="m" x="{x}" y="{TOP - 16}">{value:g}</text>'
    )


def _mark(x: float, y: float, mine: str, peer: str) -> str:
    """The colour says which of ours, the shape by whose."""
    if peer == RABBITMQ:
        return f'<circle cx="{x}" cy="{y}" r="4.5" fill="{_COLOURS[mine]}"/>'
    left, top = round(x - 4, 1), y - 4
    return f'<rect x="{left}" y="{top}" width="8" height="8" fill="none" stroke="{_COLOURS[mine]}" stroke-width="2"/>'


# --- growth

PANEL_WIDTH, PANEL_HEIGHT = 300, 210
PLOT_LEFT, PLOT_TOP, PLOT_WIDTH, PLOT_HEIGHT = 40, 36, 200, 130
PANELS_IN_A_ROW = 3
LABEL_HEIGHT = 11
MICROSECONDS = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_GROWTH_NAME = re.compile(r"growth/(\d+)-(.+)")
_GROWTH_STYLE = "polyline{fill:none;stroke-width:2}"


def growth_svg(results: Sequence[Result]) -> str:
    """A chart of the processor time for a message, for each thing that there is more and more of."""
    panels: dict[str, list[tuple[int, Result]]] = {}
    for result in results:
        if found := _GROWTH_NAME.fullmatch(result.name):
            panels.setdefault(found[2].replace("-", " "), []).append((int(found[1]), result))
    rows = -(-len(panels) // PANELS_IN_A_ROW)
    shown = [result for points in panels.values() for _, result in points]
    kinds = [kind for kind in _COLOURS if any(result.median(kind, CPU) for result in shown)]
    title = "Processor time of the broker for a message, in us (less is better)"
    parts = [*_head(PANEL_WIDTH * PANELS_IN_A_ROW, PANEL_HEIGHT * rows + 60, title)]
    parts.append(f"<style>{_GROWTH_STYLE}</style>")
    for number, kind in enumerate(kinds):
        x = 8 + number * 190
        words = _NAMES[kind] if kind in (RABBITMQ, RABBITMQ_4) else f"amqp-broker, {_NAMES[kind]}"
        parts.append(f'<rect x="{x}" y="37" width="18" height="4" fill="{_COLOURS[kind]}"/>')
        parts.append(f'<text x="{x + 24}" y="43">{escape(words)}</text>')
    bounds = _bounds([value for result in shown for kind in kinds if (value := result.median(kind, CPU))])
    for number, (what, points) in enumerate(panels.items()):
        left, top = number % PANELS_IN_A_ROW * PANEL_WIDTH, number // PANELS_IN_A_ROW * PANEL_HEIGHT + 56
        ordered = sorted(points, key=lambda point: point[0])
        parts += [f'<g transform="translate({left},{top})">', *_panel(what, ordered, kinds, bounds), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """Round figures around all values."""
    low = max([each for each in MICROSECONDS if each <= min(values, default=1)], default=MICROSECONDS[0])
    return low, min([each for each in MICROSECONDS if each >= max(values, default=1)], default=MICROSECONDS[-1])


def _panel(what: str, points: list[tuple[int, Result]], kinds: Sequence[str], bounds: tuple[float, float]) -> list[str]:
    low, high = bounds

    def height_of(value: float) -> float:
        part = math.log(min(max(value, low), high) / low) / math.log(high / low) if high > low else 0
        return round(PLOT_TOP + PLOT_HEIGHT * (1 - part), 1)

    across = [PLOT_LEFT + round(PLOT_WIDTH * at / max(1, len(points) - 1)) for at in range(len(points))]
    parts = [f'<text x="8" y="20">{escape(what)}</text>']
    for value in MICROSECONDS:
        if low <= value <= high:
            y = height_of(value)
            parts.append(f'<line class="g" x1="{PLOT_LEFT}" x2="{PLOT_LEFT + PLOT_WIDTH}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text class="n e" x="{PLOT_LEFT - 5}" y="{y + 3}">{value:g}</text>')
    for x, (count, _) in zip(across, points, strict=True):
        parts.append(f'<text class="n m" x="{x}" y="{PLOT_TOP + PLOT_HEIGHT + 15}">{count:,}</text>')
    ends: list[tuple[float, str, float]] = []
    for kind in kinds:
        medians = [result.median(kind, CPU) for _, result in points]
        seen = [(x, value) for x, value in zip(across, medians, strict=True) if value is not None]
        if seen:
            corners = " ".join(f"{x},{height_of(value)}" for x, value in seen)
            parts.append(f'<polyline points="{corners}" stroke="{_COLOURS[kind]}"/>')
            ends.append((height_of(seen[-1][1]), kind, seen[-1][1]))
    return [*parts, *_labels(ends)]


def _labels(ends: Sequence[tuple[float, str, float]]) -> list[str]:
    """The last value of each line beside its end; where lines end together, one below the other."""
    parts, lowest = [], 0.0
    for y, kind, value in sorted(ends):
        lowest = max(y, lowest + LABEL_HEIGHT)
        x = PLOT_LEFT + PLOT_WIDTH + 6
        parts.append(
            f'<text class="n" x="{x}" y="{round(lowest + 3, 1)}" style="fill:{_COLOURS[kind]}">{value:.1f}</text>'
        )
    return parts
