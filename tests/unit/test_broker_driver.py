"""What a broker is handed, what it asks of its driver and when, and how it is opened."""

from __future__ import annotations

from typing import cast

import pytest

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.ports import PassiveDriver
from amqp_broker.journal.batches import GatheredBatch
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.journal.port import Journal
from amqp_broker.settings import Settings
from tests.support.disk_broker import DiskBroker
from tests.support.manual_clock import ManualClock


class NotingDriver(PassiveDriver):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def journal_has_work(self) -> None:
        self.asked.append("write")

    def work_is_unfinished(self) -> None:
        self.asked.append("go on")

    def deadline_came_forward(self) -> None:
        self.asked.append("wake earlier")


class Driven:
    """A broker with a journal, and its driver."""

    def __init__(self) -> None:
        self.driver = NotingDriver()
        self.journal = SegmentJournal(MemoryFiles(), 4096)
        self.broker = Broker(Settings(), ManualClock(), self.driver)
        self.broker.open(cast(Journal, self.journal))
        self.take()

    def take(self) -> list[str]:
        """What was asked for since the last time; what is to be written is written."""
        batch = self.broker.durability.take_batch()
        if batch is not None:
            self.journal.write(cast(GatheredBatch, batch))
            self.journal.committed(cast(GatheredBatch, batch))
        asked, self.driver.asked = self.driver.asked, []
        return asked

    def change(self) -> str:
        """Do something durable; returns what the driver has been asked for until then."""
        self.broker.administration.add_virtual_host(str(len(self.broker.virtual_hosts)))
        self.broker.to_finish.append(lambda: self.driver.asked.append("settled"))
        return " ".join(self.driver.asked)


def test_the_driver_is_asked_when_a_piece_of_work_is_settled() -> None:
    driven = Driven()
    assert driven.broker.handle(driven.change) == ""
    assert driven.take() == ["settled", "write"]
    driven.broker.handle(lambda: None)
    assert driven.take() == []


def test_work_within_work_is_settled_with_the_whole() -> None:
    driven = Driven()

    def change_twice() -> None:
        assert driven.broker.handle(driven.change) == ""
        assert driven.broker.handle(driven.change) == ""

    driven.broker.handle(change_twice)
    assert driven.take() == ["settled", "settled", "write"]


def test_what_failed_work_has_left_is_settled_with_the_next() -> None:
    driven = Driven()

    def change_and_fail() -> None:
        driven.change()
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError):
        driven.broker.handle(change_and_fail)
    assert driven.take() == []
    driven.broker.handle(driven.change)
    assert driven.take() == ["settled", "settled", "write"]


def test_the_driver_is_asked_to_go_on_until_there_is_nothing_left() -> None:
    driven = Driven()
    driven.broker.handle(lambda: driven.broker.works.begin(iter([None] * 3)))
    assert driven.take() == ["go on"]
    driven.broker.go_on()
    assert driven.take() == ["go on"]
    while driven.broker.is_unfinished:
        driven.broker.go_on()
    driven.take()
    driven.broker.handle(lambda: None)
    assert driven.take() == []


def test_an_earlier_deadline_is_told_at_once() -> None:
    driven = Driven()
    driven.broker.timers.after(20, lambda: None)
    assert driven.take() == ["wake earlier"]
    driven.broker.timers.after(30, lambda: None)
    assert driven.take() == []
    driven.broker.timers.after(10, lambda: None)
    assert driven.take() == ["wake earlier"]


def test_a_broker_that_keeps_nothing_is_opened_as_well() -> None:
    broker = Broker(Settings(default_virtual_host="here"), ManualClock())
    assert not broker.virtual_hosts
    assert not len(broker.users)
    broker.open()
    assert list(broker.virtual_hosts) == ["here"]
    assert [user.name for user in broker.users] == ["guest"]


def test_a_broker_can_be_opened_in_steps() -> None:
    before = DiskBroker()
    channel = before.client().channel()
    for number in range(200):
        channel.declare(f"q{number}", durable=True)
        channel.publish("", f"q{number}", b"x" * 100, delivery_mode=2)
    before.write()
    again = Broker(Settings(), before.clock)
    steps = again.opening(cast(Journal, SegmentJournal(before.files, 4096)))
    counts = {sum(len(each.queues) for each in again.virtual_hosts.values()) for _ in steps}
    assert len(counts) > 3
    queues = again.virtual_hosts["/"].queues
    assert len(queues) == 200
    assert {queue.ready_count for queue in queues.values()} == {1}
