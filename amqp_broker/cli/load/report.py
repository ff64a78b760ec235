"""The report on a load: a line a second while it runs, and all of it at the end, for people or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amqp_broker.cli.load.figures import (
    CONFIRMED,
    CONFIRMS,
    CONSUMED,
    DELIVERIES,
    PUBLISHED,
    REFUSED,
    Figures,
    difference,
    percentile_ms,
)

SHARES = (("median", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))


@dataclass(frozen=True)
class Picture:
    """The figures of a load at a moment."""

    at_s: float
    published: int
    confirmed: int
    refused: int
    consumed: int
    confirm_times: Sequence[int]
    delivery_times: Sequence[int]

    @classmethod
    def of(cls, at_s: float, publishers: Figures, consumers: Figures) -> Picture:
        """The present one."""
        return cls(
            at_s,
            publishers[PUBLISHED],
            publishers[CONFIRMED],
            publishers[REFUSED],
            consumers[CONSUMED],
            publishers.times(CONFIRMS),
            consumers.times(DELIVERIES),
        )


def line(now: Picture, before: Picture, *, confirms: bool) -> str:
    """One line, of what happened between two moments; at most 80 columns."""
    took_s = now.at_s - before.at_s or 1.0
    parts = [f"{now.at_s:5.0f} s", f"published {(now.published - before.published) / took_s:,.0f}/s"]
    if confirms:
        parts.append(f"confirmed {(now.confirmed - before.confirmed) / took_s:,.0f}/s")
    parts.append(f"consumed {(now.consumed - before.consumed) / took_s:,.0f}/s")
    times = difference(now.delivery_times, before.delivery_times)
    median, longest = percentile_ms(times, 0.5), percentile_ms(times, 0.99)
    if median is not None and longest is not None:
        parts.append(f"{_ms(median)}, p99 {_ms(longest)}")
    return "  ".join(parts)


def summary(end: Picture, published_for_s: float) -> dict[str, Any]:
    """All of it, as JSON.

    Args:
        published_for_s: how long was published; what came afterwards is counted, and not the time that it took.
    """
    result: dict[str, Any] = {
        "seconds": round(published_for_s, 3),
        "published": end.published,
        "confirmed": end.confirmed,
        "refused": end.refused,
        "consumed": end.consumed,
        "published_per_s": round(end.published / published_for_s, 1),
        "consumed_per_s": round(end.consumed / (end.at_s or 1.0), 1),
    }
    for name, times in (("latency_ms", end.delivery_times), ("confirm_ms", end.confirm_times)):
        found = {title: percentile_ms(times, share) for title, share in SHARES}
        result[name] = {title: round(ms, 3) for title, ms in found.items() if ms is not None}
    return result


def summary_lines(said: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = [
        f"published  {said['published']:>12,}  {said['published_per_s']:>12,.0f}/s",
        f"consumed   {said['consumed']:>12,}  {said['consumed_per_s']:>12,.0f}/s",
    ]
    if said["confirmed"] or said["refused"]:
        lines.append(f"confirmed  {said['confirmed']:>12,}  refused {said['refused']:,}")
    for title, name in (("latency", "latency_ms"), ("confirms", "confirm_ms")):
        if said[name]:
            lines.append(f"{title:<10} " + "  ".join(f"{which} {_ms(value)}" for which, value in said[name].items()))
    return lines


def _ms(value: float) -> str:
    return f"{value:.2f} ms" if value < 10 else f"{value:,.0f} ms"
