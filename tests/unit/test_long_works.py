"""What takes long is done in slices: nobody can tell, but that others are answered in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing
from pamqp import body, commands, header

from amqp_broker.broker.works import Unfinished, Work, Works
from amqp_broker.network.pump import Outbox
from amqp_broker.network.wake_up import WakeUp
from amqp_broker.server.long_works import AWAITED_S, TURN_S, WorkTurns, go_on_with_works
from tests.support.client import Client, ClientChannel, Sendable
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker, small_slices
from tests.unit.in_trio import in_trio

COUNT = 11
NAMES = [f"m{number:02}".encode() for number in range(COUNT)]
QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}


@pytest.fixture(autouse=True)
def slices_are_small() -> Iterator[None]:
    with small_slices():
        yield


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    return Client(broker).open().channel()


@pytest.fixture
def other(broker: MemoryBroker) -> ClientChannel:
    return Client(broker).open().channel()


def fill(channel: ClientChannel, queue: str = "q", **properties: Any) -> None:
    for name in NAMES:
        channel.publish("", queue, name, **properties)


def take_all(channel: ClientChannel, queue: str = "q") -> None:
    """Have them all unacknowledged, and no consumer any more."""
    tag = channel.consume(queue)
    assert len(channel.received()) == COUNT
    channel.call(commands.Basic.Cancel(consumer_tag=tag))


# --- many frames of one chunk


def test_a_few_bytes_that_ask_for_much_are_handled_in_turns(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amqp_broker.protocols.amqp091.connection.SLICE_MESSAGES", 5)
    channel.exchange("fan", "fanout")
    for name in ("a", "b", "c"):
        channel.declare(name)
        channel.bind(name, "fan")
    publish: list[Sendable] = [
        commands.Basic.Publish(exchange="fan"),
        header.ContentHeader(body_size=1),
        body.ContentBody(b"x"),
    ]
    channel.publish("fan", "")
    with broker.holding_works():
        channel.send(*publish * 9, commands.Queue.Purge(queue="a"))
        assert channel.client.connection.is_reading_paused
        assert [other.message_count(name) for name in ("a", "b", "c")] == [3, 3, 3]
        broker.go_on()
        broker.go_on()
        assert [other.message_count(name) for name in ("a", "b", "c")] == [5, 5, 5]
    assert not channel.client.connection.is_reading_paused
    assert channel.one(commands.Queue.PurgeOk).message_count == 10
    assert [other.message_count(name) for name in ("a", "b", "c")] == [0, 10, 10]


def test_methods_are_handled_in_turns_and_answered_in_order(
    broker: MemoryBroker, channel: ClientChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amqp_broker.protocols.amqp091.connection.SLICE_MESSAGES", 25)
    with broker.holding_works():
        channel.send(*[commands.Queue.Declare(queue=f"q{number}") for number in range(7)])
        assert sorted(broker.virtual_host.queues) == ["q0", "q1", "q2"]
    declared = [answer.queue for answer in channel.methods() if isinstance(answer, commands.Queue.DeclareOk)]
    assert declared == [f"q{number}" for number in range(7)]


def test_who_leaves_before_its_turn_is_not_heard_again(
    broker: MemoryBroker, channel: ClientChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amqp_broker.protocols.amqp091.connection.SLICE_MESSAGES", 25)
    with broker.holding_works():
        channel.send(*[commands.Queue.Declare(queue=f"q{number}") for number in range(7)])
        channel.client.connection.lost("gone")
    assert sorted(broker.virtual_host.queues) == ["q0", "q1", "q2"]


# --- dead letters


def test_a_dead_letter_counts_by_its_history(broker: MemoryBroker, channel: ClientChannel) -> None:
    """A history grows with each death, and is read and written at each: so fewer of them fit into a slice."""
    broker.works.slice_messages = 50
    depth = 20
    for number in range(depth):
        onward = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"q{number + 1}"}
        channel.declare(f"q{number}", {"x-message-ttl": 0, **onward})
    channel.declare(f"q{depth}")
    slices = 1
    with broker.holding_works():
        channel.publish("", "q0", b"x")
        while broker.is_unfinished:
            broker.go_on()
            slices += 1
    assert channel.message_count(f"q{depth}") == 1
    assert slices > 6  # four or five where each counts alike


# --- works


def test_a_work_that_holds_others_up_has_every_second_turn() -> None:
    turns: list[str] = []

    def slices(name: str) -> Iterator[None]:
        for _ in range(4):
            turns.append(name)
            yield

    works = Works()
    for name in "ab":
        works.begin(slices(name))
    works.begin(slices("X"), holds_others_up=True)
    works.begin(slices("c"))
    while works.unfinished:
        works.run_slice()
    assert "".join(turns) == "abXc" + "aXbXcX" + "abcabc"


def test_a_work_is_begun_at_once_and_done_slice_by_slice() -> None:
    done: list[int] = []

    def slices() -> Iterator[None]:
        for number in range(3):
            if number:
                yield
            done.append(number)

    works = Works()
    work = works.begin(slices())
    work.when_done(lambda: done.append(-1))
    assert done == [0]
    assert works.unfinished
    works.run_slice()
    assert not work.is_done
    works.run_slice()
    assert work.is_done
    assert not works.unfinished
    assert done == [0, 1, 2, -1]
    work.when_done(lambda: done.append(-2))
    assert done[-1] == -2


def test_works_take_turns() -> None:
    done: list[str] = []

    def slices(name: str, count: int) -> Iterator[None]:
        for _ in range(count):
            done.append(name)
            yield

    works = Works()
    works.begin(slices("a", 3))
    works.begin(slices("b", 2))
    while works.unfinished:
        works.run_slice()
    assert "".join(done) == "ababa"


def test_a_defect_ends_a_work_and_whoever_waits_goes_on() -> None:
    went_on: list[bool] = []

    def slices() -> Iterator[None]:
        yield
        raise RuntimeError("a defect")

    works = Works()
    work = works.begin(slices())
    work.when_done(lambda: went_on.append(True))
    with pytest.raises(RuntimeError, match="a defect"):
        works.run_slice()
    assert went_on
    assert not works.unfinished


def test_what_is_not_large_is_done_at_once() -> None:
    work = Works().begin(iter(()))
    assert work.is_done
    assert isinstance(Unfinished(work).work, Work)


# --- purge and deletion


def test_a_purge_takes_effect_at_once_and_is_answered_in_the_end(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel
) -> None:
    channel.declare("q")
    fill(channel)
    with broker.holding_works():
        channel.send(commands.Queue.Purge(queue="q"), commands.Basic.Get(queue="q"))
        assert channel.received() == []
        assert other.message_count("q") == 0
        other.publish("", "q", b"behind it")
        assert broker.paging.used_bytes > 0
    answer, got = channel.received()
    assert answer.expect(commands.Queue.PurgeOk).message_count == COUNT
    assert got.body == b"behind it"


def test_a_deletion_is_answered_at_once(broker: MemoryBroker, channel: ClientChannel, other: ClientChannel) -> None:
    channel.declare("q")
    fill(channel)
    with broker.holding_works():
        channel.send(commands.Queue.Delete(queue="q"))
        assert channel.one(commands.Queue.DeleteOk).message_count == COUNT
        assert other.declare("q").message_count == 0
        other.publish("", "q", b"new")
    assert other.drain("q") == [b"new"]


def test_what_a_deleted_queue_held_is_not_there_after_a_crash() -> None:
    broker = DiskBroker()
    channel = broker.client().channel()
    before = broker.live_records()
    channel.declare("q", durable=True)
    fill(channel, delivery_mode=2)
    with broker.holding_works():
        channel.call(commands.Queue.Delete(queue="q"))
        assert broker.live_records() > before, "the journal was to be left with messages of no queue"
        after = broker.killed()
    assert "q" not in after.virtual_host.queues
    assert after.live_records() == before


def test_a_purge_that_was_answered_is_whole_after_a_crash() -> None:
    broker = DiskBroker()
    channel = broker.client().channel()
    channel.declare("q", durable=True)
    fill(channel, delivery_mode=2)
    channel.call(commands.Queue.Purge(queue="q"))
    assert broker.killed().queue("q").ready_count == 0


# --- settlement


@pytest.mark.parametrize("arguments", [{}, {"x-max-priority": 3}, QUORUM], ids=["classic", "priorities", "quorum"])
def test_what_is_requeued_comes_back_in_one_piece_and_in_order(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel, arguments: dict[str, Any]
) -> None:
    channel.declare("q", arguments, durable=True)
    fill(channel)
    take_all(channel)
    with broker.holding_works():
        channel.nack(0, multiple=True)
        other.consume("q", "c")
        other.publish("", "q", b"last")
    bodies = other.bodies()
    assert sorted(bodies) == [b"last", *NAMES]
    assert [body for body in bodies if body != b"last"] == NAMES


def test_nothing_comes_between_what_is_requeued_to_its_own_consumer(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel
) -> None:
    channel.declare("q")
    fill(channel)
    channel.qos(COUNT)
    channel.consume("q")
    channel.received()
    other.publish("", "q", b"last")
    channel.send(commands.Basic.Recover(requeue=True))
    received = channel.received()
    assert [one.body for one in received if one.body] == NAMES
    assert sum(isinstance(one.method, commands.Basic.RecoverOk) for one in received) == 1


def test_an_acknowledgement_of_many_is_heard_whole_before_the_next_method(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    channel.declare("q")
    fill(channel)
    take_all(channel)
    with broker.holding_works():
        channel.send(commands.Basic.Ack(COUNT - 1, True), commands.Basic.Recover(requeue=True))
        assert 0 < broker.queue("q").unacknowledged_count < COUNT
        assert channel.received() == []
    channel.one(commands.Basic.RecoverOk)
    assert channel.drain("q") == NAMES[-1:]


def test_what_was_acknowledged_is_not_delivered_again_when_its_connection_ends_meanwhile(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel
) -> None:
    channel.declare("q")
    fill(channel)
    take_all(channel)
    with broker.holding_works():
        channel.ack(COUNT - 3, multiple=True)
        channel.client.connection.lost("gone")
    assert other.drain("q") == NAMES[-3:]


def test_a_channel_is_closed_when_its_messages_are_back(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel
) -> None:
    channel.declare("q")
    fill(channel)
    take_all(channel)
    with broker.holding_works():
        channel.send(commands.Channel.Close(200, "", 0, 0))
        assert channel.received() == []
    channel.one(commands.Channel.CloseOk)
    assert other.message_count("q") == COUNT


def test_a_connection_is_closed_when_its_messages_are_back(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel
) -> None:
    channel.declare("q")
    fill(channel)
    take_all(channel)
    with broker.holding_works():
        channel.client.send(commands.Connection.Close(200, "", 0, 0))
        assert channel.client.received() == []
    channel.client.one(commands.Connection.CloseOk)
    assert other.message_count("q") == COUNT


def test_a_channel_that_fails_is_closed_when_its_messages_are_back(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel
) -> None:
    channel.declare("q")
    fill(channel)
    take_all(channel)
    with broker.holding_works():
        channel.send(commands.Basic.Ack(99), commands.Channel.Close(200, "", 0, 0))
        assert channel.received() == []
    closed, answered = channel.methods()
    assert isinstance(closed, commands.Channel.Close)
    assert isinstance(answered, commands.Channel.CloseOk)
    assert other.message_count("q") == COUNT


def test_a_client_may_close_a_channel_that_was_too_slow_while_its_messages_go_back(
    broker: MemoryBroker, channel: ClientChannel
) -> None:
    channel.declare("q")
    fill(channel)
    take_all(channel)
    with broker.holding_works():
        broker.advance(32 * 60_000)
        channel.send(commands.Channel.Close(200, "", 0, 0), commands.Channel.CloseOk(), commands.Channel.Open())
        assert channel.received() == []
    closed, answered, opened = channel.methods()
    assert isinstance(closed, commands.Channel.Close)
    assert isinstance(answered, commands.Channel.CloseOk)
    assert isinstance(opened, commands.Channel.OpenOk)
    assert channel.message_count("q") == COUNT


def test_a_connection_that_fails_is_closed_when_its_messages_are_back(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel
) -> None:
    channel.declare("q")
    fill(channel)
    take_all(channel)
    with broker.holding_works():
        channel.send(commands.Channel.Open())
        assert channel.client.received() == []
    assert channel.client.closed_with().reply_code == 504
    assert other.message_count("q") == COUNT


@pytest.mark.parametrize("slices", range(8))
def test_a_transaction_ends_while_messages_go_back(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel, slices: int
) -> None:
    """What it had acknowledged is given back with the rest, and nothing twice."""
    channel.declare("q")
    fill(channel)
    take_all(channel)
    channel.call(commands.Tx.Select())
    with broker.holding_works():
        channel.send(commands.Basic.Ack(2), commands.Basic.Ack(9), commands.Basic.Recover(requeue=True))
        for _ in range(slices):
            broker.go_on()
        channel.client.connection.lost("gone")
    assert other.message_count("q") == COUNT
    assert other.drain("q") == NAMES


def test_a_connection_that_ends_while_it_is_being_closed_ends_once(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel
) -> None:
    channel.declare("q")
    fill(channel)
    take_all(channel)
    with broker.holding_works():
        channel.client.send(commands.Connection.Close(200, "", 0, 0))
        channel.client.connection.lost("gone")
    assert channel.client.is_finished()
    assert other.message_count("q") == COUNT


def test_what_comes_back_to_a_queue_that_goes_meanwhile_is_gone(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel
) -> None:
    channel.declare("q")
    fill(channel)
    take_all(channel)
    with broker.holding_works():
        channel.nack(0, multiple=True)
        other.call(commands.Queue.Delete(queue="q"))
        other.declare("q")
    assert other.message_count("q") == 0


# --- length limits


def limit_length(broker: MemoryBroker, definition: dict[str, Any]) -> None:
    value: dict[str, object] = {"pattern": "q", "definition": definition}
    broker.handle(lambda: broker.administration.parameters.set_policy("/", "short", value))


@pytest.mark.parametrize("definition", [{"max-length": 3}, {"max-length-bytes": 9, "overflow": "reject-publish"}])
@pytest.mark.parametrize("arguments", [{}, {"x-max-priority": 3}], ids=["classic", "priorities"])
def test_a_queue_that_is_much_too_long_is_cut_in_turns(
    broker: MemoryBroker,
    channel: ClientChannel,
    other: ClientChannel,
    arguments: dict[str, Any],
    definition: dict[str, Any],
) -> None:
    """Whoever consumes from then on gets what is left, and what came meanwhile does not push that out."""
    channel.declare("q", arguments)
    fill(channel)
    fill(channel)
    with broker.holding_works():
        limit_length(broker, definition)
        limit_length(broker, definition | {"message-ttl": 100_000})
        other.consume("q", "c")
        assert 3 < broker.queue("q").ready_count < 2 * COUNT
        channel.publish("", "q", b"new")
    assert other.bodies() == [*NAMES[-3:], b"new"]


# --- expiry and dead letters


def test_nobody_gets_what_has_expired_but_was_not_dropped_yet(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel
) -> None:
    channel.declare("q")
    for _ in range(3):
        fill(channel, expiration="1000")
    channel.publish("", "q", b"lasting")
    with broker.holding_works():
        broker.advance(1000)
        other.send(commands.Queue.Declare(queue="q", passive=True))
        channel.send(commands.Basic.Get(queue="q"))
        assert other.received() == []
        assert channel.received() == []
    assert other.one(commands.Queue.DeclareOk).message_count in (0, 1)  # the get came before it or after it
    (got,) = channel.received()
    assert got.body == b"lasting"


@pytest.mark.parametrize("slices", range(0, 40, 3))
def test_a_crash_amid_dead_letters_loses_none_and_doubles_none(slices: int) -> None:
    broker = DiskBroker()
    channel = broker.client().channel()
    channel.declare("dead", durable=True)
    channel.declare("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}, durable=True)
    fill(channel, delivery_mode=2)
    take_all(channel)
    with broker.holding_works():
        channel.nack(0, multiple=True, requeue=False)
        for _ in range(slices):
            broker.go_on()
        after = broker.killed()
    after_channel = after.client().channel()
    dead, left = after_channel.drain("dead"), after_channel.drain("q")
    assert sorted(dead + left) == NAMES
    assert dead == NAMES[: len(dead)]


def test_dead_letters_of_a_queue_that_has_gone_arrive(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel
) -> None:
    channel.declare("dead")
    channel.declare("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    fill(channel)
    take_all(channel)
    with broker.holding_works():
        channel.nack(COUNT, multiple=True, requeue=False)
        while broker.queue("q").unacknowledged_count:
            broker.go_on()
        other.send(commands.Queue.Delete(queue="q"))
        assert broker.dead_letters
        assert other.received() == []
    other.one(commands.Queue.DeleteOk)
    assert len(other.drain("dead")) == COUNT


def dying(broker: DiskBroker, **flags: bool) -> ClientChannel:
    """A channel that has rejected all messages of its queue, some of which are not dead-lettered yet."""
    channel = broker.client().channel()
    channel.declare("dead", durable=True)
    channel.declare("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}, durable=True, **flags)
    fill(channel, delivery_mode=2)
    channel.consume("q")
    assert len(channel.received()) == COUNT
    broker.goes_on = False
    channel.nack(COUNT, multiple=True, requeue=False)
    while broker.queue("q").unacknowledged_count:
        broker.go_on()
    assert broker.dead_letters
    return channel


@pytest.mark.parametrize("slices", range(0, 12, 2))
def test_a_crash_after_a_deletion_loses_no_dead_letter(slices: int) -> None:
    broker = DiskBroker()
    other = broker.client().channel()
    dying(broker)
    other.send(commands.Queue.Delete(queue="q"))
    assert broker.dead_letters
    for _ in range(slices):
        broker.go_on()
    is_answered = bool(other.received())
    after = broker.killed()
    channel = after.client().channel()
    is_there = "q" in after.virtual_host.queues
    assert not (is_answered and is_there)
    dead = channel.drain("dead")
    assert dead + (channel.drain("q") if is_there else []) == NAMES


def test_a_crash_after_a_queue_went_with_its_consumer_loses_no_dead_letter() -> None:
    broker = DiskBroker()
    channel = dying(broker, auto_delete=True)
    channel.client.connection.lost("it went away")
    broker.settle()
    after = broker.killed()
    assert after.client().channel().drain("dead") == NAMES
    assert "q" not in after.virtual_host.queues


def test_a_transaction_is_committed_in_turns_and_is_there_as_a_whole() -> None:
    slices_where_it_was_there = [slices for slices in range(0, 30, 3) if is_there_after_a_crash(slices)]
    assert 0 not in slices_where_it_was_there
    assert 27 in slices_where_it_was_there


def is_there_after_a_crash(slices: int) -> bool:
    """Whether a transaction that publishes and rejects is there when the broker is killed behind so many slices."""
    broker = DiskBroker()
    channel = broker.client().channel()
    channel.declare("dead", durable=True)
    channel.declare("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}, durable=True)
    channel.declare("to", durable=True)
    fill(channel, delivery_mode=2)
    take_all(channel)
    channel.call(commands.Tx.Select())
    for _ in range(3):
        channel.publish("", "to", b"done", delivery_mode=2)
    channel.nack(0, multiple=True, requeue=False)
    broker.goes_on = False
    channel.send(commands.Tx.Commit())
    for _ in range(slices):
        broker.go_on()
    is_answered = len(channel.received()) > 0
    after = broker.killed().client().channel()
    there = [after.drain(queue) for queue in ("to", "q", "dead")]
    assert there in ([[], NAMES, []], [[b"done"] * 3, [], NAMES])
    assert is_answered == (there[1] == [])
    return is_answered


@pytest.mark.parametrize("ending", ["lost", "closed", "refused"])
def test_a_commit_goes_on_whatever_becomes_of_its_channel(
    broker: MemoryBroker, channel: ClientChannel, other: ClientChannel, ending: str
) -> None:
    channel.declare("q", {"x-max-length": 6, "x-overflow": "reject-publish"} if ending == "refused" else {})
    channel.call(commands.Tx.Select())
    fill(channel)
    with broker.holding_works():
        channel.send(commands.Tx.Commit(), commands.Channel.Close(200, "", 0, 0))
        assert channel.received() == []
        other.call(commands.Tx.Select())
        other.publish("", "q", b"in one go")
        other.call(commands.Tx.Commit())
        assert 1 < broker.queue("q").ready_count < COUNT
        if ending == "lost":
            channel.client.connection.lost("gone")
    answers = [type(method).__name__ for method in channel.methods()]
    assert answers == {"lost": [], "closed": ["CommitOk", "CloseOk"], "refused": ["Close", "CloseOk"]}[ending]
    bodies = other.drain("q")
    assert [body for body in bodies if body in NAMES] == (NAMES[:5] if ending == "refused" else NAMES)


@in_trio
async def test_what_is_kept_is_told_between_turns() -> None:
    broker, happened = MemoryBroker(), list[str]()

    def slices() -> Iterator[None]:
        while len(happened) < 5:
            happened.append("slice")
            yield

    broker.goes_on = False
    broker.awaiting_commit[broker.settle] = None
    broker.works.begin(slices())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on_with_works, broker, WakeUp(), Outbox(), lambda: happened.append("told"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert happened == ["slice", "slice", "told", "slice", "told", "told"]


def test_a_turn_is_one_slice_while_somebody_waits_for_the_disk_and_a_moment_longer() -> None:
    broker, now_s = MemoryBroker(), [0.0]
    done: list[float] = []

    def slices() -> Iterator[None]:
        while len(done) < 100:
            done.append(now_s[0])
            now_s[0] += TURN_S / 4
            yield

    def slices_of_a_turn() -> int:
        before = len(done)
        turns.take(broker)
        return len(done) - before

    turns = WorkTurns(lambda: now_s[0])
    broker.goes_on = False
    broker.works.begin(slices())
    assert slices_of_a_turn() == 5
    broker.awaiting_commit[broker.settle] = None
    assert slices_of_a_turn() == 1
    del broker.awaiting_commit[broker.settle]
    assert slices_of_a_turn() == 1
    now_s[0] += AWAITED_S
    assert slices_of_a_turn() == 5
