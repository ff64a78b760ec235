"""What fails for one of those whom a background task serves is logged, and the task goes on for the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio

from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.access.passwords import NotVerifiedYet
from amqp_broker.broker.queues.paging import PageRead
from amqp_broker.journal.failures import JournalFailed
from amqp_broker.journal.port import Journal
from amqp_broker.network.pump import Outbox
from amqp_broker.network.wake_up import WakeUp
from amqp_broker.server.logins.authority import Asked
from amqp_broker.server.logins.backend import Backend
from amqp_broker.server.page_reader import read_pages
from amqp_broker.server.password_checks import PasswordChecks
from amqp_broker.settings import Settings
from tests.support.memory_broker import MemoryBroker
from tests.unit.in_trio import in_trio


class Page:
    """A page that is wanted, and what is done when it is here."""

    is_wanted = True

    def __init__(self, was_read: Callable[[], None]) -> None:
        self.was_read = was_read

    def read(self, journal: object) -> None:
        """Nothing is read."""


def fails() -> None:
    raise ValueError("a defect")


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@in_trio
async def test_pages_are_read_for_the_others(broker: MemoryBroker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    with trio.CancelScope() as scope:
        for was_read in (fails, scope.cancel):
            broker.paging.reads.append(cast(PageRead, Page(was_read)))
        await read_pages(broker, cast(Journal, None), WakeUp(), Outbox())
    assert logged(caplog) == ["internal error"]


@in_trio
async def test_a_journal_that_fails_ends_the_reading(broker: MemoryBroker) -> None:
    def disk_fails() -> None:
        raise JournalFailed("gone")

    broker.paging.reads.append(cast(PageRead, Page(disk_fails)))
    with pytest.raises(JournalFailed):
        await read_pages(broker, cast(Journal, None), WakeUp(), Outbox())


@in_trio
async def test_passwords_are_checked_for_the_others(broker: MemoryBroker, caplog: pytest.LogCaptureFixture) -> None:
    gone_on: list[bool] = []
    check = NotVerifiedYet(lambda: True, lambda: True, lambda matches: None)
    caplog.set_level(logging.ERROR)
    async with trio.open_nursery() as nursery:
        checks = PasswordChecks(broker, nursery)
        checks.begin(check, fails, lambda: True)
        checks.begin(check, lambda: gone_on.append(True), lambda: True)
    assert gone_on == [True]
    assert logged(caplog) == ["internal error"]


@in_trio
async def test_back_ends_are_asked_for_the_others(broker: MemoryBroker, caplog: pytest.LogCaptureFixture) -> None:
    gone_on: list[bool] = []

    async def question() -> Any:
        return True

    caplog.set_level(logging.ERROR)
    async with trio.open_nursery() as nursery:
        asked = Asked("http", cast(Backend, None), broker, Settings(), nursery.start_soon)
        for go_on in (fails, lambda: gone_on.append(True)):
            with pytest.raises(NotDecidedYet) as undecided:
                asked.answer(("vhost",) * 3, question)
            undecided.value.wait(go_on)
    assert gone_on == [True]
    assert logged(caplog) == ["internal error"]
