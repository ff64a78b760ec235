"""Hostile administrators: what each kind does to the port of the HTTP API. Part of ``hostile_crowd.py``."""

from __future__ import annotations

import base64
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

GUEST = b"Authorization: Basic " + base64.b64encode(b"guest:guest") + b"\r\n"
HOST = b"Host: localhost\r\n"
OVERVIEW = b"GET /api/overview HTTP/1.1\r\n" + HOST + GUEST + b"\r\n"


async def slow_head(stream: trio.SocketStream) -> None:
    for at in range(len(OVERVIEW)):
        await stream.send_all(OVERVIEW[at : at + 1])
        await trio.sleep(0.5)


async def endless_head(stream: trio.SocketStream) -> None:
    await stream.send_all(b"GET /api/overview HTTP/1.1\r\n" + HOST)
    while True:
        await stream.send_all(b"X-%d: %s\r\n" % (random.randrange(10**9), b"v" * 1000))


async def pipelined_flood(stream: trio.SocketStream) -> None:
    while True:
        await stream.send_all(OVERVIEW * 200)  # the answers are never read


async def smuggled(stream: trio.SocketStream) -> None:
    framing = random.choice(
        [
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
            b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            b"Content-Length: +5\r\n\r\nhello",
            b"Content-Length: 5\r\n folded\r\n\r\nhello",
        ]
    )
    request = b"PUT /api/queues/%2F/smuggled HTTP/1.1\r\n" + HOST + GUEST + framing
    await stream.send_all(request + b"DELETE /api/vhosts/%2F HTTP/1.1\r\n" + HOST + GUEST + b"\r\n")
    await stream.receive_some(1000)


async def tricks_with_paths(stream: trio.SocketStream) -> None:
    for path in (b"/api/%2e%2e/%2F", b"/api/queues/%2F%2F/%00", b"//api//overview", b"/api/queues/%252F/x", b"/%ff"):
        await stream.send_all(b"GET " + path + b" HTTP/1.1\r\n" + HOST + GUEST + b"\r\n")
        await stream.receive_some(10_000)


async def wrong_logins(stream: trio.SocketStream) -> None:
    wrong = base64.b64encode(f"guest:{random.random()}".encode())
    await stream.send_all(b"GET /api/whoami HTTP/1.1\r\n" + HOST + b"Authorization: Basic " + wrong + b"\r\n\r\n")
    await stream.receive_some(1000)


async def endless_body(stream: trio.SocketStream) -> None:
    await stream.send_all(b"POST /api/definitions HTTP/1.1\r\n" + HOST + GUEST + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        await stream.send_all(b"1000\r\n" + b"[" * 4096 + b"\r\n")


async def deep_body(stream: trio.SocketStream) -> None:
    body = b"[" * 1_000_000
    await stream.send_all(
        b"POST /api/definitions HTTP/1.1\r\n" + HOST + GUEST + b"Content-Length: 1000000\r\n\r\n" + body
    )
    await stream.receive_some(1000)


async def garbage(stream: trio.SocketStream) -> None:
    await stream.send_all(os.urandom(10_000))
    await stream.receive_some(1000)


async def leaves_at_once(stream: trio.SocketStream) -> None:
    await stream.send_all(OVERVIEW[: random.randrange(len(OVERVIEW))])


KINDS: list[Callable[[trio.SocketStream], Awaitable[None]]] = [
    slow_head, endless_head, pipelined_flood, smuggled, tricks_with_paths, wrong_logins, endless_body, deep_body,
    garbage, leaves_at_once,
]  # fmt: skip


class HonestAdministrator:
    """One who asks for the overview, again and again, on a connection of its own each time.

    Args:
        port: of the HTTP API.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.answered = 0
        self.failed: list[str] = []
        self.times_s: list[float] = []
        self.first_time = trio.Event()  # that it was answered, or refused

    def __str__(self) -> str:
        return f"overview {self.answered} times, {max(self.times_s, default=0) * 1000:.0f} ms at most"

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            begun_s = trio.current_time()
            try:
                await self._ask()
            except (OSError, trio.BrokenResourceError) as error:
                self.failed.append(repr(error))
            self.times_s.append(trio.current_time() - begun_s)
            self.first_time.set()
            await trio.sleep(0.1)

    async def _ask(self) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            request = b"GET /api/overview?columns=node HTTP/1.1\r\n" + HOST + GUEST + b"Connection: close\r\n\r\n"
            await stream.send_all(request)
            answer = b""
            with suppress(trio.BrokenResourceError):
                async for data in stream:
                    answer += data
            if answer.startswith(b"HTTP/1.1 200 "):
                self.answered += 1
            else:
                self.failed.append(repr(answer[:100]))
