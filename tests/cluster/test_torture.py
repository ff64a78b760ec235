"""Three nodes and three members of etcd, as processes, under load: what is confirmed survives whatever is done to them.

``make cluster-torture ROUNDS=10`` does everything that often; without CLUSTER_ROUNDS in the environment this is left
out. Partitions need the rights of root. Where libfaketime is installed, the clocks of the nodes jump, too.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.disturbances import CUTS, PROCESSES, Disturbance
from tests.cluster.history import History
from tests.cluster.traffic import Traffic
from tests.support import namespaces
from tests.support.cluster_processes import SERVED_TIMEOUT_S, ClusterOfThree
from tests.support.etcd_process import ETCD
from tests.support.namespaces import Network

ROUNDS = int(os.environ.get("CLUSTER_ROUNDS", "0"))
SEED = int(os.environ.get("CLUSTER_SEED", "0")) or random.randrange(1, 1_000_000)
MACHINES = [*(f"etcd{number}" for number in range(3)), *"abc"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)"),
    pytest.mark.skipif(ROUNDS == 0, reason="takes minutes: make cluster-torture"),
]


@pytest.fixture
def network() -> Iterator[Network | None]:
    if not namespaces.are_possible():
        yield None
        return
    network = Network(MACHINES)
    yield network
    network.close()


def test_nothing_confirmed_is_lost(tmp_path: Path, network: Network | None) -> None:
    chance = random.Random(SEED)
    cluster = ClusterOfThree(tmp_path, 3, network)
    try:
        cluster.owner()
        history = History()
        traffic = Traffic(history, cluster.addresses)
        wait_for_confirms(history, 100)
        for number in range(ROUNDS):
            disturbances = PROCESSES + (CUTS if network is not None else [])
            for disturb in chance.sample(disturbances, len(disturbances)):
                report(f"{number + 1}: {disturb_and_wait(cluster, history, disturb, chance)}")
        traffic.end(60)
        report(f"{len(history.confirmed)} confirmed; seed {SEED}")
        assert history.check() == [], f"seed {SEED}"
    finally:
        cluster.end()


def disturb_and_wait(cluster: ClusterOfThree, history: History, disturb: Disturbance, chance: random.Random) -> str:
    """Do one thing, and see that the broker serves again; returns how long it did not."""
    began_s = time.monotonic()
    disturb(cluster, chance)
    wait_for_confirms(history, 100)
    assert history.faults == [], f"seed {SEED}, {disturb.__name__}"
    return f"{history.longest_gap_s(began_s):5.2f} s without a confirm: {disturb.__name__}"


def report(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def wait_for_confirms(history: History, count: int) -> None:
    """Until so many more publishes were confirmed: the broker serves."""
    wanted, deadline_s = len(history.confirmed) + count, time.monotonic() + SERVED_TIMEOUT_S
    while len(history.confirmed) < wanted:
        assert time.monotonic() < deadline_s, f"no confirm for {SERVED_TIMEOUT_S} s"
        time.sleep(0.02)
