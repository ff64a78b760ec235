"""What a program with the client rbfly must see, the same on every broker. `python -m interop.suites rbfly` runs it.

rbfly's own tests ask no broker. Each check has a stream of its own, which it deletes.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import rbfly.streams as rbs
from rbfly.streams import Offset, StreamsClient, stream_message_ctx
from rbfly.streams.error import ProtocolError

URL = os.environ["STREAM_URL"]
PATIENCE_S = 20.0

Check = Callable[[StreamsClient, str], Awaitable[None]]


def run(check: Check) -> None:
    """Run a check with a client, and a stream that is there."""

    @rbs.connection
    async def within(client: StreamsClient) -> None:
        stream = f"rbfly-{uuid.uuid4().hex[:8]}"
        await client.create_stream(stream)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await check(client, stream)
        finally:
            await client.delete_stream(stream)

    asyncio.run(within(rbs.streams_client(URL)))


async def read(client: StreamsClient, stream: str, offset: Offset, count: int, **options: Any) -> list[tuple[int, Any]]:
    """The next messages of a stream, each with its offset."""
    found = []
    subscribed: AsyncIterator[Any] = client.subscribe(stream, offset=offset, timeout=PATIENCE_S, **options)
    async for body in subscribed:
        found.append((rbs.get_message_ctx().stream_offset, body))
        if len(found) == count:
            break
    await subscribed.aclose()  # type: ignore[attr-defined]
    return found


async def fill(client: StreamsClient, stream: str, count: int, **options: Any) -> None:
    """Publish texts with their numbers, in one batch."""
    async with client.publisher(stream, cls=rbs.PublisherBatchFast, **options) as publisher:
        for number in range(count):
            publisher.batch(f"m{number}")
        await publisher.flush()


def test_one_message_at_a_time() -> None:
    async def check(client: StreamsClient, stream: str) -> None:
        async with client.publisher(stream) as publisher:
            for number in range(20):
                await publisher.send(f"m{number}")
        assert await read(client, stream, Offset.FIRST, 20) == [(number, f"m{number}") for number in range(20)]

    run(check)


@pytest.mark.parametrize("kind", [rbs.PublisherBatchFast, rbs.PublisherBatchLimit])
def test_batches(kind: Any) -> None:
    async def check(client: StreamsClient, stream: str) -> None:
        async with client.publisher(stream, cls=kind) as publisher:
            for number in range(1_000):
                if kind is rbs.PublisherBatchLimit:
                    await publisher.batch(number, max_len=1_000)
                else:
                    publisher.batch(number)
            await publisher.flush()
        assert await read(client, stream, Offset.FIRST, 1_000) == [(number, number) for number in range(1_000)]

    run(check)


@pytest.mark.parametrize(
    "body", [b"\x00bytes\xff", "text: \u00e4\u20ac", 2**40, -5, 2.5, True, [1, "two", b"3"], {"a": 1, "b": [2]}]
)
def test_a_body_comes_back_as_it_was(body: Any) -> None:
    async def check(client: StreamsClient, stream: str) -> None:
        async with client.publisher(stream) as publisher:
            await publisher.send(body)
        assert await read(client, stream, Offset.FIRST, 1) == [(0, body)]

    run(check)


def test_properties_come_back() -> None:
    async def check(client: StreamsClient, stream: str) -> None:
        sent = stream_message_ctx("body", app_properties={"key": "value", "number": 7})
        async with client.publisher(stream) as publisher:
            await publisher.send(sent)
        async for body in client.subscribe(stream, offset=Offset.FIRST, timeout=PATIENCE_S):
            assert body == "body"
            assert rbs.get_message_ctx().app_properties == {"key": "value", "number": 7}
            break

    run(check)


def test_a_large_message() -> None:
    async def check(client: StreamsClient, stream: str) -> None:
        async with client.publisher(stream) as publisher:
            await publisher.send(b"x" * 500_000)
        assert await read(client, stream, Offset.FIRST, 1) == [(0, b"x" * 500_000)]

    run(check)


def test_where_it_begins() -> None:
    async def check(client: StreamsClient, stream: str) -> None:
        await fill(client, stream, 100)
        assert await read(client, stream, Offset.offset(90), 2) == [(90, "m90"), (91, "m91")]
        assert await read(client, stream, Offset.timestamp(0), 1) == [(0, "m0")]
        last = await read(client, stream, Offset.LAST, 1)
        assert 0 <= last[0][0] <= 99

    run(check)


def test_an_offset_that_was_stored() -> None:
    async def check(client: StreamsClient, stream: str) -> None:
        await fill(client, stream, 50)
        reference = Offset.reference("reader")
        assert (await read(client, stream, reference, 1))[0] == (0, "m0")
        await client.write_offset(stream, "reader", 29)
        assert await read(client, stream, reference, 2) == [(30, "m30"), (31, "m31")]

    run(check)


def test_what_comes_while_somebody_reads() -> None:
    async def check(client: StreamsClient, stream: str) -> None:
        await fill(client, stream, 10)
        reading = asyncio.create_task(read(client, stream, Offset.FIRST, 30))
        async with client.publisher(stream) as publisher:
            for number in range(10, 30):
                await publisher.send(f"m{number}")
        assert await reading == [(number, f"m{number}") for number in range(30)]

    run(check)


def test_a_name_goes_on_where_it_was() -> None:
    async def check(client: StreamsClient, stream: str) -> None:
        await fill(client, stream, 10, name="publisher")
        await fill(client, stream, 10, name="publisher")
        found = await read(client, stream, Offset.FIRST, 20)
        assert [offset for offset, _ in found] == list(range(20))

    run(check)


def test_filters() -> None:
    async def check(client: StreamsClient, stream: str) -> None:
        def value_of(message: Any) -> str:
            return str(message.app_properties["region"])

        for region in ("north", "south", "north"):
            async with client.publisher(stream, filter_extract=value_of) as publisher:
                await publisher.send(stream_message_ctx(region, app_properties={"region": region}))
        wanted = rbs.MessageFilter(value_of, {"north"})
        assert await read(client, stream, Offset.FIRST, 2, filter=wanted) == [(0, "north"), (2, "north")]

    run(check)


def test_two_streams_at_a_time() -> None:
    async def check(client: StreamsClient, stream: str) -> None:
        other = f"{stream}-other"
        await client.create_stream(other)
        try:
            await asyncio.gather(fill(client, stream, 200, name="one"), fill(client, other, 300, name="two"))
            both = await asyncio.gather(read(client, stream, Offset.FIRST, 200), read(client, other, Offset.FIRST, 300))
            assert [len(found) for found in both] == [200, 300]
        finally:
            await client.delete_stream(other)

    run(check)


def test_a_stream_is_created_again_but_not_deleted_again() -> None:
    async def check(client: StreamsClient, stream: str) -> None:
        await client.create_stream(stream)
        await client.delete_stream(stream)
        with pytest.raises(ProtocolError, match="does not exist"):
            await client.delete_stream(stream)
        await client.create_stream(stream)

    run(check)
