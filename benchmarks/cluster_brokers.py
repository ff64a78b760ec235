"""Clusters of three nodes on the loopback: ours with three members of etcd, and RabbitMQ's, each by itself.

Ports, folders, Erlang's port mapper and its cookie are of their own, so whatever else runs on the machine is left
alone. Not here: what is measured.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from benchmarks.brokers import cpu_s
from interop.brokers import INSTALLATIONS, Address, Installation, RabbitMQ, free_ports
from tests.support.cluster_processes import ClusterOfThree

NODES: Final = 3
QUOTA_BYTES: Final = 8 * 2**30  # of etcd, the most that it recommends
HOSTS: Final = ("/", "a", "b")  # virtual hosts, each of which is served first by another node


@dataclass(frozen=True)
class Node:
    """A node of a cluster.

    Args:
        name: of the node.
        host, port: where its clients come to.
    """

    name: str
    host: str
    port: int

    def address(self, virtual_host: str = "/") -> Address:
        """Where the clients of a virtual host come to."""
        return Address(self.host, self.port, vhost=virtual_host)


class Cluster(Protocol):
    """Three nodes that are one broker."""

    name: str

    @property
    def nodes(self) -> Sequence[Node]:
        """All of them."""
        ...

    def serving(self, virtual_host: str) -> Node:
        """The node that a virtual host's queues are served by, or that they are to be declared at to be."""
        ...

    def cpu_s(self) -> float:
        """What all its processes have taken of the processors so far, in seconds."""
        ...

    def serving_now(self, queue: str) -> Node:
        """The node that serves a queue of the first virtual host."""
        ...

    def lose(self, node: Node, way: str) -> Callable[[], object]:
        """Kill a node, end it in order (``stop``), have it stand still (``pause``), or hand over (``step-down``).

        Returns:
            What has it back.
        """
        ...

    def settle(self) -> None:
        """Wait until all nodes are there, and any could be lost."""
        ...

    def end(self) -> None:
        """End all of it."""
        ...


class Ours:
    """Three nodes, and three members of etcd; each of the virtual hosts is a shard of another node.

    Args:
        folder: for all that they write.
        shards: 1 for the first virtual host alone.
    """

    name = "ours"

    def __init__(self, folder: Path, shards: int = len(HOSTS)) -> None:
        quota = str(QUOTA_BYTES)
        self._cluster = ClusterOfThree(
            folder,
            NODES,
            None,
            ["--quota-backend-bytes", quota],
            {"AMQP_BROKER_ETCD_QUOTA_BYTES": quota},
            shards,
        )
        try:
            self._cluster.owner()
            places = {host: self._cluster.add_virtual_host(host) for host in HOSTS[1:shards]}
            if places:
                self._cluster.wait_until_spread()
            self._serving = {host: self._owner_of(shard) for host, shard in {"/": 0, **places}.items()}
        except BaseException:
            self.end()
            raise

    def _owner_of(self, shard: int) -> Node:
        self._cluster.shard = shard
        owner = self._cluster.owner()
        return Node(owner.name, owner.host, owner.port)

    @property
    def nodes(self) -> Sequence[Node]:
        return [Node(node.name, node.host, node.port) for node in self._cluster.nodes]

    def serving(self, virtual_host: str) -> Node:
        return self._serving[virtual_host]

    def cpu_s(self) -> float:
        processes = [one.process for one in self._cluster.nodes]
        processes += [one.process for one in self._cluster.members if one.process is not None]
        return sum(cpu_s(process.pid) for process in processes)

    def serving_now(self, queue: str) -> Node:
        return self._owner_of(0)

    def lose(self, node: Node, way: str) -> Callable[[], object]:
        process = next(one for one in self._cluster.nodes if one.name == node.name)
        if way == "pause":
            process.process.send_signal(signal.SIGSTOP)
            return lambda: process.process.send_signal(signal.SIGCONT)
        if way == "step-down":
            self._cluster.step_down(process)
            return lambda: None  # it has stayed
        process.process.send_signal(signal.SIGKILL if way == "kill" else signal.SIGTERM)

        def start_again() -> None:
            process.process.wait(60)
            process.start()

        return start_again

    def settle(self) -> None:
        self._cluster.wait_for_standbys()

    def end(self) -> None:
        self._cluster.end()


class RabbitMQs:
    """Three nodes of RabbitMQ.

    Args:
        installation: which one.
    """

    def __init__(self, installation: Installation) -> None:
        self.name = f"RabbitMQ {installation.series}"
        self._home = installation.new_folder()
        cookie = self._home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(10).upper())
        cookie.chmod(0o400)
        environment = {"HOME": str(installation.seen_inside(self._home)), "ERL_EPMD_PORT": str(free_ports(1)[0])}
        self._brokers: list[RabbitMQ] = []
        try:
            for _ in range(NODES):
                self._brokers.append(RabbitMQ(installation, environment=environment))
            self._join()
        except BaseException:
            self.end()
            raise

    def _join(self) -> None:
        first, *others = self._brokers
        for broker in others:
            for arguments in (("stop_app",), ("join_cluster", first.node), ("start_app",)):
                broker.ctl(*arguments)
        for host in HOSTS[1:]:
            first.ctl("add_vhost", host)
            first.ctl("set_permissions", "-p", host, "guest", ".*", ".*", ".*")

    @property
    def nodes(self) -> Sequence[Node]:
        return [Node(one.node, one.address.host, one.address.port) for one in self._brokers]

    def serving(self, virtual_host: str) -> Node:
        return self.nodes[HOSTS.index(virtual_host)]  # the leader of a queue is where it is declared

    def cpu_s(self) -> float:
        return sum(cpu_s(one.pid) for one in self._brokers)

    def serving_now(self, queue: str) -> Node:
        for line in self._brokers[0].ctl("list_queues", "name", "leader", "--no-table-headers").splitlines():
            name, _, leader = line.partition("\t")
            if name == queue:
                return next(node for node in self.nodes if node.name == leader.strip())
        raise RuntimeError(f"there is no queue {queue}")

    def lose(self, node: Node, way: str) -> Callable[[], object]:
        broker = next(one for one in self._brokers if one.node == node.name)
        if way == "pause":
            broker.send_signal(signal.SIGSTOP)
            return lambda: broker.send_signal(signal.SIGCONT)
        if way == "step-down":
            broker.upgrade("drain")
            return partial(broker.upgrade, "revive")
        broker.send_signal(signal.SIGKILL if way == "kill" else signal.SIGTERM)
        return broker.restart

    def settle(self) -> None:
        for broker in self._brokers:
            broker.ctl("await_online_nodes", str(NODES))

    def end(self) -> None:
        for broker in self._brokers:
            broker.stop()
        shutil.rmtree(self._home, ignore_errors=True)


@contextmanager
def clusters(rabbitmq_series: str) -> Iterator[list[Cluster]]:
    """Ours, and RabbitMQ's of a series; ours alone where that is empty.

    Raises:
        RuntimeError: there is no such RabbitMQ on this machine.
    """
    installation = INSTALLATIONS[rabbitmq_series]() if rabbitmq_series else None
    if rabbitmq_series and installation is None:
        raise RuntimeError(f"RabbitMQ {rabbitmq_series} is not installed")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amqp-broker-cluster-")))
        ours = Ours(folder)
        stack.callback(ours.end)
        found: list[Cluster] = [ours]
        if installation is not None:
            theirs = RabbitMQs(installation)
            stack.callback(theirs.end)
            found.append(theirs)
        yield found
