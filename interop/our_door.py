"""A cluster of ours that is asked at a node which does not own it: a door should change nothing.

Three nodes and one member of etcd on the loopback. What an operator would do is done at the owner.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

from interop.brokers import DEFAULT_SERIES, OURS, Address, Choice, OurBroker, await_amqp
from tests.support.cluster_processes import ClusterOfThree


class OurDoor(OurBroker):
    """Three nodes, and the one of them that is asked."""

    def __init__(self, series: str = DEFAULT_SERIES, *, environment: Mapping[str, str] | None = None) -> None:
        self.choice = Choice(OURS, series)
        self._folder = Path(tempfile.mkdtemp(prefix="interop-door-"))
        own = {"AMQP_BROKER_BEHAVE_LIKE": series, **(environment or {})}
        ports = {
            name: own.pop(name) for name in list(own) if name.endswith("_PORT")
        }  # one node's, the one that is asked
        self._cluster = ClusterOfThree(self._folder, environment=own, environment_of_last=ports)
        try:
            self._door = self._cluster.nodes[-1]
            self.address = Address(self._door.host, self._door.port)
            self._be_asked_elsewhere()
        except BaseException:
            self.stop()
            raise

    def _be_asked_elsewhere(self) -> None:
        """Wait until the broker is served, and have another node than the one that is asked own it."""
        while True:
            await_amqp(self.address, self._door.process, self._folder / f"{self._door.name}.log")
            owner = self._cluster.owner()
            self.data_folder = owner.data_folder
            if owner is not self._door:
                return
            self.ctl("cluster", "step-down")

    @property
    def pid(self) -> int:
        return self._cluster.owner().process.pid

    def log_text(self) -> str:
        return self._door.log

    def restart(self) -> None:
        self._restart(signal.SIGTERM)

    def kill_and_restart(self) -> None:
        self._restart(signal.SIGKILL)

    def _restart(self, number: signal.Signals) -> None:
        """All nodes at once: the broker is gone meanwhile."""
        for node in self._cluster.nodes:
            node.process.send_signal(number)
        for node in self._cluster.nodes:
            node.process.wait()
            node.start()
        self._be_asked_elsewhere()

    def stop(self) -> None:
        self._cluster.end()
        shutil.rmtree(self._folder, ignore_errors=True)
