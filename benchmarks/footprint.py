"""What a broker takes before it does anything: the time to start, memory when idle, for a connection, for a channel.

Start-up and idle memory are those of a broker of its own, because the one that the other cells use has a past.
"""

from __future__ import annotations

import time

from benchmarks.brokers import RunningBroker, memory_bytes, running
from benchmarks.cells import Cell
from benchmarks.client import Client
from benchmarks.measuring import MEMORY, Figures, Timing

CONNECTIONS = 500
CHANNELS = 2_000
SETTLE_S = 1.0
START = "start_s"
KIBIBYTES = "kib_each"


def start_up(broker: RunningBroker, timing: Timing) -> Figures:
    """From the start of the process to the first answer, and its memory a second later."""
    with running(broker.kind) as fresh:
        time.sleep(SETTLE_S)
        return {START: fresh.start_s, MEMORY: memory_bytes(fresh.pid) / 1e6}


def connections(broker: RunningBroker, timing: Timing) -> Figures:
    """Memory for a connection with one channel."""
    with running(broker.kind) as fresh:
        time.sleep(SETTLE_S)
        before = memory_bytes(fresh.pid)
        clients = [Client(fresh.address) for _ in range(CONNECTIONS)]
        time.sleep(SETTLE_S)
        figures = {KIBIBYTES: (memory_bytes(fresh.pid) - before) / CONNECTIONS / 1024}
        for client in clients:
            client.socket.close()
        return figures


def channels(broker: RunningBroker, timing: Timing) -> Figures:
    """Memory for a channel, all on one connection."""
    with running(broker.kind) as fresh, Client(fresh.address) as one:
        time.sleep(SETTLE_S)
        before = memory_bytes(fresh.pid)
        with Client(fresh.address, CHANNELS):
            time.sleep(SETTLE_S)
            grown = memory_bytes(fresh.pid) - before
        one.delete(["nothing"])
        return {KIBIBYTES: grown / CHANNELS / 1024}


def cells() -> list[Cell]:
    """All cells of this table."""
    return [
        Cell("start-up", start_up),
        Cell("memory/connection", connections),
        Cell("memory/channel", channels),
    ]
