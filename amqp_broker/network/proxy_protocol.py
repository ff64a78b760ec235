"""The PROXY protocol, versions 1 and 2: a load balancer says first who the client is (haproxy's proxy-protocol.txt).

Believed only where it is switched on, and demanded there: whoever can reach the port could claim to be anybody, guest
on this machine included.
"""

from __future__ import annotations

import ipaddress
import struct

import trio

from amqp_broker.access.client import Peer
from amqp_broker.network.socket_stream import receive_first

SIGNATURE_V2 = b"\r\n\r\n\0\r\nQUIT\n"
LINE_BYTES_MAX = 107
ADDRESSES_BYTES_MAX = 2048
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6 = 0x11, 0x21


class BadProxyHeader(Exception):
    """The first bytes are no header of the PROXY protocol; the text says what they are."""


async def read_proxy_header(stream: trio.abc.ReceiveStream, peer: Peer) -> Peer:
    """Take the header off a stream, and not a byte more.

    Args:
        stream: nothing was read from it yet.
        peer: the load balancer; the answer as well where it speaks for itself, as in a health check.

    Raises:
        SentNothing: the stream ended before anything came.
        BadProxyHeader: there is none, or it makes no sense.
    """
    start = await receive_first(stream, len(SIGNATURE_V2))
    start += await _exactly(stream, len(SIGNATURE_V2) - len(start))
    if start == SIGNATURE_V2:
        version_and_command, family, size_bytes = struct.unpack(">BBH", await _exactly(stream, 4))
        if size_bytes > ADDRESSES_BYTES_MAX:
            raise BadProxyHeader("the header of the PROXY protocol is too long")
        return _read_v2(version_and_command, family, await _exactly(stream, size_bytes), peer)
    if not start.startswith(b"PROXY "):
        raise BadProxyHeader(f"no header of the PROXY protocol: the connection began with {start!r}")
    line = start
    while not line.endswith(b"\r\n"):
        if len(line) >= LINE_BYTES_MAX:
            raise BadProxyHeader("the header of the PROXY protocol is too long")
        line += await _exactly(stream, 1)
    return _read_v1(line, peer)


async def _exactly(stream: trio.abc.ReceiveStream, size_bytes: int) -> bytes:
    data = b""
    while len(data) < size_bytes:
        more = await stream.receive_some(size_bytes - len(data))
        if not more:
            raise BadProxyHeader("the connection ended within the header of the PROXY protocol")
        data += more
    return data


def _read_v1(line: bytes, peer: Peer) -> Peer:
    words = line[:-2].decode("ascii", "replace").split(" ")
    if words[1:2] == ["UNKNOWN"]:
        return peer
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise BadProxyHeader(f"the header of the PROXY protocol makes no sense: {line!r}")
    try:
        host, port = ipaddress.ip_address(words[2]), int(words[4])
    except ValueError as error:
        raise BadProxyHeader(f"the header of the PROXY protocol makes no sense: {line!r}") from error
    return _peer(host, port, peer)


def _read_v2(version_and_command: int, family: int, addresses: bytes, peer: Peer) -> Peer:
    if version_and_command == LOCAL:
        return peer
    if version_and_command != PROXY:
        raise BadProxyHeader(f"the PROXY protocol has no version and command {version_and_command:#x}")
    layouts = {TCP4: ">4s4sHH", TCP6: ">16s16sHH"}
    if family not in layouts:
        return peer  # not TCP: the header says nothing of use, and is to be skipped
    if len(addresses) < struct.calcsize(layouts[family]):
        raise BadProxyHeader("the header of the PROXY protocol is too short")
    source, _, port, _ = struct.unpack_from(layouts[family], addresses)
    return _peer(ipaddress.ip_address(source), port, peer)


def _peer(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, balancer: Peer) -> Peer:
    """The peer behind the balancer; an IPv4 address that is written as one of IPv6 is shown as what it is."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Peer.at(str(address), port, balancer.our_host, balancer.our_port)
