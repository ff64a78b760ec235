"""Three nodes as processes that speak TLS with each other: with certificates of theirs, and one that is a stranger."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.cluster.test_commands import publish, taken, until
from tests.support.cluster_processes import ClusterOfThree
from tests.support.etcd_process import ETCD

pytestmark = [pytest.mark.slow, pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)")]
AUTHORITY = trustme.CA()


def files(folder: Path, authority: trustme.CA) -> dict[str, str]:
    """Those of a node, and the settings that name them."""
    folder.mkdir(exist_ok=True)
    issued = authority.issue_cert("node.example")
    issued.cert_chain_pems[0].write_to_path(str(folder / "node.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    AUTHORITY.cert_pem.write_to_path(str(folder / "ca.pem"))
    names = {"CERTIFICATE": "node.pem", "KEY": "key.pem", "CA": "ca.pem"}
    return {f"AMQP_BROKER_LINK_{name}": str(folder / file) for name, file in names.items()}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterOfThree]:
    environment = {"AMQP_BROKER_LEASE_TTL_MS": "60000", **files(tmp_path / "ours", AUTHORITY)}
    stranger = files(tmp_path / "of the last", trustme.CA())
    cluster = ClusterOfThree(tmp_path, environment=environment, environment_of_last=stranger)
    yield cluster
    cluster.end()


def test_a_stranger_becomes_a_node_with_another_certificate_and_an_owner_that_dies_is_missed(
    cluster: ClusterOfThree, tmp_path: Path
) -> None:
    owner = cluster.wait_for_owner()
    stranger = cluster.nodes[-1]
    door = stranger if owner is not stranger else cluster.nodes[0]
    until(lambda: 'event="link failed"' in door.log and "certificate" in door.log)

    files(tmp_path / "of the last", AUTHORITY)
    stranger.process.send_signal(signal.SIGHUP)
    until(lambda: stranger.log.count('event="certificates reloaded"') == 1)
    publish(door.port, [b"1" * 1_000_000, b"2"])

    # Its port is found closed, as without TLS, long before its lease ends.
    cluster.wait_for_standbys()
    owner.end()
    next_owner = cluster.wait_for_owner()
    other = next(node for node in cluster.nodes if node not in (owner, next_owner))
    assert taken(other.port) == [b"1" * 1_000_000, b"2"]
    assert "Traceback" not in "".join(node.log for node in cluster.nodes)
