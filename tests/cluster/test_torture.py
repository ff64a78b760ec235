"""Three nodes and three members of etcd, as processes, under load: what is confirmed survives whatever is done to them.

``make cluster-torture ROUNDS=10`` does everything that often, with COMPILED=1 to the build whose layers are compiled;
without CLUSTER_ROUNDS in the environment this is left out. Partitions need the rights of root. In the environment,
CLUSTER_ONLY names what is done instead of everything (``kill_owner,stop_owner``), CLUSTER_BACKLOG_MB how much waits in
a queue that nobody consumes from, CLUSTER_SEED what chance begins with. CLUSTER_SHARDS says into how many shards the
cluster is divided; then there are two virtual hosts in shards of their own, and the owner of one of them is what things
are done to.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.cluster.disturbances import CUTS, PROCESSES, Clock, Disturbance, PowerLoss
from tests.cluster.epochs import EpochWatch
from tests.cluster.history import History
from tests.cluster.traffic import Traffic, fill
from tests.support import loop_volume, namespaces
from tests.support.cluster_processes import CLUSTER, SERVED_TIMEOUT_S, ClusterOfThree
from tests.support.etcd_process import ETCD
from tests.support.loop_volume import LoopVolume
from tests.support.namespaces import Network

IS_COMPILED = os.environ.get("AMQP_BROKER_UNDER_TEST") == "compiled"
ROUNDS = int(os.environ.get("CLUSTER_ROUNDS", "0"))
SEED = int(os.environ.get("CLUSTER_SEED", "0")) or random.randrange(1, 1_000_000)
ONLY = [name for name in os.environ.get("CLUSTER_ONLY", "").split(",") if name]
SHARDS = int(os.environ.get("CLUSTER_SHARDS", "1"))
BACKLOG_MB = int(os.environ.get("CLUSTER_BACKLOG_MB", "0"))
QUOTA_BYTES = 8 * 2**30
DISK_BYTES = 2 * 2**30 + 4_000_000 * BACKLOG_MB
ETCD_NAMES = [f"etcd{number}" for number in range(3)]
MACHINES = [*ETCD_NAMES, *"abc"]

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


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[dict[str, LoopVolume]]:
    """For each member of etcd one, where that is possible."""
    names = ETCD_NAMES if loop_volume.are_possible(tmp_path) else []
    volumes = {name: LoopVolume(tmp_path / name, DISK_BYTES) for name in names}
    yield volumes
    for volume in volumes.values():
        volume.close()


def test_nothing_confirmed_is_lost(tmp_path: Path, disks: dict[str, LoopVolume], network: Network | None) -> None:
    chance = random.Random(SEED)
    clock = Clock(tmp_path / "clock")
    environment = {"AMQP_BROKER_ETCD_QUOTA_BYTES": str(QUOTA_BYTES), **clock.environment}
    cluster = ClusterOfThree(tmp_path, 3, network, ["--quota-backend-bytes", str(QUOTA_BYTES)], environment, SHARDS)
    try:
        owner = cluster.owner()
        watches = [EpochWatch(cluster.configuration().addresses, CLUSTER, shard) for shard in range(SHARDS)]
        if BACKLOG_MB:
            fill((owner.host, owner.port), BACKLOG_MB * 1_000_000)
        hosts = {"/": 0} if SHARDS == 1 else {name: cluster.add_virtual_host(name) for name in "ab"}
        if len(cluster.nodes) == SHARDS:
            cluster.wait_until_spread()
        histories = {host: History() for host in hosts}
        traffics = [
            Traffic(history, cluster.addresses, number, host)
            for number, (host, history) in enumerate(histories.items())
        ]
        for history in histories.values():
            wait_for_confirms(history, 100)
        gaps_s: dict[str, list[float]] = {}
        for number in range(ROUNDS):
            disturbances = chosen(network, clock, disks)
            for disturb in chance.sample(disturbances, len(disturbances)):
                if BACKLOG_MB:
                    cluster.wait_for_standbys()
                host = chance.choice(list(hosts))
                cluster.shard = hosts[host]
                gaps = disturb_and_wait(cluster, histories, disturb, chance)
                gaps_s.setdefault(disturb.__name__, []).append(gaps[host])
                others = "".join(f", {gap_s:.2f} s elsewhere" for other, gap_s in gaps.items() if other != host)
                report(f"{number + 1}: {gaps[host]:5.2f} s without a confirm{others}: {disturb.__name__}")
        for traffic in traffics:
            traffic.end(60)
        assert [node.builds for node in cluster.nodes] == [{IS_COMPILED}] * len(cluster.nodes)
        for name, found in sorted(gaps_s.items()):
            report(f"p50 {median(found):5.2f} s, worst {max(found):5.2f} s of {len(found)}: {name}")
        late = [fault for watch in watches for fault in watch.end()]
        written = sum(watch.epochs.transactions for watch in watches)
        report(f"{written} transactions in {sum(watch.epochs.count for watch in watches)} epochs")
        report(f"{sum(len(history.confirmed) for history in histories.values())} confirmed, seed {SEED}")
        assert late == [], f"seed {SEED}"
        assert [history.check() for history in histories.values()] == [[] for _ in histories], f"seed {SEED}"
    finally:
        cluster.end()


def chosen(network: Network | None, clock: Clock, disks: dict[str, LoopVolume]) -> list[Disturbance]:
    """What is to be done in a round."""
    possible: list[Disturbance] = [*PROCESSES, clock.set_clock_forward, clock.set_clock_back]
    possible += CUTS if network is not None else []
    possible += [PowerLoss(disks)] if disks else []
    return [one for one in possible if not ONLY or one.__name__ in ONLY]


def disturb_and_wait(
    cluster: ClusterOfThree, histories: dict[str, History], disturb: Disturbance, chance: random.Random
) -> dict[str, float]:
    """Do one thing, and see that the broker serves again; returns for how many seconds it did not, by virtual host."""
    began_s = time.monotonic()
    disturb(cluster, chance)
    for history in histories.values():
        wait_for_confirms(history, 100)
        assert history.faults == [], f"seed {SEED}, {disturb.__name__}"
    return {host: history.longest_gap_s(began_s) for host, history in histories.items()}


def report(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def wait_for_confirms(history: History, count: int) -> None:
    """Until so many more publishes were confirmed: the broker serves."""
    wanted, deadline_s = len(history.confirmed) + count, time.monotonic() + SERVED_TIMEOUT_S
    while len(history.confirmed) < wanted:
        assert time.monotonic() < deadline_s, f"no confirm for {SERVED_TIMEOUT_S} s"
        time.sleep(0.02)
