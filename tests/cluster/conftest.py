"""A cluster for one test; skipped where etcd is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster_processes import ClusterOfThree
from tests.support.etcd_process import ETCD


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterOfThree]:
    if ETCD is None:
        pytest.skip("etcd is not installed (Debian: etcd-server)")
    # A machine that has much to do may not keep a lease of 3 s alive: then the owner is another one.
    cluster = ClusterOfThree(tmp_path, environment={"AMQP_BROKER_LEASE_TTL_MS": "60000"})
    yield cluster
    cluster.end()
