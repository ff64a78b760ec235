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
    cluster = ClusterOfThree(tmp_path)
    yield cluster
    cluster.end()
