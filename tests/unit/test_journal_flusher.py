"""What writes the journal: who is told when, what it does on a full and on a failing disk, and how it ends."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.message import Message
from amqp_broker.broker.persistence.definitions import keep_virtual_host
from amqp_broker.broker.queues.consumers import Consumer, Deliveries
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.journal.failures import JournalFailed
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.journal.port import Journal
from amqp_broker.network.pump import Outbox
from amqp_broker.network.wake_up import WakeUp
from amqp_broker.server import disk_backlog, journal_flusher
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.clock import SystemClock
from amqp_broker.server.disk_thread import DiskThread, Job
from amqp_broker.server.driver import ServerDriver
from amqp_broker.server.journal_flusher import SYNC_DELAY_S, WRITE_DELAY_S, JournalFlusher
from amqp_broker.server.memory_limit import available_memory
from amqp_broker.server.resources import ResourceLimits, StoreStatus, watch_resources, with_memory_limits
from amqp_broker.settings import Settings
from amqp_broker.wire.content import Properties, encode_content_header
from tests.support.authorizer import Everything
from tests.unit.in_trio import in_trio

SEGMENT_BYTES = 65_536


def a_virtual_host(broker: Broker, name: str) -> VirtualHost:
    """One that the broker does not have, for the sake of its record."""
    return VirtualHost(broker, name, broker.exchange_types, broker.queue_types)


def nothing_more() -> None:
    """What was done is to be settled."""


class Served:
    """A broker on a disk in memory whose journal is written."""

    def __init__(self, settings: Settings) -> None:
        self.files = MemoryFiles()
        self.journal = cast(Journal, SegmentJournal(self.files, SEGMENT_BYTES))
        driver = ServerDriver()
        self.broker = Broker(settings, SystemClock(), driver)
        self.broker.open(self.journal)
        self.flusher = driver.flusher = JournalFlusher(self.broker, self.journal, settings, Outbox())
        self.told = 0

    def change(self, size: int = 0) -> int:
        """Do something durable; returns the position that it is kept at."""
        self.broker.add_virtual_host(f"{self.told}-{'x' * size}")
        keep_virtual_host(self.broker.durability, self.broker.virtual_hosts[f"{self.told}-{'x' * size}"])
        position = self.broker.durability.position
        self.broker.handle(nothing_more)
        return position

    def change_for_somebody(self) -> int:
        """The same; somebody waits for it to be kept."""
        self.broker.awaiting_commit[self._is_told] = None
        return self.change()

    def _is_told(self) -> None:
        """What waits is asked again when there is news."""

    async def written(self, position: int) -> None:
        """Wait until a position is written, as those do who publish more than the disk takes."""
        news = WakeUp()
        self.broker.awaiting_write[news.set] = None
        while position >= self.journal.written_position:
            await news.wait()
        del self.broker.awaiting_write[news.set]

    async def kept(self, position: int) -> None:
        """Wait until a position is kept, as a channel does: it lets the flusher look once, and then hears of it. Who
        lets it look again whenever it is told that a full disk has taken nothing keeps the clock from moving on."""
        lets_look = True
        while not self.broker.durability.is_kept(position):
            told = trio.Event()
            self.broker.awaiting_commit[told.set] = None
            if lets_look:
                self.broker.handle(nothing_more)
                lets_look = False
            await told.wait()
            del self.broker.awaiting_commit[told.set]
        self.told += 1

    def found(self) -> set[str]:
        """What ``found_on`` finds."""
        return found_on(self.files)


def found_on(files: MemoryFiles) -> set[str]:
    """The virtual hosts that a broker would find that starts now."""
    broker = Broker(Settings(), SystemClock())
    broker.open(cast(Journal, SegmentJournal(files, SEGMENT_BYTES)))
    return set(broker.virtual_hosts)


@asynccontextmanager
async def serving(settings: Settings | None = None) -> AsyncIterator[Served]:
    served = Served(settings or Settings())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.flusher.run)
        yield served
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
@in_trio
async def test_whoever_waits_is_told_when_it_is_written(fsync: str) -> None:
    async with serving(Settings(fsync=fsync)) as served:  # type: ignore[arg-type]
        for number in range(5):
            await served.kept(served.change())
            assert served.found() == {"/", *(f"{told}-" for told in range(number + 1))}


@in_trio
async def test_at_an_interval_what_was_written_is_synced_without_more_to_write() -> None:
    async with serving(Settings(fsync="interval", fsync_interval_ms=50)) as served:
        await served.kept(served.change())
        await served.kept(served.change())
        await trio.sleep(0.2)
        await served.kept(served.change())  # by then the thread has done what it was given before
        served.files.lose_power()
        assert served.found() >= {"/", "0-", "1-"}


@in_trio
async def test_what_nobody_waits_for_is_written_a_moment_later() -> None:
    async with serving() as served:
        await served.kept(served.change())
        served.change()
        await trio.sleep(WRITE_DELAY_S * 0.9)
        assert served.found() == {"/", "0-"}
        await trio.sleep(WRITE_DELAY_S)
        await served.written(served.change())  # by then the thread has done what it was given before
        assert served.found() >= {"/", "0-", "1-"}


@in_trio
async def test_what_is_gone_in_the_meantime_is_never_written() -> None:
    async with serving() as served:
        await served.kept(served.change())
        used_bytes = served.files.used_bytes
        for _ in range(20):
            virtual_host = a_virtual_host(served.broker, "x" * SEGMENT_BYTES)
            keep_virtual_host(served.broker.durability, virtual_host)
            served.broker.handle(nothing_more)
            await trio.sleep(WRITE_DELAY_S / 30)
            served.broker.durability.forget(virtual_host)
        await served.kept(served.change())
        assert served.files.used_bytes == used_bytes


@in_trio
async def test_a_server_that_ends_keeps_all_of_what_is_done_in_turns_and_seen_whole(tmp_path: Path) -> None:
    files = MemoryFiles()
    server = BrokerServer(Settings(data_dir=str(tmp_path)))
    server.open(cast(Journal, SegmentJournal(files, SEGMENT_BYTES)))
    broker = server.broker

    def keep_two() -> Iterator[None]:
        assert broker.durability.hold()
        keep_virtual_host(broker.durability, a_virtual_host(broker, "one"))
        yield
        keep_virtual_host(broker.durability, a_virtual_host(broker, "two"))
        broker.durability.release()

    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        broker.handle(lambda: broker.works.begin(keep_two()))
        nursery.cancel_scope.cancel()
    assert found_on(files) == {"/", "one", "two"}


@in_trio
async def test_on_a_full_disk_nothing_gathers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as served:
        await served.kept(served.change())
        monkeypatch.setattr(JournalFlusher, "is_disk_full", True)
        served.change()
        assert served.flusher._has_job


@in_trio
async def test_much_that_nobody_waits_for_is_written_at_once() -> None:
    async with serving(Settings(journal_pending_bytes_max=20_000)) as served:
        await served.kept(served.change())
        began_s = trio.current_time()
        await served.written(served.change(10_001))
        assert trio.current_time() == began_s


@in_trio
async def test_what_gathers_while_the_disk_is_busy_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_flusher, "SET_ASIDE_BYTES", 10_000)
    async with serving() as served:
        await served.kept(served.change())
        served.change_for_somebody()
        assert served.flusher._has_job
        for size in (10_001, 10_002, 10_003):
            position = served.change(size)
            assert served.journal.gathered_bytes == 0
        assert 10_001 <= served.journal.next_bytes < 20_000
        await served.kept(position)
        assert not served.journal.has_set_aside
        served.files.lose_power()
        assert {len(name) for name in served.found()} == {1, 2, 10_003, 10_004, 10_005}


@in_trio
async def test_a_disk_that_takes_much_may_be_behind_with_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_backlog, "MEASURED_BYTES_MIN", 50_000)
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    async with serving(Settings(journal_pending_bytes_max=20_000)) as served:
        await served.kept(served.change())
        await wait_all_tasks_blocked()  # the thread begins to set space aside, as at each start
        await served.kept(served.change())  # it has nothing to do any more
        served.flusher.backlog.room_bytes = 1_000_000
        served.change(60_000)
        assert served.flusher._has_job
        position = served.change_for_somebody()
        clock.jump(1)
        await served.kept(position)
        assert 80_000 < served.broker.unawaited_bytes_max < 121_000  # the clock may go on until something is due


@in_trio
async def test_what_nobody_waits_for_is_synced_a_little_later() -> None:
    async with serving() as served:
        await served.kept(served.change())
        position = served.change()
        await served.written(position)
        assert served.found() == {"/", "0-", "1-"}
        assert not served.broker.durability.is_kept(position)
        await trio.sleep(SYNC_DELAY_S)
        await served.written(served.change())  # by then the thread has done what it was given before
        assert served.broker.durability.is_kept(position)


@pytest.mark.parametrize("when", [1, 2, 3, 4])
@in_trio
async def test_a_sync_that_becomes_due_while_others_are_at_work_is_not_forgotten(when: int) -> None:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    calls = 0

    def take_long() -> None:
        nonlocal calls
        calls += 1
        if calls == when:
            clock.jump(SYNC_DELAY_S)

    async with serving() as served:
        await served.kept(served.change())
        served.broker.awaiting_write[take_long] = None  # called whenever the flusher has looked for what to do
        position = served.change()
        await served.written(position)
        await trio.sleep(2 * SYNC_DELAY_S)
    assert served.broker.durability.is_kept(position)


@pytest.fixture
def _no_delayed_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time alone has nothing synced."""
    monkeypatch.setattr(journal_flusher, "SYNC_DELAY_S", math.inf)


