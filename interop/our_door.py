"""A cluster of ours that is asked at a node which does not own it: a door should change nothing.

Three nodes and one member of etcd on the loopback. What an operator would do is done at the owner.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path

from interop.brokers import DEFAULT_SERIES, OURS, Address, Choice, await_amqp
from tests.support.cluster_processes import ClusterOfThree
from tests.support.command_line import OurBroker


class OurDoor(OurBroker):
    """Three nodes, and the one of them that is asked."""

    def __init__(self, series: str = DEFAULT_SERIES, *, environment: Mapping[str, str] | None = None) -> None:
        self.choice = Choice(OURS, series)
        self._folder = Path(tempfile.mkdtemp(prefix="interop-door-"))
        own = {"AMQP_BROKER_BEHAVE_LIKE": series, **(environment or {})}
        ports = {name: port for name, port in own.items() if _is_of_one_node(name)}
        of_all = own | dict.fromkeys(ports, "0")
        self._cluster = ClusterOfThree(self._folder, environment=of_all, environment_of_last=ports)
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
            if self._cluster.owner() is not self._door:
                return
            self._cluster.wait_for_standbys()  # a node that is alone hands nothing over
            self.ctl("cluster", "step-down")

    def ctl(self, *arguments: str, standard_input: str = "") -> str:
        """`amqp-broker` at the node that owns the broker now. Returns what it printed."""
        self.data_folder = self._cluster.owner().data_folder
        return super().ctl(*arguments, standard_input=standard_input)

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


def _is_of_one_node(setting: str) -> bool:
    """Whether it is where a node listens: the one that is asked has it. A server of logins is the same for all."""
    return setting.endswith("_PORT") and "_AUTH_" not in setting
