"""Results as text and as JSON: one line a cell, ours beside RabbitMQ's, and the median of the ratios."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.brokers import COMPILED, OURS, RABBITMQ
from benchmarks.comparing import Result
from benchmarks.measuring import CPU, GENERATOR, MEMORY, P50, P99, P999, RATE
from interop.brokers import REPOSITORY

UNITS = {
    RATE: "messages/s",
    CPU: "CPU us a message",
    GENERATOR: "generators' own CPU us a message",
    P50: "p50 us",
    P99: "p99 us",
    P999: "p99.9 us",
    MEMORY: "memory MB",
}
_SHORT = {RATE: "msg/s", CPU: "cpu us", P50: "p50 us", P99: "p99 us", P999: "p99.9 us", MEMORY: "MB"}
_GENERATOR_TITLE = "gen us"


def tables(results: Sequence[Result]) -> str:
    """Markdown tables, one for all cells of which the same was measured."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(_all_figures([result])), []).append(result)
    return "\n\n".join(map(_table, groups.values()))


def _table(results: Sequence[Result]) -> str:
    """Of each figure: ours (and the compiled build's, if measured), RabbitMQ's, and ours by RabbitMQ's."""
    kinds = kinds_of(results)
    shown = [figure for figure in _all_figures(results) if figure != GENERATOR]
    titles = ["cell"]
    for figure in shown:
        name = _SHORT.get(figure, figure.replace("_", " "))
        builds = [name if kind == OURS else f"{name}, compiled" for kind in kinds]
        titles += [*builds, "RabbitMQ", *("ratio" if kind == OURS else "compiled" for kind in kinds)]
    rows = [[result.name, *_cells_of(result, shown, kinds)] for result in results]
    if GENERATOR in _all_figures(results):
        titles.append(_GENERATOR_TITLE)
        rows = [[*row, _number(each.median(kinds[0], GENERATOR))] for row, each in zip(rows, results, strict=True)]
    return "\n".join(_aligned([titles, *rows]) + _failures(results))


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
                kind: {figure: result.ratio(figure, kind) for figure in _all_figures([result])}
                for kind in kinds_of([result])
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
    }


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


def _cells_of(result: Result, figures: list[str], kinds: list[str]) -> list[str]:
    shown = []
    for figure in figures:
        shown += [_number(result.median(kind, figure)) for kind in (*kinds, RABBITMQ)]
        ratios = [result.ratio(figure, kind) for kind in kinds]
        shown += ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
    return shown


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
    return ["", "Failed:", *failed] if failed else []
