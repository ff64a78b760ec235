"""Confirms by themselves: runs, their order, and what waits for the journal."""

from __future__ import annotations

import pytest

from amqp_broker.broker.publishing import REFUSED, TAKEN
from amqp_broker.session.confirms import Confirms
from tests.support.memory_broker import MemoryBroker


class Publisher:
    """A publisher whose journal has kept as much as the test says."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self.kept_up_to = 0
        self.told: list[tuple[int, int, bool]] = []
        self.confirms = Confirms(
            broker, lambda position: position <= self.kept_up_to, lambda *run: self.told.append(run)
        )

    def chunk(self, *outcomes: int) -> None:
        def add_all() -> None:
            for number, outcome in enumerate(outcomes, 1):
                self.confirms.add(number, outcome)

        self.broker.handle(add_all)

    def commit(self, position: int) -> None:
        self.kept_up_to = position
        self.broker.committed()


@pytest.fixture
def publisher(broker: MemoryBroker) -> Publisher:
    return Publisher(broker)


def test_what_a_chunk_brings_is_one_run(publisher: Publisher) -> None:
    publisher.chunk(TAKEN, TAKEN, TAKEN)
    assert publisher.told == [(1, 3, True)]


def test_what_is_refused_is_a_run_by_itself(publisher: Publisher) -> None:
    publisher.chunk(TAKEN, TAKEN, REFUSED, REFUSED, TAKEN)
    assert publisher.told == [(1, 2, True), (3, 3, False), (4, 4, False), (5, 5, True)]


def test_a_run_waits_until_its_last_is_kept_and_all_behind_it_wait_too(publisher: Publisher) -> None:
    publisher.chunk(5, TAKEN, 9, REFUSED, TAKEN)
    assert publisher.told == []
    assert publisher.confirms.unconfirmed_count == 5
    publisher.commit(8)
    assert publisher.told == []
    publisher.commit(9)
    assert publisher.told == [(1, 3, True), (4, 4, False), (5, 5, True)]
    assert not publisher.broker.awaiting_commit


def test_who_goes_is_told_nothing(publisher: Publisher) -> None:
    publisher.chunk(5)
    publisher.confirms.release()
    assert not publisher.broker.awaiting_commit
    publisher.commit(9)
    assert publisher.told == []
