"""``amqp-broker status``: how a running broker is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer

from amqp_broker.cli import control, options
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.cli.tables import size_text, titled

TITLE_WIDTH = 15

application = typer.Typer(add_completion=False, rich_markup_mode=None)


@application.command(epilog=EPILOG)
def status(as_json: control.Json = False, data_dir: options.DataDir = None, config: options.ConfigFile = None) -> None:
    """Show how a running broker is: where it listens, what it has, what it uses, and what is running out.

    \b
    amqp-broker status
    amqp-broker status --json | jq .alarms
    """
    said = control.ask(data_dir, config, "status")
    if as_json:
        print(json.dumps(said, indent=2))
        return
    for name, text in _lines(said):
        print(titled(name, text, TITLE_WIDTH))


def alarms_text(said: Mapping[str, Any]) -> str:
    """What is running out; empty for nothing."""
    store = said.get("store")  # not with a broker of an earlier release
    names = {"disk": f"{store['name']}'s quota"} if store is not None and store["is_low"] else {}
    return ", ".join(names.get(name, name) for name in said["alarms"])


def _lines(said: dict[str, Any]) -> list[tuple[str, str]]:
    counts, memory, disk, descriptors = said["counts"], said["memory"], said["disk"], said["descriptors"]
    lines = [
        ("version", said["version"] + (" (compiled)" if said["is_compiled"] else "")),
        ("running", f"{_duration(said['uptime_s'])}, process {said['pid']}"),
        *(("listening", where) for where in said["listeners"]),
        ("data", said["data_folder"] or "kept nowhere"),
        ("alarms", alarms_text(said) or "none"),
        (
            "memory",
            f"{size_text(memory['used_bytes'])} used of {size_text(memory['available_bytes'])}, "
            f"{memory['available_by']}: messages go to disk above {size_text(memory['budget_bytes'])}, "
            f"publishers wait above {size_text(memory['high_water_bytes'])}",
        ),
        (
            "disk",
            f"{size_text(disk['free_bytes'])} free, publishers wait below {size_text(disk['limit_bytes'])}"
            if disk is not None
            else "not used",
        ),
        ("descriptors", f"{descriptors['used']} of {descriptors['limit'] or 'any number'} used"),
    ]
    counted = ("virtual_hosts", "connections", "channels", "queues", "consumers", "exchanges")
    lines += [(name.replace("_", " "), str(counts[name])) for name in counted]
    ready, unacknowledged = counts["messages_ready"], counts["messages_unacknowledged"]
    lines.append(("messages", f"{ready} ready, {unacknowledged} unacknowledged"))
    return lines


def _duration(seconds: float) -> str:
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{seconds:.0f} s"