@pytest.mark.usefixtures("_no_delayed_sync")
@in_trio
async def test_who_comes_to_wait_for_what_was_written_has_it_synced() -> None:
    async with serving() as served:
        await served.kept(served.change())
        position = served.change()
        await served.written(position)
        await served.kept(position)
        served.files.lose_power()
        assert served.found() == {"/", "0-", "1-"}


@pytest.mark.usefixtures("_no_delayed_sync")
@in_trio
async def test_a_sync_covers_what_was_written_before_somebody_waited() -> None:
    async with serving() as served:
        await served.kept(served.change())
        for size in (1, 2, SEGMENT_BYTES):  # the last one begins another segment
            await served.written(served.change(size))
        await served.kept(served.change())
        served.files.lose_power()
        assert served.found() == {"/", "0-", "1-x", "1-xx", f"1-{'x' * SEGMENT_BYTES}", "1-"}


@pytest.mark.usefixtures("_no_delayed_sync")
@in_trio
async def test_much_that_nobody_waits_for_is_synced_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_flusher, "UNSYNCED_BYTES_MAX", 30_000)
    async with serving() as served:
        await served.kept(served.change())
        first = served.change(10_000)
        await served.written(first)
        assert not served.broker.durability.is_kept(first)
        second = served.change(20_000)
        await served.written(second)
        assert served.broker.durability.is_kept(second)


