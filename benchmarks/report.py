"""Results as text and as JSON: a table for each figure, a line for each cell, ours beside RabbitMQ's and by it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.brokers import COMPILED, OURS, PEERS, RABBITMQ, RABBITMQ_4
from benchmarks.comparing import Result
from benchmarks.counters import CYCLES, INSTRUCTIONS, are_counted
from benchmarks.footprint import KIBIBYTES, START
from benchmarks.measuring import BUSY, CPU, GENERATOR, LATENESS, LONGEST, MEMORY, P50, P99, P999, RATE, TOOK
from interop.brokers import REPOSITORY, Installation

UNITS = {
    RATE: "Messages a second",
    CPU: "The broker's processor time for a message, us",
    GENERATOR: "The load's own",
    INSTRUCTIONS: "The broker's instructions for a message",
    CYCLES: "The broker's cycles for a message",
    P50: "p50, us",
    P99: "p99, us",
    P999: "p99.9, us",
    MEMORY: "Memory, MB",
    LONGEST: "The longest that another client waited, ms",
    LATENESS: "The longest that our event loop was late, ms",
    BUSY: "The most processor time of our event loop in one turn, ms",
    TOOK: "How long the large thing took, ms",
    START: "From the start of the process to its first answer, s",
    KIBIBYTES: "Memory of each, KiB",
}
NAMES = {OURS: "here", COMPILED: "compiled", RABBITMQ: "RabbitMQ 3.10", RABBITMQ_4: "RabbitMQ 4.0"}


def tables(results: Sequence[Result]) -> str:
    """Markdown tables: of all cells of which the same was measured, one for each figure."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(_all_figures([result])), []).append(result)
    shown = [_table(group, figure) for figures, group in groups.items() for figure in figures if figure != GENERATOR]
    return "\n\n".join([*shown, *_failures(results)])


def _table(results: Sequence[Result], figure: str) -> str:
    """One figure of each broker of which it was measured, and each of ours by each RabbitMQ's."""
    kinds = [kind for kind in NAMES if any(result.median(kind, figure) is not None for result in results)]
    pairs = [(mine, peer) for peer in kinds if peer in PEERS for mine in kinds if mine not in PEERS]
    names = [NAMES[kind] for kind in kinds]
    ratios = [f"{NAMES[mine]} / {NAMES[peer].rpartition(' ')[2]}" for mine, peer in pairs]
    rows = [["cell", *names, *ratios]]
    for result in results:
        found = [result.ratio(figure, mine, peer) for mine, peer in pairs]
        medians = [_number(result.median(kind, figure)) for kind in kinds]
        rows.append([result.name, *medians, *("" if ratio is None else f"{ratio:.2f}" for ratio in found)])
    if figure == CPU and GENERATOR in _all_figures(results):
        rows[0].append(UNITS[GENERATOR])
        for row, result in zip(rows[1:], results, strict=True):
            row.append(_number(result.median(kinds[0], GENERATOR)))
    return "\n".join([f"{UNITS.get(figure, figure.replace('_', ' '))}:", "", *_aligned(rows)])


def to_json(results: Sequence[Result], circumstances: dict[str, str], options: dict[str, Any]) -> str:
    """Everything that was measured, and where."""
    cells = [
        {
            "name": result.name,
            "table": result.table,
            "median": {
                kind: {figure: result.median(kind, figure) for figure in figures[0]}
                for kind, figures in result.rounds.items()
            },
            "median_of_ratios": {
                peer: {
                    kind: {figure: result.ratio(figure, kind, peer) for figure in _all_figures([result])}
                    for kind in kinds_of([result])
                }
                for peer in PEERS
                if peer in result.rounds
            },
            "rounds": result.rounds,
            "failures": result.failures,
        }
        for result in results
    ]
    return json.dumps({"circumstances": circumstances, "options": options, "cells": cells}, indent=1)


def from_json(texts: Sequence[str]) -> tuple[list[Result], dict[str, str]]:
    """What earlier runs measured, several of them together: rounds of the same cell are added up.

    Returns:
        The results, and the circumstances of the last run.
    """
    results: dict[str, Result] = {}
    found: dict[str, str] = {}
    for text in texts:
        run = json.loads(text)
        found = run["circumstances"]
        for cell in run["cells"]:
            result = results.setdefault(cell["name"], Result(cell["name"], cell["table"]))
            result.failures |= cell["failures"]
            for kind, rounds in cell["rounds"].items():
                result.rounds.setdefault(kind, []).extend(rounds)
    return list(results.values()), found


def circumstances() -> dict[str, str]:
    """What was measured, where and when."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": f"{os.cpu_count()} x {_processor()}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "ours": _said(["git", "-C", str(REPOSITORY), "rev-parse", "--short=12", "HEAD"]),
        "rabbitmq": _said(["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"]),
        **_version_in(PEERS[RABBITMQ_4]()),
        **({} if are_counted() else {INSTRUCTIONS: "are not counted here"}),
    }


def _version_in(installation: Installation | None) -> dict[str, str]:
    """The version of a RabbitMQ that has a root folder of its own."""
    if installation is None or installation.root is None:
        return {}
    said = _said(["chroot", str(installation.root), "dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"])
    return {RABBITMQ_4: said}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _all_figures(results: Sequence[Result]) -> list[str]:
    """Every figure that some round has, the usual ones first."""
    found = {name for result in results for rounds in result.rounds.values() for each in rounds for name in each}
    return [*(name for name in UNITS if name in found), *sorted(found - UNITS.keys())]


def kinds_of(results: Sequence[Result]) -> list[str]:
    """Which builds of ours were measured, the one as it stands first; that one as well where nothing was."""
    measured = [kind for kind in (OURS, COMPILED) if any(kind in result.rounds for result in results)]
    return measured or [OURS]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        first, *others = (
            text.ljust(width) if not column else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("| " + " | ".join((first, *others)) + " |")
        if not number:
            lines.append(
                "|" + "|".join("-" * (width + 1) + (":" if at else "-") for at, width in enumerate(widths)) + "|"
            )
    return lines


def _failures(results: Sequence[Result]) -> list[str]:
    failed = [f"- {each.name}, {kind}: {why}" for each in results for kind, why in each.failures.items()]
    return ["\n".join(["Failed:", "", *failed])] if failed else []
