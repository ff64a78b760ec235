"""The lean socket stream keeps the promises of a trio stream, over real loopback sockets."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

import pytest
import trio
import trio.testing

from amqp_broker.journal.real_files import RealFiles
from amqp_broker.network.connection_log import CLIENT_LEFT, CLIENT_RESET
from amqp_broker.network.direct_stream import Part
from amqp_broker.network.socket_stream import SentNothing, SocketStream, receive_first
from tests.unit.in_trio import in_trio


def connected_sockets() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return client, server


async def make_streams() -> tuple[SocketStream, SocketStream]:
    await trio.lowlevel.checkpoint()
    one, other = connected_sockets()
    return SocketStream(one), SocketStream(other)


def test_it_is_a_trio_stream() -> None:
    # Without trio's checks of a stream that is full: when the system's buffers are, is the system's secret.
    trio.run(trio.testing.check_half_closeable_stream, make_streams, None)


def test_much_data_arrives_whole_through_small_buffers() -> None:
    data = bytes(range(256)) * 40_000

    async def main() -> None:
        one, other = await make_streams()
        received = bytearray()
        async with one, other, trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, data)
            while len(received) < len(data):
                received += await other.receive_some(100_000)
        assert received == data

    trio.run(main)


def test_what_lies_in_files_is_sent_from_there(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000
    file = RealFiles(tmp_path).create("file", 0)
    file.write_at(0, content)
    stretch = file.stretch(1_000, 5_000_000)
    assert stretch is not None
    parts: list[Part] = [b"before", stretch, b"between", stretch, stretch, b"behind"]
    body = content[1_000:5_001_000]

    async def main() -> None:
        one, other = await make_streams()
        received = bytearray()

        async def receive() -> None:
            async for chunk in other:
                received.extend(chunk)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            rest = one.send_now(parts)
            await one.send_parts(rest)
            await one.send_eof()
        assert received == b"".join((b"before", body, b"between", body, body, b"behind"))
        file.truncate(500)
        with pytest.raises(trio.BrokenResourceError, match="Input/output error"):
            await other.send_parts([stretch])
        await one.aclose()
        await other.aclose()

    trio.run(main)


@pytest.mark.skipif(not hasattr(os, "sendfile"), reason="the system has none")
@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EIO, errno.EINVAL, errno.ENOSYS])
def test_nothing_is_sent_twice_when_the_system_fails_to_send_a_file(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 64
    file = RealFiles(tmp_path).create("file", 0)
    file.write_at(0, content)
    stretch = file.stretch(100, 10_000)
    assert stretch is not None
    calls = []

    def fail(*arguments: int) -> int:
        calls.append(arguments)
        raise OSError(number, "failed")

    async def main() -> None:
        one, other = await make_streams()
        parts: list[Part] = [b"before", stretch, b"behind"]
        with monkeypatch.context() as patch:
            patch.setattr(os, "sendfile", fail)
            rest = one.send_now(parts)
            if number in (errno.ENOMEM, errno.EIO):
                assert [len(part) for part in rest] == [10_000, 6]
                with pytest.raises(trio.BrokenResourceError):
                    await one.send_parts(rest)
            else:
                assert rest == []
                assert one.send_now([stretch.behind(9_990), b"end"]) == []
                assert len(calls) == 1, "it is not asked again"
        await one.send_parts([stretch.behind(9_990), b"."])  # the rest of a stretch may be small
        await one.send_eof()
        received = bytearray()
        async for chunk in other:
            received.extend(chunk)
        body, tail = content[100:10_100], content[10_090:10_100]
        first = b"before" if number in (errno.ENOMEM, errno.EIO) else b"before" + body + b"behind" + tail + b"end"
        assert received == first + tail + b"."
        await one.aclose()
        await other.aclose()

    trio.run(main)


def test_closing_wakes_a_send_that_waits() -> None:
    async def main() -> None:
        one, other = await make_streams()

        async def close_soon() -> None:
            await trio.testing.wait_all_tasks_blocked()
            await one.aclose()

        async with other, trio.open_nursery() as nursery:
            nursery.start_soon(close_soon)
            with pytest.raises(trio.ClosedResourceError):
                await one.send_all(bytes(100_000_000))

    trio.run(main)


def test_a_reset_is_a_broken_stream_that_says_so() -> None:
    async def main() -> None:
        one, other = connected_sockets()
        stream = SocketStream(one)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
        async with stream:
            with pytest.raises(trio.BrokenResourceError, match="reset"):
                await stream.receive_some()

    trio.run(main)


def test_small_frames_are_not_held_back() -> None:
    one, other = connected_sockets()
    with other:
        SocketStream(one)
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        one.close()


@pytest.mark.parametrize("how", [CLIENT_LEFT, CLIENT_RESET])
@in_trio
async def test_who_goes_without_a_word_is_told_from_who_fails(how: str) -> None:
    client, server = connected_sockets()
    stream = SocketStream(server)
    if how == CLIENT_RESET:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends RST
    client.close()
    with pytest.raises(SentNothing, match=how):
        await receive_first(stream, 100)
    await stream.aclose()
