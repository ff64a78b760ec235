"""Three nodes of a cluster and one etcd, as processes; for tests."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from interop.brokers import our_environment
from tests.support.etcd_process import EtcdMember, free_ports, one_member

SERVED_TIMEOUT_S = 60.0


class NodeProcess:
    """One node as a process."""

    def __init__(
        self, folder: Path, name: str, etcd_port: int, *, port: int, link_port: int, management_port: int
    ) -> None:
        self.name = name
        self.port = port
        self.management_port = management_port
        self.data_folder = folder / name
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
            "AMQP_BROKER_MANAGEMENT_PORT": str(management_port),
            "AMQP_BROKER_METRICS_PORT": "-1",
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
        ports = free_ports(9)
        self.nodes = [
            NodeProcess(
                folder,
                name,
                self.etcd.client_port,
                port=ports[place],
                link_port=ports[place + 3],
                management_port=ports[place + 6],
            )
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
