"""Walks as the server takes their steps: who looks waits for no disk, and who moves is answered when it is kept."""

from __future__ import annotations

import trio

from amqp_broker.broker.move_destinations import ToQueue
from amqp_broker.broker.moving import Action, Moving, Selection
from amqp_broker.broker.peeking import Peek, PeekBounds
from amqp_broker.broker.queues.classic import ClassicQueue
from amqp_broker.server.walks import walk
from tests.support.disk_broker import DiskBroker
from tests.unit.in_trio import in_trio


def filled() -> DiskBroker:
    """A broker with messages that are not written yet."""
    broker = DiskBroker()
    channel = broker.client().channel()
    for queue in ("q", "t"):
        channel.declare(queue, durable=True)
    broker.writes_at_once = False
    for _ in range(3):
        channel.publish("", "q", b"a", delivery_mode=2)
    return broker


@in_trio
async def test_a_look_waits_for_no_disk() -> None:
    broker = filled()
    peek = Peek(broker, broker.queue("q"), PeekBounds())
    await walk(broker, peek.steps())
    assert len(peek.seen()["messages"]) == 3
    assert not broker.awaiting_commit


@in_trio
async def test_a_move_is_done_when_it_is_kept() -> None:
    broker = filled()
    queue = broker.queue("q")
    assert isinstance(queue, ClassicQueue)
    destination = ToQueue(broker.virtual_host, queue, "t", None)
    work = Moving(broker, queue, Action.MOVE, Selection(), destination, dry_run=False)
    done = trio.Event()

    async def move() -> None:
        await walk(broker, work.steps(), writes=work.writes)
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(move)
        await trio.testing.wait_all_tasks_blocked()
        assert (work.progress()["done"], done.is_set()) == (3, False)
        broker.write()
        await trio.testing.wait_all_tasks_blocked()
        assert done.is_set()
