"""The task that writes traces to their files, in a thread, and what there is of such files.

A file that is as large as it may become is put aside as ``NAME.log.1``, in place of the one that was there; so a trace
takes at most twice its limit. What cannot be written is lost, and logged once until something can be written again.
Holds no lines and no traces (``broker/file_traces.py``).
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from amqp_broker.explanations import system_reason
from amqp_broker.logs import log_event

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.network.wake_up import WakeUp

FOLDER_NAME: Final = "traces"  # in the data folder
PUT_ASIDE: Final = ".1"
FILE_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.log(\.1)?")


async def write_traces(broker: Broker, folder: Path, has_lines: WakeUp) -> None:
    """Write whatever is traced, until cancelled; what is left then is written, too.

    Args:
        folder: for the files; made with the first one.
        has_lines: set when there is something to be written.
    """
    is_failing = False
    try:
        while True:
            await has_lines.wait()
            problem = await trio.to_thread.run_sync(_write, folder, broker.file_traces.take())
            if problem is not None and not is_failing:
                log_event(logging.ERROR, "trace not written", path=str(folder), reason=problem)
            is_failing = problem is not None
            await trio.lowlevel.checkpoint()
    finally:
        if broker.has_file_traces:
            _write(folder, broker.file_traces.take())


def _write(folder: Path, pieces: list[tuple[str, bytes, int]]) -> str | None:
    """Append to files; returns what went wrong."""
    problem = None
    for name, data, bytes_max in pieces:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = folder / name
            if path.exists() and path.stat().st_size + len(data) > bytes_max:
                path.replace(folder / (name + PUT_ASIDE))
            with path.open("ab") as file:
                file.write(data)
        except OSError as error:
            problem = system_reason(error)
    return problem


def trace_files(folder: Path) -> list[dict[str, object]]:
    """The files that there are: name and size in bytes."""
    try:
        found = [path for path in sorted(folder.iterdir()) if FILE_NAME.fullmatch(path.name)]
        return [{"name": path.name, "size": path.stat().st_size} for path in found]
    except OSError:
        return []  # none was written yet


def trace_file(folder: Path, name: str) -> Path | None:
    """A file of this name; None where there is none. No name leads out of the folder."""
    path = folder / name
    return path if FILE_NAME.fullmatch(name) and path.is_file() else None
