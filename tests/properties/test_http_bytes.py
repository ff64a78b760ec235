"""Whatever bytes come to the port of the HTTP API, in whatever pieces: nothing fails, and others are served."""

from __future__ import annotations

import contextlib
import logging
import os

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.logs import LOGGER
from tests.support.managed import Managed, managing
from tests.support.served import on_a_jumping_clock

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "40"))
GUEST = b"Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n"
PIECES = (
    b"GET ", b"PUT ", b"HEAD ", b"/api/overview", b"/api/queues/%2F/q", b"/api/%2e%2e", b"//", b"%00", b"%2F",
    b"?page=1", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/9.9\r\n", b"\r\n", b"\n", b"\r", b"\0", b" ", b":",
    b"Host: x\r\n",
    GUEST, b"Authorization: Basic ????\r\n", b"Content-Length: 2\r\n",
    b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n", b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n", b"Connection: close\r\n",
    b"0\r\n\r\n", b"5;a=b\r\nhello\r\n", b"{}", b"[" * 3000, b"X: " + b"v" * 5000 + b"\r\n",
    b"GET /api/whoami HTTP/1.1\r\nHost: x\r\n" + GUEST + b"\r\n",
    b"PUT /api/queues/%2F/q HTTP/1.1\r\nHost: x\r\n" + GUEST + b"Content-Length: 2\r\n\r\n{}",
)  # fmt: skip
BYTES = st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), min_size=1, max_size=12).map(b"".join)


class Kept(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.ERROR)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


async def say(managed: Managed, data: bytes, cut: int) -> None:
    """Send bytes in pieces, and take what is answered, until the other end ends."""
    stream = await managed.connect_http()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_take, stream, nursery.cancel_scope)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for start in range(0, len(data), cut):
                await stream.send_all(data[start : start + cut])
            if isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
    await stream.aclose()


async def _take(stream: trio.abc.Stream, scope: trio.CancelScope) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some(65_536):
            pass
    scope.cancel()


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.tuples(BYTES, st.sampled_from([1, 7, 100, 100_000])), min_size=1, max_size=4))
@on_a_jumping_clock
async def test_no_bytes_are_too_strange(said: list[tuple[bytes, int]]) -> None:
    failures: list[logging.LogRecord] = []
    handler = Kept(failures)
    LOGGER.addHandler(handler)
    try:
        async with managing() as managed:
            for data, cut in said:
                with trio.fail_after(1000):  # it ends by itself: no patience is endless
                    await say(managed, data, cut)
            client = await managed.administrator()
            assert (await client.ask("GET", "/api/whoami")).status == 200
            await client.stream.aclose()
    finally:
        LOGGER.removeHandler(handler)
    assert not failures
