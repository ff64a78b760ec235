"""Three nodes and one etcd, as processes, under load: what is confirmed survives whatever is killed.

CLUSTER_ROUNDS in the environment says how often each thing is done to the owner (1 unless it is set).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.cluster.history import Consumer, History, Publisher, drain
from tests.support.cluster_processes import SERVED_TIMEOUT_S, ClusterOfThree, NodeProcess

ROUNDS = int(os.environ.get("CLUSTER_ROUNDS", "1"))


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
