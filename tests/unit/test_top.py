"""The picture of ``amqp-broker top``: what is on it, in the width and height that there is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from amqp_broker.cli.top_picture import Look, figures_of, lines_of


def queue(name: str, ready: int = 0, consumers: int = 1, published: int = 0, delivered: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "vhost": "/",
        "messages_ready": ready,
        "messages_unacknowledged": 0,
        "type": "classic",
        "consumers": consumers,
        "message_stats": {"publish": published, "deliver_get": delivered},
    }


def look(at_s: float, *queues: dict[str, Any], published: int = 0, alarms: tuple[str, ...] = ()) -> Look:
    names = ("connections", "channels", "consumers", "queues", "messages_ready", "messages_unacknowledged")
    status = {
        "version": "1.2",
        "cluster_name": "orders",
        "uptime_s": 3700.0,
        "alarms": alarms,
        "memory": {"used_bytes": 50_000_000, "high_water_bytes": 10**10},
        "disk": {"free_bytes": 10**11},
        "counts": dict.fromkeys(names, 1_234_567),
    }
    stats = {
        **dict.fromkeys(("publish", "deliver_get", "ack", "redeliver", "drop_unroutable"), 0),
        "publish": published,
    }
    return Look(at_s, 0.0, status, stats, queues)


def test_an_alarm_of_etcd_is_not_said_to_be_the_disks() -> None:
    now, store = look(1.0, alarms=("memory", "disk")), {"name": "etcd", "is_low": True}
    now = replace(now, status={**now.status, "store": store})
    assert any(line.startswith("ALARM: memory, etcd's quota: ") for line in lines_of(now, None, 80, 24))
    store["is_low"] = False
    assert any(line.startswith("ALARM: memory, disk: ") for line in lines_of(now, None, 80, 24))


def test_the_busiest_queue_is_first_and_one_without_consumers_is_marked() -> None:
    before = look(10.0, queue("idle", ready=7, consumers=0), queue("busy"))
    now = look(12.0, queue("idle", ready=7, consumers=0), queue("busy", published=100, delivered=50), published=100)
    picture = lines_of(now, before, 80, 24)
    assert "publish 50/s" in picture[4]
    heading = next(number for number, line in enumerate(picture) if line.startswith("QUEUE"))
    assert picture[heading + 1].split() == ["busy", "0", "0", "1", "50", "25"]
    assert picture[heading + 2].split() == ["!", "idle", "7", "0", "0", "0", "0"]


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("before", [None, look(0.0)])
def test_no_line_is_longer_than_the_terminal_is_wide(columns: int, before: Look | None) -> None:
    names = ["n" * 255, "\x1b[2J", "\u202eright to left", "é" * 60, "q"]
    picture = lines_of(look(1.0, *map(queue, names), alarms=("memory",)), before, columns, 24)
    assert all(len(line) <= columns for line in picture)
    assert "\x1b" not in "".join(picture)
    assert any(line.startswith("ALARM: memory") for line in picture)


def test_no_more_lines_than_there_is_room() -> None:
    queues = [queue(f"q{number}") for number in range(10_000)]
    picture = lines_of(look(1.0, *queues), None, 80, 24, has_colour=True)
    assert len(picture) == 24
    assert picture[0].startswith("\x1b[1mamqp-broker 1.2  orders  up 1 h 1 min")


def test_programs_get_the_same_as_numbers_and_every_queue() -> None:
    before = look(10.0, queue("busy"))
    now = look(12.0, *[queue(f"q{n}") for n in range(300)], queue("busy", published=101, delivered=50), published=100)
    figures = figures_of(now, before)
    assert figures["rates"] == {"publish": 50, "deliver_get": 0, "ack": 0, "redeliver": 0, "drop_unroutable": 0}
    assert len(figures["queues"]) == 301
    assert figures["queues"][0] == {
        "vhost": "/",
        "name": "busy",
        "type": "classic",
        "messages_ready": 0,
        "messages_unacknowledged": 0,
        "consumers": 1,
        "publish_rate": 50.5,
        "deliver_get_rate": 25.0,
    }
    assert figures["memory"] == {"used_bytes": 50_000_000, "high_water_bytes": 10**10}
    assert figures["time"] == "1970-01-01T00:00:00.000+00:00"


def test_an_empty_broker_says_what_is_to_be_done() -> None:
    assert lines_of(look(1.0), None, 80, 24)[-1] == "no queues yet: clients declare them"
