"""Messages that are handed from one connection to another: what is acknowledged where it comes from."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from amqp_broker.client.conversation import Message
from amqp_broker.client.forwarding import AckMode, Forwarding, Outgoing
from amqp_broker.wire.methods import Basic
from tests.support.served import on_a_jumping_clock


class Side:
    """A connection, and its conversation, with what it is told; what comes there are so many deliveries."""

    is_blocked = False

    def __init__(self, deliveries: int) -> None:
        self.conversation = self
        self.said: list[tuple[Any, int]] = []
        self._events = [
            Message(Basic.Deliver(consumer_tag="c", delivery_tag=tag, redelivered=False, exchange="", routing_key="q"),
                    b"", b"m")
            for tag in range(deliveries, 0, -1)
        ]  # fmt: skip

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    async def next_event(self) -> Message:
        if not self._events:
            await trio.sleep_forever()
        return self._events.pop()

    async def call(self, method: Any, **fields: int) -> None:
        await trio.lowlevel.checkpoint()

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    def publish(self, exchange: str, routing_key: str, header: bytes, body: bytes) -> None:
        self.said.append((Basic.Publish, 0))

    def say(self, method: Any, *, delivery_tag: int) -> None:
        self.said.append((method, delivery_tag))


@on_a_jumping_clock
@pytest.mark.parametrize("mode", [AckMode.ON_PUBLISH, AckMode.NO_ACK])
async def test_what_comes_beyond_the_limit_is_not_lost_in_any_mode(mode: AckMode) -> None:
    source, destination = Side(5), Side(0)
    ends: Any = source, destination
    forwarding = Forwarding(ends[0], ends[1], lambda message: Outgoing("", "q", b""), mode=mode, limit=3)

    async def consume() -> None:
        assert not forwarding.no_ack

    with trio.fail_after(1):
        assert await forwarding.run(10, consume) == 3
    assert len(destination.said) == 3
    assert source.said == [(Basic.Ack, tag) for tag in (1, 2, 3)]