@in_trio
async def test_a_sync_that_fails_later_is_final() -> None:
    served = Served(Settings())

    async def fail() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.flusher.run)
            await served.written(served.change())
            served.files.fail_at_step = served.files.steps + 1
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await fail()
    assert [type(error) for error in caught.value.exceptions] == [JournalFailed]
    with pytest.raises(JournalFailed):
        served.broker.durability.take_batch()


@in_trio
async def test_a_full_disk_is_waited_out_and_the_alarm_stays_however_much_space_there_seems_to_be(
    tmp_path: Path,
) -> None:
    settings = with_memory_limits(
        Settings(data_dir=str(tmp_path), disk_free_limit_bytes=0, resource_check_ms=10), available_memory()
    )
    async with serving(settings) as served, trio.open_nursery() as nursery:
        await served.kept(served.change())
        served.files.capacity_bytes = served.files.used_bytes
        position = served.change(SEGMENT_BYTES)
        alarms, news = served.broker.alarms, trio.Event()
        alarms.listen(news.set)
        limits = ResourceLimits(settings, 0)
        nursery.start_soon(watch_resources, served.broker, settings, limits, served.flusher, lambda: None)
        await news.wait()
        assert alarms.are_raised
        news = trio.Event()
        alarms.listen(news.set)
        await trio.sleep(5)
        assert not news.is_set()
        assert not served.broker.durability.is_kept(position)
        served.files.capacity_bytes = None
        await served.kept(position)
        await news.wait()
        assert not alarms.are_raised
        nursery.cancel_scope.cancel()


