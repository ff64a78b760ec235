"""Three nodes and one etcd, as processes, under load: what is confirmed survives whatever is killed.

CLUSTER_ROUNDS in the environment says how often each thing is done to the owner (1 unless it is set).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interop.brokers import our_environment
from tests.cluster.history import Consumer, History, Publisher, drain
from tests.support.etcd_process import ETCD, EtcdMember, free_ports, one_member

ROUNDS = int(os.environ.get("CLUSTER_ROUNDS", "1"))
SERVED_TIMEOUT_S = 60.0


class NodeProcess:
    """One node as a process."""

    def __init__(self, folder: Path, name: str, etcd_port: int, port: int, link_port: int) -> None:
        self.name = name
        self.port = port
        self._folder = folder
        self._command = [
            *(sys.executable, "-m", "amqp_broker", "serve", "--host", "127.0.0.1", "--port", str(port)),
            *("--data-dir", str(folder / name), "--node-name", name),
            *("--cluster", f"etcd://127.0.0.1:{etcd_port}/test"),
        ]
        self._environment = {
            **our_environment(),
            "AMQP_BROKER_CLUSTER_SECRET": "secret of the test",
            "AMQP_BROKER_LINK_PORT": str(link_port),
        }
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)

    @property
    def log(self) -> str:
        return (self._folder / f"{self.name}.log").read_text()

    def epochs(self) -> list[int]:
        """Those in which it has owned the broker."""
        lines = [line for line in self.log.splitlines() if "event=owner " in line]
        return [int(line.rpartition("epoch=")[2].split()[0]) for line in lines]

    def end(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        return self.process.wait(30)


class ClusterOfThree:
    """Three nodes, and which of them owns the broker, as their logs say."""

    def __init__(self, folder: Path) -> None:
        self.etcd: EtcdMember = one_member(folder / "etcd")
        ports = free_ports(6)
        self.nodes = [
            NodeProcess(folder, name, self.etcd.client_port, ports[place], ports[place + 3])
            for place, name in enumerate("abc")
        ]
        self._ownerships = 0

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    def wait_for_owner(self) -> NodeProcess:
        """The node that has taken over since this was asked last."""
        deadline_s = time.monotonic() + SERVED_TIMEOUT_S
        while sum(len(node.epochs()) for node in self.nodes) <= self._ownerships:
            assert time.monotonic() < deadline_s, [node.log[-2000:] for node in self.nodes]
            time.sleep(0.02)
        self._ownerships = sum(len(node.epochs()) for node in self.nodes)
        return max((epoch, node.name, node) for node in self.nodes for epoch in node.epochs())[2]

    def end(self) -> None:
        for node in self.nodes:
            if node.process.poll() is None:
                node.end()
        self.etcd.kill()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterOfThree]:
    if ETCD is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    cluster = ClusterOfThree(tmp_path)
    yield cluster
    cluster.end()


def kill(cluster: ClusterOfThree, owner: NodeProcess) -> NodeProcess:
    owner.end()
    successor = cluster.wait_for_owner()
    owner.start()
    return successor


def step_down(cluster: ClusterOfThree, owner: NodeProcess) -> NodeProcess:
    assert owner.end(signal.SIGTERM) == 0
    successor = cluster.wait_for_owner()
    owner.start()
    return successor


def pause(cluster: ClusterOfThree, owner: NodeProcess) -> NodeProcess:
    """Longer than its lease lives: when it goes on, it must not speak for the broker."""
    owner.process.send_signal(signal.SIGSTOP)
    successor = cluster.wait_for_owner()
    owner.process.send_signal(signal.SIGCONT)
    return successor


def restart_etcd(cluster: ClusterOfThree, owner: NodeProcess) -> NodeProcess:
    cluster.etcd.kill()
    time.sleep(0.3)
    cluster.etcd.start()
    cluster.etcd.wait_until_ready()
    return owner


@pytest.mark.slow
def test_nothing_confirmed_is_lost(cluster: ClusterOfThree) -> None:
    owner = cluster.wait_for_owner()
    history = History()
    clients = [Publisher(history, cluster.ports, 1), Publisher(history, cluster.ports, 2)]
    consumer = Consumer(history, cluster.ports, 3)
    for client in (*clients, consumer):
        client.start()
    disturbances: list[Callable[[ClusterOfThree, NodeProcess], NodeProcess]] = [kill, pause, step_down, restart_etcd]
    for disturb in disturbances * ROUNDS:
        wait_for_confirms(history, 100)
        owner = disturb(cluster, owner)
    wait_for_confirms(history, 100)
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join(60)
    consumer.stopping.set()
    consumer.join(60)
    drain(history, cluster.ports, 60)
    print(f"{len(history.confirmed)} confirmed, longest time without a confirm {history.longest_gap_s:.2f} s")  # noqa: T201
    assert history.check() == []


def wait_for_confirms(history: History, count: int) -> None:
    """Until so many more publishes were confirmed: the broker serves."""
    wanted, deadline_s = len(history.confirmed) + count, time.monotonic() + SERVED_TIMEOUT_S
    while len(history.confirmed) < wanted:
        assert time.monotonic() < deadline_s, f"no confirm for {SERVED_TIMEOUT_S} s"
        time.sleep(0.02)
