"""The carrying of a client's bytes to whoever serves it: where it ends."""

from __future__ import annotations

import trio
import trio.testing

from amqp_broker.network.pump import FAREWELL_TIMEOUT_S
from amqp_broker.server.sharding.carrying import carry
from tests.support.served import on_a_jumping_clock


@on_a_jumping_clock
async def test_a_client_that_its_owner_has_given_up_goes_although_it_does_not_hang_up() -> None:
    (client, ours), (owner, theirs) = trio.testing.memory_stream_pair(), trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(carry, ours, theirs)
        await client.send_all(b"hello")
        assert await owner.receive_some() == b"hello"
        await owner.send_all(b"goodbye")
        await owner.send_eof()
        ended_s = trio.current_time()
        await client.send_all(b"late")
        assert await owner.receive_some() == b"late", "who answers the farewell is heard"
    assert trio.current_time() - ended_s == FAREWELL_TIMEOUT_S
    assert await client.receive_some() == b"goodbye"
    assert await client.receive_some() == b""
