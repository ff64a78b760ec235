"""What is done to a cluster under load: each leaves it as it was, with all nodes and members running and joined."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tests.support.cluster_processes import ClusterOfThree, NodeProcess
from tests.support.etcd_process import EtcdMember
from tests.support.loop_volume import LoopVolume

NODE_FAULTS = Path(__file__).parents[1] / "support" / "node_faults"
CUT_S = 5.0  # longer than a lease lives
SHORT_CUT_S = 1.5  # shorter
HANG_S = 2 * CUT_S

Disturbance = Callable[[ClusterOfThree, random.Random], None]


def doors(cluster: ClusterOfThree) -> list[NodeProcess]:
    """The nodes that do not own the broker."""
    owner = cluster.owner()
    return [node for node in cluster.nodes if node is not owner]


def kill_owner(cluster: ClusterOfThree, chance: random.Random) -> None:
    owner = cluster.owner()
    owner.end()
    cluster.owner()
    owner.start()


def kill_door(cluster: ClusterOfThree, chance: random.Random) -> None:
    door = chance.choice(doors(cluster))
    door.end()
    time.sleep(0.5)
    door.start()


def stop_owner(cluster: ClusterOfThree, chance: random.Random) -> None:
    owner = cluster.owner()
    assert owner.end(signal.SIGTERM) == 0
    cluster.owner()
    owner.start()


def pause_owner(cluster: ClusterOfThree, chance: random.Random) -> None:
    """Longer than its lease lives: when it goes on, it must not speak for the broker."""
    owner = cluster.owner()
    owner.process.send_signal(signal.SIGSTOP)
    time.sleep(CUT_S)
    cluster.owner()
    owner.process.send_signal(signal.SIGCONT)


def hang_owner(cluster: ClusterOfThree, chance: random.Random) -> None:
    """Its event loop alone, longer than its lease lives: what writes the journal goes on in other threads."""
    owner = cluster.owner()
    owner.process.send_signal(signal.SIGUSR2)
    ends_s = time.monotonic() + HANG_S
    while cluster.owner() is owner:
        assert time.monotonic() < ends_s - 1, "a node whose event loop hangs keeps its lease"
        time.sleep(0.1)
    time.sleep(max(0.0, ends_s - time.monotonic()))


def step_down(cluster: ClusterOfThree, chance: random.Random) -> None:
    """As an operator does before a machine is restarted."""
    cluster.step_down(cluster.owner())
    cluster.owner()


def pause_owner_shortly(cluster: ClusterOfThree, chance: random.Random) -> None:
    owner = cluster.owner()
    owner.process.send_signal(signal.SIGSTOP)
    time.sleep(SHORT_CUT_S)
    owner.process.send_signal(signal.SIGCONT)


def kill_etcd_leader(cluster: ClusterOfThree, chance: random.Random) -> None:
    leader = cluster.etcd_leader()
    leader.kill()
    time.sleep(0.3 if len(cluster.members) == 1 else 3)
    leader.start()
    leader.wait_until_ready()


def pause_etcd_leader(cluster: ClusterOfThree, chance: random.Random) -> None:
    leader = cluster.etcd_leader().process
    assert leader is not None
    leader.send_signal(signal.SIGSTOP)
    time.sleep(CUT_S)
    leader.send_signal(signal.SIGCONT)


def restart_all_of_etcd(cluster: ClusterOfThree, chance: random.Random) -> None:
    for member in cluster.members:
        member.kill()
    time.sleep(0.3)
    for member in cluster.members:
        member.start()
    for member in cluster.members:
        member.wait_until_ready()


def slow_etcd(cluster: ClusterOfThree, chance: random.Random) -> None:
    """All members stand still for 200 ms of each second."""
    processes = [member.process for member in cluster.members if member.process is not None]
    for _ in range(5):
        for number, pause_s in ((signal.SIGSTOP, 0.2), (signal.SIGCONT, 0.8)):
            for process in processes:
                process.send_signal(number)
            time.sleep(pause_s)


def kill_any_two(cluster: ClusterOfThree, chance: random.Random) -> None:
    """One soon after the other, before either is back."""
    victims: list[NodeProcess | EtcdMember] = chance.sample([*cluster.nodes, *cluster.members], 2)
    for victim in victims:
        if isinstance(victim, NodeProcess):
            victim.end()
        else:
            victim.kill()
        time.sleep(chance.random())
    for victim in victims:
        victim.start()
    for member in cluster.members:
        member.wait_until_ready()


@dataclass(frozen=True)
class PowerLoss:
    """The machine of one of etcd's members, whichever, loses its power.

    Args:
        disks: of the members, by their names.
    """

    disks: dict[str, LoopVolume]
    __name__ = "lose power of an etcd member"

    def __call__(self, cluster: ClusterOfThree, chance: random.Random) -> None:
        member = chance.choice(cluster.members)
        self.disks[member.name].lose_power()
        member.kill()
        time.sleep(3)
        self.disks[member.name].start_again()
        member.start()
        member.wait_until_ready()


@dataclass(frozen=True)
class Cut:
    """A partition.

    Args:
        sides: of two machines or groups of them, as ``owner``, ``door``, ``etcd``, ``etcd leader``, ``others of etcd``,
            ``all others``, which are all machines but those of the owner and the clients.
        ways: ``both``, ``there`` or ``back``.
        seconds: how long.
    """

    sides: tuple[str, str]
    ways: str
    seconds: float = CUT_S

    @property
    def __name__(self) -> str:
        return f"cut {self.sides[0]} from {self.sides[1]}, {self.ways}, {self.seconds:g} s"

    def __call__(self, cluster: ClusterOfThree, chance: random.Random) -> None:
        network = cluster.network
        assert network is not None
        left, right = (self._machines(cluster, side, chance) for side in self.sides)
        for one, other in product(left, right):
            if self.ways in ("both", "there"):
                network.cut(one, other)
            if self.ways in ("both", "back"):
                network.cut(other, one)
        time.sleep(self.seconds)
        network.heal()

    @staticmethod
    def _machines(cluster: ClusterOfThree, side: str, chance: random.Random) -> list[str]:
        if side == "owner":
            return [cluster.owner().name]
        if side == "door":
            return [chance.choice(doors(cluster)).name]
        if side == "etcd":
            return [member.name for member in cluster.members]
        if side == "all others":
            return [node.name for node in doors(cluster)] + [member.name for member in cluster.members]
        leader = cluster.etcd_leader().name
        return [leader] if side == "etcd leader" else [one.name for one in cluster.members if one.name != leader]


class Clock:
    """The wall clock of the nodes, which can jump.

    Args:
        path: of a file that says by how many seconds it is wrong.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("0")
        self.environment = {"JUMPING_CLOCK": str(path), "HANG_S": str(HANG_S), "PYTHONPATH": str(NODE_FAULTS)}

    def set_clock_forward(self, cluster: ClusterOfThree, chance: random.Random) -> None:
        self._jump(18_000)

    def set_clock_back(self, cluster: ClusterOfThree, chance: random.Random) -> None:
        self._jump(-18_000)

    def _jump(self, seconds: int) -> None:
        self._path.write_text(str(seconds))
        time.sleep(CUT_S)
        self._path.write_text("0")


WAYS = ("both", "there", "back")
PROCESSES: list[Disturbance] = [
    kill_owner,
    pause_owner,
    stop_owner,
    step_down,
    hang_owner,
    kill_door,
    kill_etcd_leader,
    kill_any_two,
    pause_etcd_leader,
    pause_owner_shortly,
    slow_etcd,
    restart_all_of_etcd,
]
CUTS: list[Disturbance] = [
    *(Cut(("owner", "etcd"), ways) for ways in WAYS),
    *(Cut(("owner", "door"), ways) for ways in WAYS),
    Cut(("owner", "all others"), "both"),
    *(Cut(("etcd leader", "others of etcd"), ways) for ways in WAYS),
    *(Cut(("owner", "etcd leader"), ways, SHORT_CUT_S) for ways in WAYS),
]
