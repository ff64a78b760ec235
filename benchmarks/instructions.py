"""`python -m benchmarks.instructions TREE ...`: how many instructions the synchronous core needs for a message.

Seconds depend on the machine and on what else it does; the number of instructions of the same build nearly does not, so
a difference of one in a hundred can be seen on a busy machine. It is no time: waiting for memory does not count. The
load is `core.py`'s. valgrind's callgrind counts it twice, the second time with twice as much to do, and the difference
is what is shown: the start of the interpreter is in both. A tree is as for `before_after.py`; with several, the
last column is the last one's figure divided by the first one's.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.before_after import tree
from benchmarks.core import WAYS

CHUNK_MESSAGES = (1, 100)
CHUNKS = {1: 300, 100: 10}  # enough for a figure that differs by less than one in a hundred from run to run
COUNTED = re.compile(r"Collected : (\d+)")
REPOSITORY = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Count; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("trees", metavar="TREE", type=tree, nargs="*", default=[REPOSITORY], help="(default: this one)")
    parser.add_argument("--way", choices=WAYS, action="append", help="which load (default: all)")
    options = parser.parse_args(arguments)
    if shutil.which("valgrind") is None:
        print("valgrind counts the instructions, and is not installed (Debian: apt install valgrind)", file=sys.stderr)
        return 2
    for way in options.way or WAYS:
        for messages in CHUNK_MESSAGES:
            figures = [instructions(path, way, messages) for path in options.trees]
            ratio = f"{figures[-1] / figures[0]:8.3f}" if len(figures) > 1 else ""
            counts = " ".join(f"{figure:9,.0f}" for figure in figures)
            print(f"{way:12} {messages:4} a chunk {counts} {ratio}", flush=True)
    return 0


def instructions(path: Path, way: str, messages: int) -> float:
    """The instructions for one message, where so many come in a chunk."""
    chunks = CHUNKS[messages]
    return (_count(path, way, messages, 2 * chunks) - _count(path, way, messages, chunks)) / (messages * chunks)


def _count(path: Path, way: str, messages: int, chunks: int) -> int:
    """The instructions of a process that puts so many chunks through the core."""
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": f"{path}{os.pathsep}{REPOSITORY}",
    }
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    command += ["-m", "benchmarks.core", way, str(messages), str(chunks)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    counted = COUNTED.search(ran.stderr)
    if ran.returncode or counted is None:
        raise RuntimeError(f"the load failed in {path}:\n{ran.stderr[-2000:]}")
    return int(counted[1])


if __name__ == "__main__":
    sys.exit(main())
