"""``amqp-broker top``: a running broker, live on a terminal.

Plain ANSI: the picture is drawn anew in place, as wide and as high as the terminal is at that moment. For programs the
same as lines of JSON. What is on it is ``top_picture.py``'s.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options
from amqp_broker.cli.exit_codes import EPILOG, ExitCode
from amqp_broker.cli.top_picture import Look, figures_of, lines_of

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # a screen of its own, without a cursor
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
ONCE_S = 1.0  # rates need two looks
ONCE_LINES = 24

application = typer.Typer(add_completion=False, rich_markup_mode=None)


@application.command(epilog=EPILOG)
def top(
    once: Annotated[bool, typer.Option("--once", help="Print one picture, with the rates of one second.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.2, max=3600, help="Look as often.")
    ] = 2.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, for programs: a line at each interval, or one with --once.")
    ] = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Show a running broker live: memory, disk, rates, and the queues in which most happens. Ctrl-C ends it.

    IN and OUT are messages a second. A queue that holds messages and has no consumer is marked with "!". Where the
    output is no terminal, take --once or --json.

    \b
    amqp-broker top
    amqp-broker top --interval 5
    amqp-broker top --once
    amqp-broker top --once --json | jq '.queues[] | select(.consumers == 0).name'
    amqp-broker top --json --interval 10 >> figures.jsonl
    """

    def look() -> Look:
        return _look(data_dir, config)

    if as_json:
        _print_figures(look, ONCE_S if once else interval, is_once=once)
    elif once:
        before = look()
        time.sleep(ONCE_S)
        columns = shutil.get_terminal_size().columns
        print("\n".join(lines_of(look(), before, columns, ONCE_LINES)))
    elif sys.stdout.isatty():
        _draw(look, interval)
    else:
        options.fail(ExitCode.WRONG_USE, "the output is no terminal: take --once, or --json for programs")


def _look(data_dir: str | None, config: Path | None) -> Look:
    status: dict[str, Any] = control.ask(data_dir, config, "status")
    rows = control.ask_list(data_dir, config, "queues.list")
    stats: dict[str, int] = control.ask(data_dir, config, "broker.stats")
    return Look(time.monotonic(), time.time(), status, stats, rows)


def _print_figures(look: Callable[[], Look], interval_s: float, *, is_once: bool) -> None:
    before = look()
    try:
        while True:
            time.sleep(interval_s)
            now = look()
            print(json.dumps(figures_of(now, before)), flush=True)
            if is_once:
                return
            before = now
    except KeyboardInterrupt:
        return


def _draw(look: Callable[[], Look], interval_s: float) -> None:
    before: Look | None = None
    sys.stdout.write(ENTER)
    try:
        while True:
            now, size = look(), shutil.get_terminal_size()
            picture = lines_of(now, before, size.columns, size.lines, has_colour="NO_COLOR" not in os.environ)
            sys.stdout.write(HOME + "\n".join(line + REST_OF_LINE for line in picture) + REST_OF_SCREEN)
            sys.stdout.flush()
            before = now
            time.sleep(interval_s)
    except KeyboardInterrupt:
        return
    except typer.Exit:  # why, stands on the screen that is gone now
        reason = "the broker does not answer any more"
    finally:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
    options.fail(ExitCode.NOT_RUNNING, reason)
