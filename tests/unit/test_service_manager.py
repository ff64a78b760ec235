"""What systemd is told (sd_notify(3)), on a socket of the test's own."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from amqp_broker import __version__
from amqp_broker.cli.announcements import node_ready
from amqp_broker.cli.serve_cluster import _serve
from amqp_broker.network.listeners import Endpoint
from amqp_broker.server.service_manager import ServiceManager
from tests.unit.in_trio import in_trio

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such sockets")


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def told(notified: socket.socket) -> list[str]:
    found = []
    try:
        while True:
            found.append(notified.recv(1000).decode().partition("\n")[0])
    except BlockingIOError:
        return found


def test_it_is_told_in_the_order_of_things(notified: socket.socket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": notified.getsockname()})
    manager.reloading()  # SIGHUP before it is ready: READY would be a lie
    manager.reloaded()
    manager.ready()
    manager.reloading()
    manager.reloaded()
    manager.stopping()
    assert told(notified) == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]


@in_trio
async def test_signs_of_life_come_twice_in_the_time_that_is_allowed(notified: socket.socket) -> None:
    environment = {
        "NOTIFY_SOCKET": notified.getsockname(),
        "WATCHDOG_USEC": "10000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    with trio.move_on_after(9):
        await ServiceManager(environment).keep_watchdog()
    assert told(notified) == ["WATCHDOG=1"] * 2


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "@nobody-listens-here"},
    ],
)
@in_trio
async def test_who_does_not_want_to_know_is_not_told(environment: dict[str, str]) -> None:
    manager = ServiceManager(environment)
    manager.ready()
    manager.stopping()
    await manager.keep_watchdog()


READY = partial(node_ready, cluster="shop", log_format="text")


class Node:
    """A node of a cluster that is there until a signal comes, as far as ``serve`` sees it."""

    def __init__(self, *, finds_etcd: bool = True) -> None:
        self._finds_etcd = finds_etcd
        self._ending = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[list[Endpoint]]) -> None:
        if self._finds_etcd:
            task_status.started([])
        await trio.testing.wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGTERM)
        await (self._ending if self._finds_etcd else trio.Event()).wait()

    def shut_down(self) -> None:
        self._ending.set()


def test_a_node_of_a_cluster_says_that_it_is_ready_alive_and_stopping(
    notified: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"NOTIFY_SOCKET": notified.getsockname(), "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": ""}
    node: Any = Node()
    trio.run(_serve, node, None, ServiceManager(environment), READY)
    assert told(notified) == ["READY=1", "WATCHDOG=1", "STOPPING=1"]
    build, last = capsys.readouterr().out.splitlines()
    assert build.startswith(f"amqp-broker {__version__}")
    assert last == "node of the cluster shop"


def test_a_signal_ends_a_node_that_waits_for_etcd(capsys: pytest.CaptureFixture[str]) -> None:
    node: Any = Node(finds_etcd=False)
    trio.run(_serve, node, None, ServiceManager({}), READY)
    assert capsys.readouterr().out == ""
