"""What the torture takes for a transaction of an epoch that is over."""

from __future__ import annotations

from amqp_broker.etcd.messages import Event, KeyValue
from tests.cluster.epochs import Epochs

PREFIX = "c/shard/0/"


def changed(revision: int, *keys: str, is_delete: bool = False) -> list[Event]:
    return [Event(is_delete, KeyValue(f"{PREFIX}{key}".encode(), b"", 1, revision, 1, 0)) for key in keys]


def lane(epoch: int) -> str:
    return f"lane/{epoch:016x}/3"


def faults_after(*transactions: list[Event]) -> list[str]:
    epochs = Epochs(PREFIX)
    epochs.begin(5)
    for events in transactions:
        epochs.take(events[0].entry.mod_revision, events)
    return epochs.faults


def test_what_is_written_in_its_own_epoch_is_right() -> None:
    opened = changed(21, lane(20)) + changed(21, lane(5), is_delete=True)
    assert faults_after(changed(6, lane(5), "f/1"), changed(20, "owner", "last"), opened, changed(22, lane(20))) == []


def test_what_is_written_in_an_epoch_that_is_over_is_found() -> None:
    over = faults_after(changed(20, "owner", "last"), changed(22, lane(5), "f/1"))
    assert [fault.split(":")[0] for fault in over] == ["revision 22 was written in [5], epoch 20"]
    nobody = faults_after(changed(20, "owner", is_delete=True), changed(22, lane(5)))
    assert [fault.split(":")[0] for fault in nobody] == ["revision 22 was written in [5], epoch 0"]


def test_what_is_written_without_an_epoch_is_found() -> None:
    assert len(faults_after(changed(6, "f/1"))) == 1
