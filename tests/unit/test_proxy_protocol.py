"""The PROXY protocol: who the load balancer speaks for, byte by byte, and what is refused."""

from __future__ import annotations

import ipaddress
import struct

import pytest
import trio
import trio.testing

from amqp_broker.access.client import Peer
from amqp_broker.network.proxy_protocol import SIGNATURE_V2, BadProxyHeader, read_proxy_header
from amqp_broker.network.socket_stream import SentNothing

BALANCER = Peer("127.0.0.1", 40000, True)


def version_2(command: int, family: int, addresses: bytes) -> bytes:
    return SIGNATURE_V2 + struct.pack(">BBH", command, family, len(addresses)) + addresses


def ipv4(source: str, port: int) -> bytes:
    return (
        ipaddress.ip_address(source).packed + ipaddress.ip_address("10.0.0.1").packed + struct.pack(">HH", port, 5672)
    )


def ipv6(source: str, port: int) -> bytes:
    return ipaddress.ip_address(source).packed + ipaddress.ip_address("::1").packed + struct.pack(">HH", port, 5672)


def read(data: bytes, piece_bytes: int) -> tuple[Peer, bytes]:
    """The peer, and what is left in the stream behind the header."""

    async def main() -> tuple[Peer, bytes]:
        ours, theirs = trio.testing.memory_stream_one_way_pair()
        for at in range(0, len(data), piece_bytes):
            await ours.send_all(data[at : at + piece_bytes])
        await ours.aclose()
        peer = await read_proxy_header(theirs, BALANCER)
        rest = b""
        while more := await theirs.receive_some(100):
            rest += more
        return peer, rest

    return trio.run(main)


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
@pytest.mark.parametrize(
    ("header", "host", "port", "is_loopback"),
    [
        (b"PROXY TCP4 10.0.0.7 10.0.0.1 4711 5672\r\n", "10.0.0.7", 4711, False),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 5672\r\n", "2001:db8::7", 4711, False),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1", 40000, True),
        (b"PROXY UNKNOWN ffff:: ffff:: 1 2\r\n", "127.0.0.1", 40000, True),
        (version_2(0x21, 0x11, ipv4("10.0.0.7", 4711)), "10.0.0.7", 4711, False),
        (version_2(0x21, 0x21, ipv6("2001:db8::7", 4711)), "2001:db8::7", 4711, False),
        (version_2(0x21, 0x21, ipv6("::ffff:127.0.0.1", 1)), "127.0.0.1", 1, True),
        (version_2(0x21, 0x11, ipv4("10.0.0.7", 4711) + b"extensions"), "10.0.0.7", 4711, False),
        (version_2(0x20, 0x00, b""), "127.0.0.1", 40000, True),
        (version_2(0x21, 0x31, b"x" * 216), "127.0.0.1", 40000, True),
    ],
)
def test_the_peer_is_whom_the_header_names(
    header: bytes, host: str, port: int, is_loopback: bool, piece_bytes: int
) -> None:
    peer, rest = read(header + b"AMQP", piece_bytes)
    assert ipaddress.ip_address(peer.host) == ipaddress.ip_address(host)
    assert (peer.port, peer.is_loopback, rest) == (port, is_loopback, b"AMQP")


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY",
        b"AMQP\0\0\x09\x01 and more",
        b"PROXY TCP4 10.0.0.7 10.0.0.1 4711\r\n",
        b"PROXY TCP4 nonsense 10.0.0.1 4711 5672\r\n",
        b"PROXY TCP4 10.0.0.7 10.0.0.1 port 5672\r\n",
        b"PROXY TCP5 10.0.0.7 10.0.0.1 4711 5672\r\n",
        b"PROXY " + b"x" * 200,
        SIGNATURE_V2[:-1] + b"X\x21\x11\0\x0c",
        version_2(0x31, 0x11, ipv4("10.0.0.7", 4711)),
        version_2(0x21, 0x11, b"short"),
        version_2(0x21, 0x11, b"x" * 3000),
        version_2(0x21, 0x11, ipv4("10.0.0.7", 4711))[:-1],
    ],
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        read(header, 1000)


def test_who_goes_without_a_word_is_no_mistake() -> None:
    with pytest.raises(SentNothing):
        read(b"", 1)
