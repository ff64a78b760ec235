"""The picture of ``amqp-broker top``: lines of text, or numbers for programs, made of two looks at a broker.

Holds no terminal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from amqp_broker.cli.status import alarms_text
from amqp_broker.cli.tables import shortened, size_text

BOLD, REVERSE, PLAIN = "\x1b[1m", "\x1b[7m", "\x1b[0m"
NUMBERS = (("READY", 11), ("UNACKED", 9), ("CONS", 6), ("IN/s", 9), ("OUT/s", 9))
NUMBERS_WIDTH = sum(width for _, width in NUMBERS)
NAME_WIDTH_MIN = 12
LINES_MAX = 200  # no terminal shows more
OF_STATUS = ("version", "cluster_name", "uptime_s", "alarms", "memory", "disk", "counts")
OF_QUEUE = ("vhost", "name", "type", "messages_ready", "messages_unacknowledged", "consumers")
RATES = (
    ("publish", "publish"),
    ("deliver", "deliver_get"),
    ("ack", "ack"),
    ("redeliver", "redeliver"),
    ("drop", "drop_unroutable"),
)


@dataclass(frozen=True)
class Look:
    """A broker at a moment.

    Args:
        at_s: the moment, on a clock that only goes forward.
        wall_s: the same, in seconds since 1970.
        status: as the broker tells it.
        stats: what was counted over all, ever.
        queues: all of them.
    """

    at_s: float
    wall_s: float
    status: Mapping[str, Any]
    stats: Mapping[str, int]
    queues: Sequence[Mapping[str, Any]]


def lines_of(now: Look, before: Look | None, columns: int, lines: int, *, has_colour: bool = False) -> list[str]:
    """The picture, none of its lines longer than ``columns``, and not more than ``lines`` of them.

    Args:
        before: an earlier look, from which rates are; None at first.
        has_colour: whether headings are bold and alarms stand out.
    """
    bold, reverse, plain = (BOLD, REVERSE, PLAIN) if has_colour else ("", "", "")
    picture = []
    for line, style in _styled(now, before, columns, bold, reverse):
        text = line[:columns]
        picture.append(f"{style}{text}{plain}" if style else text)
    return picture[:lines]


def figures_of(now: Look, before: Look) -> dict[str, Any]:
    """The same as numbers: how the broker is, rates over all, and every queue with its own, the busiest first.

    Args:
        before: an earlier look, from which rates are.
    """
    rates = {key: _rate(now, before, now.stats[key], before.stats[key]) for _, key in RATES}
    return {
        "time": datetime.fromtimestamp(now.wall_s, UTC).isoformat(timespec="milliseconds"),
        **{name: now.status[name] for name in OF_STATUS},
        "rates": {name: _rounded(rate) for name, rate in rates.items()},
        "queues": [
            {
                **{name: one.row[name] for name in OF_QUEUE},
                "publish_rate": _rounded(one.in_per_s),
                "deliver_get_rate": _rounded(one.out_per_s),
            }
            for one in _busiest_first(now, before)
        ],
    }


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 1)


def _styled(now: Look, before: Look | None, columns: int, bold: str, reverse: str) -> Iterator[tuple[str, str]]:
    status, counts = now.status, now.status["counts"]
    title = f"amqp-broker {status['version']}  {status['cluster_name']}  up {_duration(status['uptime_s'])}"
    clock = time.strftime("%H:%M:%S", time.localtime(now.wall_s))
    yield title[: columns - len(clock) - 1].ljust(columns - len(clock)) + clock, bold
    memory, disk = status["memory"], status["disk"]
    used = f"memory {size_text(memory['used_bytes'])} of {size_text(memory['high_water_bytes'])}"
    free = f"   disk {size_text(disk['free_bytes'])} free" if disk is not None else ""
    yield used + free, ""
    if status["alarms"]:
        yield f"ALARM: {alarms_text(status)}: publishers are held back", reverse
    things = (f"{counts[name]:,} {name}" for name in ("connections", "channels", "consumers", "queues"))
    yield "   ".join(things), ""
    yield f"{counts['messages_ready']:,} ready   {counts['messages_unacknowledged']:,} unacknowledged", ""
    rates = [f"{title} {_rate_text(_rate(now, before, now.stats[key], _total(before, key)))}/s" for title, key in RATES]
    yield "  ".join(rates), ""
    yield "", ""
    yield from _table(now, before, columns, bold)


def _total(before: Look | None, key: str) -> int | None:
    return before.stats[key] if before is not None else None


def _table(now: Look, before: Look | None, columns: int, bold: str) -> Iterator[tuple[str, str]]:
    name_width = max(NAME_WIDTH_MIN, columns - NUMBERS_WIDTH)
    yield "QUEUE".ljust(name_width) + "".join(title.rjust(width) for title, width in NUMBERS), bold
    shown = _busiest_first(now, before)[:LINES_MAX]
    names = shortened([one.name for one in shown], name_width - 1)
    for name, one in zip(names, shown, strict=True):
        counts = [f"{one.ready:,}", f"{one.unacknowledged:,}", str(one.consumers)]
        cells = [*counts, _rate_text(one.in_per_s), _rate_text(one.out_per_s)]
        numbers = "".join(cell.rjust(width) for cell, (_, width) in zip(cells, NUMBERS, strict=True))
        yield name.ljust(name_width) + numbers, ""
    if not shown:
        yield "no queues yet: clients declare them", ""


def _busiest_first(now: Look, before: Look | None) -> list[_Queue]:
    earlier = {} if before is None else {(row["vhost"], row["name"]): row["message_stats"] for row in before.queues}
    found = [_Queue.of(row, earlier.get((row["vhost"], row["name"])), now, before) for row in now.queues]
    return sorted(found, key=lambda one: (-one.activity, -one.ready, one.name))


@dataclass(frozen=True)
class _Queue:
    row: Mapping[str, Any]
    name: str
    ready: int
    unacknowledged: int
    consumers: int
    in_per_s: float | None
    out_per_s: float | None

    @property
    def activity(self) -> float:
        return (self.in_per_s or 0.0) + (self.out_per_s or 0.0)

    @classmethod
    def of(cls, row: Mapping[str, Any], earlier: Mapping[str, int] | None, now: Look, before: Look | None) -> _Queue:
        ready, stats = row["messages_ready"], row["message_stats"]
        place = "" if row["vhost"] == "/" else f"{row['vhost']}/"
        mark = "! " if ready and not row["consumers"] and row["type"] != "stream" else ""
        name = f"{mark}{place}{row['name']}"
        return cls(
            row,
            name if name.isprintable() else repr(name)[1:-1],
            ready,
            row["messages_unacknowledged"],
            row["consumers"],
            _rate(now, before, stats["publish"], (earlier or {}).get("publish", 0) if before else None),
            _rate(now, before, stats["deliver_get"], (earlier or {}).get("deliver_get", 0) if before else None),
        )


def _rate(now: Look, before: Look | None, value: int, earlier: int | None) -> float | None:
    if before is None or earlier is None or now.at_s <= before.at_s:
        return None
    return max(0, value - earlier) / (now.at_s - before.at_s)


def _rate_text(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 10 or not rate else f"{rate:.1f}"


def _duration(seconds: float) -> str:
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{seconds:.0f} s"