@in_trio
async def test_an_alarm_says_whether_it_is_this_disk_that_runs_full_or_what_keeps_the_journal_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = StoreStatus(name="etcd", used_bytes=61, quota_bytes=100, is_low=False)
    settings = with_memory_limits(Settings(data_dir=str(tmp_path), disk_free_limit_bytes=0), available_memory())

    async with serving(settings) as served, trio.open_nursery() as nursery:
        limits = ResourceLimits(settings, 0)
        nursery.start_soon(watch_resources, served.broker, settings, limits, served.flusher, lambda: store)

        async def look(is_store_low: bool, disk_limit_bytes: int) -> dict[str, object]:
            store["is_low"], limits.disk_free_limit_bytes = is_store_low, disk_limit_bytes
            caplog.clear()
            limits.tell()
            await trio.testing.wait_all_tasks_blocked()
            fields = caplog.records[-1].fields  # type: ignore[attr-defined]
            return {"event": caplog.messages[-1], **fields}

        of_etcd = {"resource": "disk", "of": "etcd", "bytes": 61, "quota_bytes": 100}
        assert await look(True, 0) == {"event": "alarm raised", **of_etcd}
        assert await look(False, 0) == {"event": "alarm cleared", **of_etcd}
        raised, cleared = await look(False, 2**62), await look(False, 0)
        assert (raised["event"], raised["limit_bytes"], cleared["event"]) == ("alarm raised", 2**62, "alarm cleared")
        assert {"of", "quota_bytes"}.isdisjoint({*raised, *cleared})
        nursery.cancel_scope.cancel()


