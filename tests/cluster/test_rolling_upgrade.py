"""A rolling upgrade under load, from another release to this one and back: what is confirmed survives it.

CLUSTER_OTHER_RELEASE names the folder in which the other one is unpacked (``git archive REV | tar -x -C FOLDER``);
without it this is left out. All nodes begin as the other release; then one after the other is replaced, first those
that do not own the broker, and the broker is handed over in each state between nodes of both. In the end the nodes are
replaced back.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from interop.brokers import our_environment
from tests.cluster.history import History
from tests.cluster.test_torture import report, wait_for_confirms
from tests.cluster.traffic import Traffic
from tests.support.cluster_processes import ClusterOfThree, NodeProcess
from tests.support.etcd_process import ETCD

OTHER_RELEASE = os.environ.get("CLUSTER_OTHER_RELEASE", "")
HAND_OVERS_MAX = 30  # until the broker comes to a node of a release: chance decides which is next
THIS_RELEASE = our_environment()["PYTHONPATH"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)"),
    pytest.mark.skipif(not OTHER_RELEASE, reason="takes minutes: CLUSTER_OTHER_RELEASE=FOLDER, by hand"),
]


class Upgrade:
    """The replacing of nodes under load.

    Args:
        cluster: whose nodes they are, all of the other release.
        history: of the load.
    """

    def __init__(self, cluster: ClusterOfThree, history: History) -> None:
        self._cluster = cluster
        self._history = history
        self._others = {node.name for node in cluster.nodes}

    def replace_all(self) -> None:
        """Replace each node by one of the release that it is not of: the owner last."""
        owner = self._cluster.owner()
        for node in sorted(self._cluster.nodes, key=lambda node: node is owner):
            if node is self._cluster.owner():
                self._hand_over()
            self._replace(node)
            self._hand_over_between_releases()

    def _replace(self, node: NodeProcess) -> None:
        began_s = time.monotonic()
        assert node.end(signal.SIGTERM) == 0, node.log[-2000:]
        self._others ^= {node.name}
        path = os.path.abspath(OTHER_RELEASE) if node.name in self._others else THIS_RELEASE
        node.environment |= {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        node.start()
        self._cluster.wait_for_standbys()
        self._report(began_s, f"{node.name} is replaced")

    def _hand_over_between_releases(self) -> None:
        """To a node of the other kind, and back, where there are both."""
        both = {node.name for node in self._cluster.nodes}
        if self._others and self._others != both:
            for wanted in (self._others, both - self._others, self._others):
                for _ in range(HAND_OVERS_MAX):
                    if self._cluster.owner().name in wanted:
                        break
                    self._hand_over()
                else:
                    raise AssertionError(f"none of {sorted(wanted)} takes over")

    def _hand_over(self) -> None:
        began_s, owner = time.monotonic(), self._cluster.owner()
        self._cluster.step_down(owner)
        self._cluster.wait_for_standbys()
        self._report(began_s, f"{owner.name} hands over to {self._cluster.owner().name}")

    def _report(self, began_s: float, what: str) -> None:
        wait_for_confirms(self._history, 50)
        others = "".join(sorted(self._others)) or "none"
        gap_s = self._history.longest_gap_s(began_s)
        report(f"{gap_s:5.2f} s without a confirm: {what} (of the other release: {others})")
        assert self._history.faults == []


def test_nothing_confirmed_is_lost_while_nodes_are_replaced_there_and_back(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": os.path.abspath(OTHER_RELEASE), "PYTHONSAFEPATH": "1"}
    cluster = ClusterOfThree(tmp_path, 3, environment=environment)
    try:
        history = History()
        cluster.wait_for_standbys()
        traffic = Traffic(history, cluster.addresses)
        wait_for_confirms(history, 100)
        upgrade = Upgrade(cluster, history)
        upgrade.replace_all()
        upgrade.replace_all()
        traffic.end(60)
        for node in cluster.nodes:
            for line in node.log.splitlines():
                if any(word in line for word in (" level=error", "internal error", "Traceback")):
                    report(f"{node.name}: {line}")
        report(f"{len(history.confirmed)} confirmed")
        assert history.check() == []
    finally:
        cluster.end()
