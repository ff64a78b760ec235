"""Moving a cluster with several shards in and out is refused, with the way out in the text: in memory."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import trio

from amqp_broker.cluster import transfer
from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.keys import Keys
from amqp_broker.cluster.members import Address
from amqp_broker.cluster.transfer import CannotTransfer, export_journal, import_journal
from amqp_broker.journal.memory_files import MemoryFiles
from tests.support.fake_etcd import FakeEtcd

CONFIGURATION = ClusterConfiguration("orders", (Address("127.0.0.1", 1),), "", "a", "127.0.0.1", 0, 3)
WAY_OUT = "'cluster backup' has all of them.*definitions over HTTP, and have shovels carry the messages"


def nothing(done_bytes: int, all_bytes: int) -> None:
    raise AssertionError("nothing is copied")


def test_an_import_into_several_shards_is_refused_before_etcd_is_asked() -> None:
    with pytest.raises(CannotTransfer, match=f"with cluster_shards 3 .*{WAY_OUT}"):
        trio.run(import_journal, replace(CONFIGURATION, shards=3), 0, MemoryFiles(), nothing)


def test_an_export_of_several_shards_is_refused_whatever_the_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = FakeEtcd()
    etcd.put(Keys("orders").shard_count.encode(), b"2")
    monkeypatch.setattr(transfer, "blocking_members", lambda *_: SimpleNamespace(call=etcd.answer, close=lambda: None))
    target = MemoryFiles()
    with pytest.raises(CannotTransfer, match=WAY_OUT):
        export_journal(CONFIGURATION, 0, target, nothing)
    assert target.names() == []
