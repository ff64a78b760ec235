"""Very many delayed messages, looked at over HTTP: how long each look takes, and the longest turn of the broker's loop.

    .venv/bin/python -m benchmarks.delayed_pages --count 200000

A turn is what one task does until others have theirs; what counts is its processor time, so that it is the same on a
busy machine. The messages are held for one to a hundred hours, as of ``delayed.py``, and lie in the journal.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import sys
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from amqp_broker.cli import main as serve
from benchmarks.client import Client
from benchmarks.delayed import BODY_BYTES, HOUR_MS, prepare, send
from benchmarks.watched import LATENESS_FILE, Lateness
from interop.brokers import OurBroker, free_ports

LOOK = "x/delayed/%2F/later"
PAGE = 500
NOTHING = "search=nothing-has-this"


class Turns(trio.abc.Instrument):
    """Notes the processor time of the longest turn."""

    def __init__(self, longest: Lateness) -> None:
        self._longest = longest
        self._began_ns = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began_ns = time.thread_time_ns()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._longest.note(time.thread_time_ns() - self._began_ns)


class _Timed(OurBroker):
    module = "benchmarks.delayed_pages"


def ask(port: int, path: str, method: str = "GET", body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request; returns what it answers."""
    login = base64.b64encode(b"guest:guest").decode()
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/{path}", data, {"Authorization": f"Basic {login}"}, method=method
    )
    with urllib.request.urlopen(request) as answer:
        return {**json.loads(answer.read())}


def all_pages(port: int, query: str) -> str:
    """Look through all that is held, page by page."""
    after, shown, looks, longest_s = "", 0, 0, 0.0
    while True:
        began_s = time.monotonic()
        found = ask(port, f"{LOOK}?{query}&after={after}")
        longest_s = max(longest_s, time.monotonic() - began_s)
        shown, looks = shown + len(found["messages"]), looks + 1
        if found["next"] is None:
            return f"{shown} shown in {looks} looks, the longest {longest_s * 1000:.0f} ms"
        after = found["next"]


def main() -> None:
    """Hold them, look at them, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200_000)
    count, port = parser.parse_args().count, free_ports(1)[0]
    delays = random.Random(1)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "longest"
        Lateness.make(path)
        environment = {LATENESS_FILE: str(path), "AMQP_BROKER_MANAGEMENT_PORT": str(port)}
        longest, broker = Lateness(path), _Timed(environment=environment)
        try:
            with Client(broker.address) as client:
                prepare(client)
                send(client, [(b"x" * BODY_BYTES, delays.randrange(HOUR_MS, 100 * HOUR_MS)) for _ in range(count)])
            ask(port, "overview")
            all_of_them = {"limit": 10**12}
            steps: dict[str, Callable[[], object]] = {
                "the first 50": lambda: len(ask(port, f"{LOOK}?limit=50")["messages"]),
                f"all, {PAGE} a look": lambda: all_pages(port, f"limit={PAGE}"),
                "a search that finds nothing": lambda: all_pages(port, NOTHING),
                "counting all": lambda: ask(port, LOOK, "DELETE", {**all_of_them, "dry_run": True})["done"],
                "cancelling all": lambda: ask(port, LOOK, "DELETE", all_of_them)["done"],
            }
            for name, step in steps.items():
                longest.reset()
                began_s = time.monotonic()
                told = step()
                took_s = time.monotonic() - began_s
                print(f"{name}: {took_s:.2f} s, longest turn {longest.longest_ns / 1e6:.1f} ms ({told})", flush=True)
        finally:
            broker.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        turns = Turns(Lateness(Path(os.environ[LATENESS_FILE])))
        trio.run = partial(trio.run, instruments=[turns])  # type: ignore[assignment]  # what runs does not know of it
        serve()
    else:
        main()