@in_trio
async def test_brokers_of_one_process_all_look_when_a_limit_has_changed_and_say_together_that_memory_is_low(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An owner's node has one more, for what it tells of itself."""
    settings = with_memory_limits(Settings(resource_check_ms=3_600_000), available_memory())
    limits = ResourceLimits(settings, 0)
    brokers = [Broker(settings, SystemClock(), ServerDriver()) for _ in range(2)]
    async with trio.open_nursery() as nursery:
        for broker in brokers:
            nursery.start_soon(watch_resources, broker, settings, limits, None, lambda: None)
        await trio.testing.wait_all_tasks_blocked()
        for high_water_bytes, is_low in ((1, True), (2**62, False)):
            limits.memory_high_water_bytes = high_water_bytes
            limits.tell()
            await trio.testing.wait_all_tasks_blocked()
            assert [broker.alarms.are_raised for broker in brokers] == [is_low, is_low]
        nursery.cancel_scope.cancel()
    assert caplog.messages == ["alarm raised", "alarm cleared"]


class Restless:
    """Puts the next change in place of the last one as soon as that is kept: there is always something to write."""

    def __init__(self, served: Served, size: int, rounds: int) -> None:
        self._served = served
        self._size = size
        self._left = rounds
        self._last = a_virtual_host(served.broker, "last")
        self.done = trio.Event()
        self.disk_bytes_max = 0

    def begin(self) -> None:
        self._served.broker.awaiting_commit[self.go_on] = None
        self.go_on()

    def go_on(self) -> None:
        self.disk_bytes_max = max(self.disk_bytes_max, self._served.files.used_bytes)
        self._left -= 1
        if not self._left:
            del self._served.broker.awaiting_commit[self.go_on]
            self.done.set()
            return
        durability = self._served.broker.durability
        durability.forget(self._last)
        self._last = a_virtual_host(self._served.broker, f"{self._left}-{'x' * self._size}")
        keep_virtual_host(durability, self._last)
        self._served.broker.handle(nothing_more)


@pytest.mark.parametrize("size", [1000, SEGMENT_BYTES // 4, 2 * SEGMENT_BYTES])
@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
@in_trio
async def test_space_is_freed_although_there_is_always_something_to_write(fsync: str, size: int) -> None:
    async with serving(Settings(fsync=fsync, fsync_interval_ms=600_000)) as served:  # type: ignore[arg-type]
        restless = Restless(served, size, 20 + 20 * SEGMENT_BYTES // size)
        restless.begin()
        await restless.done.wait()
        assert restless.disk_bytes_max <= 6 * max(size, SEGMENT_BYTES)


@in_trio
async def test_who_is_told_that_nothing_was_left_to_write_may_change_something_while_space_is_to_be_freed() -> None:
    async with serving() as served:
        broker = served.broker
        large = [a_virtual_host(broker, f"{number}{'x' * (SEGMENT_BYTES // 2)}") for number in range(6)]
        for each in large:
            keep_virtual_host(broker.durability, each)
            await served.kept(served.change())
        used_bytes = served.files.used_bytes
        for each in large[:2]:  # so little that it has time until there is nothing to write
            broker.durability.forget(each)
        changed: list[int] = []

        def change_once() -> None:
            del broker.awaiting_commit[change_once]
            changed.append(served.change())

        def wait_for_nothing() -> None:
            del broker.awaiting_commit[wait_for_nothing]
            broker.awaiting_commit[change_once] = None  # asked next when nothing is left, and space is to be freed

        broker.awaiting_commit[wait_for_nothing] = None
        broker.handle(nothing_more)
        while not changed:
            await trio.testing.wait_all_tasks_blocked()
            broker.handle(nothing_more)
        await served.kept(changed[0])
        assert len(changed) == 1
        while served.files.used_bytes >= used_bytes:
            await served.kept(served.change())


@in_trio
async def test_space_is_freed_while_a_batch_waits_for_space() -> None:
    async with serving() as served:
        broker, files = served.broker, served.files
        large = [a_virtual_host(broker, f"{number}{'x' * (SEGMENT_BYTES // 2)}") for number in range(6)]
        for each in large:
            keep_virtual_host(broker.durability, each)
            await served.kept(served.change())
        files.capacity_bytes = files.used_bytes + 4096  # enough to copy what is live, too little for what comes
        for each in large:
            broker.durability.forget(each)
        broker.awaiting_commit[nothing_more] = None
        broker.handle(nothing_more)  # this is on its way to the disk when the batch gathers for which there is no space
        del broker.awaiting_commit[nothing_more]
        await served.kept(served.change(SEGMENT_BYTES))
        assert not served.flusher.is_disk_full


@in_trio
async def test_a_failure_is_final() -> None:
    served = Served(Settings())

    async def fail() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.flusher.run)
            await served.kept(served.change())
            served.files.fail_at_step = served.files.steps + 2
            await served.kept(served.change())

    with pytest.raises(ExceptionGroup) as caught:
        await fail()
    assert [type(error) for error in caught.value.exceptions] == [JournalFailed]
    with pytest.raises(JournalFailed):
        served.broker.durability.take_batch()


class Defective(Deliveries):
    """A consumer whose connection has a defect."""

    def __init__(self) -> None:
        self.has_room = True

    def deliver(self, consumer: Consumer, message: Message, header: bytes) -> None:
        raise ArithmeticError("of a consumer")


@in_trio
async def test_a_defect_of_a_consumer_that_waits_for_what_is_kept_is_not_the_journals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    async with serving() as served:
        broker = served.broker
        host = broker.virtual_hosts["/"]
        stream = host.declare_queue(
            Everything(), "s", durable=True, exclusive=False, auto_delete=False, arguments={"x-queue-type": "stream"}
        )
        stream.add_credited_consumer("tag", Defective(), no_ack=True, arguments={})
        header = encode_content_header(1, Properties())
        broker.handle(lambda: host.ingress.publish_of("guest", host.exchanges[""], "s", header, b"m"))
        for _ in range(2):
            await served.kept(served.change())
    assert [record.getMessage() for record in caplog.records] == ["internal error"]


@in_trio
async def test_the_end_waits_for_what_is_being_written() -> None:
    served = Served(Settings())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.flusher.run)
        await served.kept(served.change())
        await trio.testing.wait_all_tasks_blocked()  # the thread begins to set space aside, as at each start
        await served.kept(served.change())  # it has nothing to do any more
        position = served.change_for_somebody()
        nursery.cancel_scope.cancel()
    assert served.broker.durability.is_kept(position)
    left = served.change_for_somebody()
    await trio.testing.wait_all_tasks_blocked()
    assert not served.broker.durability.is_kept(left)  # there is no thread any more that could be given it


# --- the thread


@in_trio
async def test_jobs_are_done_in_order_and_their_outcomes_told_in_the_loop() -> None:
    here = threading.get_ident()
    told: list[object] = []

    def tell(job: Job[int]) -> None:
        assert threading.get_ident() == here
        try:
            told.append(job.result())
        except ZeroDivisionError as error:
            told.append(type(error))

    thread = DiskThread()
    thread.do(lambda: 1, tell)
    thread.do(lambda: 1 // 0, tell)
    thread.do(lambda: int(threading.get_ident() == here), tell)
    await thread.end()
    assert told == [1, ZeroDivisionError, 0]


@in_trio
async def test_what_a_job_led_to_is_told_when_asked_and_once() -> None:
    told: list[int] = []
    is_done = threading.Event()
    thread = DiskThread()
    thread.do(lambda: 1, lambda job: told.append(job.result()))
    thread.do(is_done.set, lambda _: told.append(2))
    assert is_done.wait(30)
    assert not told
    thread.tell()
    assert told[:1] == [1], "the event loop had no round yet"
    await thread.end()
    assert told == [1, 2]
