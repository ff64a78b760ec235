"""Three nodes of a cluster and their etcd, as processes; for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.keys import Keys
from amqp_broker.cluster.members import Address, EtcdRefused, EtcdUnavailable, Member
from amqp_broker.cluster.ownership import owner_in
from amqp_broker.etcd import messages
from amqp_broker.server.sharding.directory import Directory
from interop.brokers import our_environment, start_process
from tests.support.etcd_process import EtcdMember, free_ports
from tests.support.namespaces import Network

SERVED_TIMEOUT_S = 60.0
CLUSTER = "test"
SHARD = 0


class NodeProcess:
    """One node as a process.

    Args:
        folder: for its data and its log.
        name: its name.
        etcd: the members.
        ports: for clients, links and administrators.
        host: where it listens.
        within: what its command begins with, to run somewhere else.
        environment: more of it; a port for administrators there takes the place of the third.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        etcd: Sequence[EtcdMember],
        ports: tuple[int, int, int],
        host: str = "127.0.0.1",
        within: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.host = host
        self.port, link_port, management_port = ports
        self.data_folder = folder / name
        self._folder = folder
        members = ",".join(f"{member.host}:{member.client_port}" for member in etcd)
        self._command = [
            *within,
            *(sys.executable, "-m", "amqp_broker", "serve", "--host", host, "--port", str(self.port)),
            *("--data-dir", str(folder / name), "--node-name", name),
            *("--cluster", f"etcd://{members}/{CLUSTER}"),
        ]
        paths = (environment.get("PYTHONPATH"), our_environment()["PYTHONPATH"])
        self.environment = {  # of the next start
            **our_environment(),
            "AMQP_BROKER_METRICS_PORT": "-1",
            "AMQP_BROKER_MANAGEMENT_PORT": str(management_port),
            **environment,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "AMQP_BROKER_CLUSTER_SECRET": "secret of the test",
            "AMQP_BROKER_LINK_HOST": host,
            "AMQP_BROKER_LINK_PORT": str(link_port),
            "AMQP_BROKER_LOOPBACK_USERS": "nobody",
        }
        self.management_port = int(self.environment["AMQP_BROKER_MANAGEMENT_PORT"])
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._before_start = log.tell()
            self.process = start_process(self._command, self.environment, log)

    @property
    def log(self) -> str:
        return (self._folder / f"{self.name}.log").read_text()

    def epochs(self) -> list[int]:
        """Those in which it has owned the broker."""
        lines = [line for line in self.log.splitlines() if "event=owner " in line]
        return [int(line.rpartition("epoch=")[2].split()[0]) for line in lines]

    @property
    def builds(self) -> set[bool]:
        """Whether it was compiled, of all that it has been since its first start."""
        lines = [line for line in self.log.splitlines() if line.startswith("amqp-broker ")]
        return {" (compiled), " in line for line in lines}

    @property
    def is_standby(self) -> bool:
        """Whether it has the whole journal, and would take over without reading it."""
        said = (self._folder / f"{self.name}.log").read_bytes()[self._before_start :]
        return said.rfind(b"event=standby ") > said.rfind(b"event=owner ")

    def end(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        return self.process.wait(SERVED_TIMEOUT_S)


class ClusterOfThree:
    """Three nodes, and which of them owns the broker.

    Args:
        folder: for all that they write.
        members: how many etcd has.
        network: each node and member is a machine of it; all on the loopback when left out.
        etcd_options: more of the members' command lines.
        environment: more of the nodes'.
        shards: how many the cluster has.
        environment_of_last: still more of the last node's, which no two nodes can share.
    """

    def __init__(
        self,
        folder: Path,
        members: int = 1,
        network: Network | None = None,
        etcd_options: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
        shards: int = 1,
        environment_of_last: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.network = network
        self.shard = SHARD  # whose owner is asked for
        environment = {**environment, "AMQP_BROKER_CLUSTER_SHARDS": str(shards)}
        etcd_names, node_names = [f"etcd{number}" for number in range(members)], list("abc")
        ports = free_ports(9 + 2 * members)
        hosts = {name: network.address(name) if network else "127.0.0.1" for name in (*etcd_names, *node_names)}
        within = {name: network.command(name) if network else [] for name in hosts}
        peer_ports = {name: ports.pop() for name in etcd_names}
        etcd_hosts = {name: hosts[name] for name in etcd_names}
        self.members = [
            EtcdMember(folder / name, name, ports.pop(), peer_ports, etcd_options, etcd_hosts, within[name])
            for name in etcd_names
        ]
        for member in self.members:
            member.wait_until_ready()
        self.nodes = [
            NodeProcess(
                folder,
                name,
                self.members,
                (ports.pop(), ports.pop(), ports.pop()),
                hosts[name],
                within[name],
                {**environment, **(environment_of_last if name == node_names[-1] else {})},
            )
            for name in node_names
        ]
        self._keys = Keys(CLUSTER)
        self._ownerships = 0

    @property
    def etcd(self) -> EtcdMember:
        """The first member."""
        return self.members[0]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where clients can connect."""
        return [(node.host, node.port) for node in self.nodes]

    def configuration(self) -> ClusterConfiguration:
        """As a node has it."""
        addresses = tuple(Address(member.host, member.client_port) for member in self.members)
        return ClusterConfiguration(CLUSTER, addresses, "", "test", "127.0.0.1", 0, 3)

    def wait_for_owner(self) -> NodeProcess:
        """The node that has taken over since this was asked last."""
        deadline_s = time.monotonic() + SERVED_TIMEOUT_S
        while sum(len(node.epochs()) for node in self.nodes) <= self._ownerships:
            assert time.monotonic() < deadline_s, [node.log[-2000:] for node in self.nodes]
            time.sleep(0.02)
        self._ownerships = sum(len(node.epochs()) for node in self.nodes)
        return max((epoch, node.name, node) for node in self.nodes for epoch in node.epochs())[2]

    def wait_for_standbys(self) -> None:
        """Until all nodes but the owner could take over at once."""
        deadline_s = time.monotonic() + SERVED_TIMEOUT_S
        owner = self.owner()
        while not all(node.is_standby for node in self.nodes if node is not owner):
            assert time.monotonic() < deadline_s, "a node does not follow the journal"
            time.sleep(0.1)

    def ask_etcd(self, path: str, request: bytes) -> bytes | None:
        """The answer of whichever member gives one."""
        for member in self.members:
            one = Member(member.host, member.client_port)
            try:
                return one.call(path, request)
            except (EtcdUnavailable, EtcdRefused):
                continue
            finally:
                one.close()
        return None

    def owner(self) -> NodeProcess:
        """The node that owns the broker now, as etcd has it; waits until there is one that runs."""
        deadline_s = time.monotonic() + SERVED_TIMEOUT_S
        while True:
            found = self._value(self._keys.owner(self.shard))
            node = self._value(self._keys.node(owner_in(found))) if found else b""
            names = [one for one in self.nodes if f'"name": "{one.name}"'.encode() in node]
            if names and names[0].process.poll() is None:
                return names[0]
            assert time.monotonic() < deadline_s, "nobody owns the broker"
            time.sleep(0.05)

    def add_virtual_host(self, name: str) -> int:
        """Have a virtual host that guest may use; returns its shard."""
        before, self.shard = self.shard, SHARD
        for command in (["vhosts", "add", name], ["permissions", "set", "guest", "--vhost", name, ".*", ".*", ".*"]):
            deadline_s = time.monotonic() + SERVED_TIMEOUT_S
            while self._run(self.owner(), command).returncode != 0:  # it is not yet the owner
                assert time.monotonic() < deadline_s, f"{command} is not done"
                time.sleep(0.1)
        self.shard = before
        return Directory.decode(self._value(self._keys.directory)).shard_of(name)

    def wait_until_spread(self) -> None:
        """Until each node owns a shard; there are as many."""
        deadline_s = time.monotonic() + SERVED_TIMEOUT_S
        while len({self._value(self._keys.owner(shard)).split(b" ")[0] for shard in range(len(self.nodes))}) < 3:
            assert time.monotonic() < deadline_s, "a node owns several shards, and another none"
            time.sleep(0.1)

    def step_down(self, owner: NodeProcess) -> None:
        """Have the owner hand the broker over; returns when it has let it go."""
        done = self._run(owner, ["cluster", "step-down"])
        assert done.returncode == 0, done.stderr

    @staticmethod
    def _run(node: NodeProcess, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Have a node do a command."""
        line = [sys.executable, "-m", "amqp_broker", *command, "--data-dir", str(node.data_folder)]
        return subprocess.run(line, env=our_environment(), capture_output=True, check=False)

    def _value(self, key: str) -> bytes:
        answer = self.ask_etcd(messages.RANGE, messages.range_request(key.encode()))
        entries = messages.RangeAnswer.read(answer).entries if answer is not None else []
        return entries[0].value if entries else b""

    def etcd_leader(self) -> EtcdMember:
        """The member that leads etcd; waits until there is one."""
        deadline_s = time.monotonic() + SERVED_TIMEOUT_S
        while True:
            for member in self.members:
                one = Member(member.host, member.client_port)
                try:
                    status = messages.StatusAnswer.read(one.call(messages.STATUS, b""))
                except (EtcdUnavailable, EtcdRefused):
                    continue
                finally:
                    one.close()
                if status.leader == status.member_id:
                    return member
            assert time.monotonic() < deadline_s, "etcd has no leader"
            time.sleep(0.05)

    def end(self) -> None:
        for node in self.nodes:
            if node.process.poll() is None:
                node.end()
        for member in self.members:
            member.kill()
