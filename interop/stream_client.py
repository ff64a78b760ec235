"""A raw client of the stream protocol: it writes what a test wants, and shows what comes back as it stands.

`Wire` makes and reads frames without a socket; `StreamClient` has one. Nothing of the broker is imported.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from interop.waiting import PATIENCE_S

ANSWER = 0x8000
(
    DECLARE_PUBLISHER, PUBLISH, CONFIRM, PUBLISH_ERROR, QUERY_SEQUENCE, DELETE_PUBLISHER, SUBSCRIBE, DELIVER, CREDIT,
    STORE_OFFSET, QUERY_OFFSET, UNSUBSCRIBE, CREATE, DELETE, METADATA, METADATA_UPDATE, PEER_PROPERTIES, HANDSHAKE,
    AUTHENTICATE, TUNE, OPEN, CLOSE, HEARTBEAT, ROUTE, PARTITIONS, CONSUMER_UPDATE, VERSIONS, STATS, CREATE_SUPER,
    DELETE_SUPER,
) = range(1, 31)  # fmt: skip
FIRST, LAST, NEXT, OFFSET, TIMESTAMP = range(1, 6)


def u16(value: int) -> bytes:
    return struct.pack(">H", value)


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def u64(value: int) -> bytes:
    return struct.pack(">Q", value)


def text(value: str | None) -> bytes:
    if value is None:
        return b"\xff\xff"
    return u16(len(value.encode())) + value.encode()


def blob(value: bytes) -> bytes:
    return u32(len(value)) + value


def array(elements: Sequence[bytes]) -> bytes:
    return u32(len(elements)) + b"".join(elements)


def pairs(values: dict[str, str]) -> bytes:
    return array([text(key) + text(value) for key, value in values.items()])


def frame(key: int, content: bytes, version: int = 1) -> bytes:
    return u32(4 + len(content)) + u16(key) + u16(version) + content


def data_section(body: bytes) -> bytes:
    """A message of AMQP 1.0 that is nothing but a body."""
    return b"\0\x53\x75\xb0" + u32(len(body)) + body


def sub_batch(messages: Sequence[bytes], *, compression: int = 0) -> bytes:
    """What stands behind the publishing id of a sub-batch."""
    opened = b"".join(map(blob, messages))
    data = opened
    if compression == 1:
        packer = zlib.compressobj(wbits=31)
        data = packer.compress(opened) + packer.flush()
    return bytes((0x80 | compression << 4,)) + u16(len(messages)) + u32(len(opened)) + blob(data)


class Read:
    """What is read of a frame, field by field."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def take(self, count: int) -> bytes:
        taken, self.content = self.content[:count], self.content[count:]
        assert len(taken) == count, f"the frame ends early: {taken!r}"
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def text(self) -> str:
        return self.take(self.number(2)).decode()

    def texts(self) -> list[str]:
        return [self.text() for _ in range(self.number(4))]

    def pairs(self) -> dict[str, str]:
        found = {}
        for _ in range(self.number(4)):
            key = self.text()
            found[key] = self.text()
        return found


class Chunk:
    """A chunk that was delivered: its header's fields, and its entries."""

    def __init__(self, data: bytes) -> None:
        magic, kind, self.entry_count, self.record_count, self.timestamp_ms = struct.unpack_from(">BBHIq", data)
        self.epoch, self.first_offset, checksum, length, trailer, bloom = struct.unpack_from(">QQIIIB3x", data, 16)
        assert (magic, kind) == (0x50, 0)
        self.data = data[48 : 48 + length]
        assert len(data) == 48 + length, (len(data), length, trailer, bloom)
        assert zlib.crc32(self.data) == checksum
        self.entries: list[bytes] = []
        self.sub_batches: list[tuple[int, int, int, bytes]] = []  # compression, records, bytes opened, bytes
        rest = Read(self.data)
        while rest.content:
            if rest.content[0] & 0x80:
                kind = rest.number(1) >> 4 & 7
                records, opened = rest.number(2), rest.number(4)
                self.sub_batches.append((kind, records, opened, rest.take(rest.number(4))))
            else:
                self.entries.append(rest.take(rest.number(4)))
        assert len(self.entries) + len(self.sub_batches) == self.entry_count

    def messages(self) -> list[bytes]:
        """All messages in their order, with those of sub-batches, which are not compressed or by gzip."""
        found = []
        rest = Read(self.data)
        while rest.content:
            if rest.content[0] & 0x80:
                kind, records, _ = rest.number(1) >> 4 & 7, rest.number(2), rest.number(4)
                data = rest.take(rest.number(4))
                opened = Read(zlib.decompress(data, wbits=31) if kind else data)
                found += [opened.take(opened.number(4)) for _ in range(records)]
            else:
                found.append(rest.take(rest.number(4)))
        assert len(found) == self.record_count
        return found


class Wire:
    """Requests as a client writes them, and what came back; `write` and `await_frame` are the socket's."""

    def __init__(self) -> None:
        self.correlation = 0
        self.frames: deque[tuple[int, int, bytes]] = deque()  # key, version, content
        self._rest = b""

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def await_frame(self) -> None:
        """See that there is one more in `frames`."""
        raise NotImplementedError

    def came(self, data: bytes) -> None:
        """Take what was read."""
        self._rest += data
        while len(self._rest) >= 4:
            length = int.from_bytes(self._rest[:4], "big")
            if len(self._rest) < 4 + length:
                break
            key, version = struct.unpack_from(">HH", self._rest, 4)
            self.frames.append((key, version, self._rest[8 : 4 + length]))
            self._rest = self._rest[4 + length :]

    def send(self, key: int, content: bytes = b"", version: int = 1) -> None:
        self.write(frame(key, content, version))

    def take(self, *keys: int) -> tuple[int, bytes]:
        """The next frame of one of these keys; others stay."""
        while True:
            for place, (key, _, content) in enumerate(self.frames):
                if key in keys:
                    del self.frames[place]
                    return key, content
            self.await_frame()

    def call(self, key: int, content: bytes = b"") -> tuple[int, Read]:
        """A request; the code of its answer, and what stands behind that."""
        self.correlation += 1
        self.send(key, u32(self.correlation) + content)
        _, answer = self.take(key | ANSWER)
        read = Read(answer)
        assert read.number(4) == self.correlation
        return read.number(2), read

    # --- the login

    def log_in(
        self, user: str = "guest", password: str = "guest", vhost: str = "/", frame_max: int = 1_048_576
    ) -> dict[str, str]:
        """All of it; what Open answers."""
        code, _ = self.call(PEER_PROPERTIES, pairs({"product": "interop"}))
        assert code == 1
        code, _ = self.call(HANDSHAKE)
        assert code == 1
        code, _ = self.call(AUTHENTICATE, text("PLAIN") + blob(f"\0{user}\0{password}".encode()))
        assert code == 1, code
        self.take(TUNE)
        self.send(TUNE, u32(frame_max) + u32(60))
        code, read = self.call(OPEN, text(vhost))
        assert code == 1, code
        return read.pairs()

    # --- what there is

    def create(self, name: str, **arguments: str) -> int:
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        return self.call(CREATE, text(name) + pairs(named))[0]

    def delete(self, name: str) -> int:
        return self.call(DELETE, text(name))[0]

    def create_super(self, name: str, partitions: Sequence[str], keys: Sequence[str]) -> int:
        content = text(name) + array([*map(text, partitions)]) + array([*map(text, keys)]) + pairs({})
        return self.call(CREATE_SUPER, content)[0]

    # --- publishing

    def declare_publisher(self, number: int, stream: str, reference: str = "") -> int:
        return self.call(DECLARE_PUBLISHER, bytes((number,)) + text(reference) + text(stream))[0]

    def publish(self, number: int, messages: dict[int, bytes]) -> None:
        """Messages by their publishing ids."""
        entries = [u64(identifier) + blob(message) for identifier, message in messages.items()]
        self.send(PUBLISH, bytes((number,)) + array(entries))

    def publish_filtered(self, number: int, messages: Sequence[tuple[int, str | None, bytes]]) -> None:
        entries = [u64(identifier) + text(value) + blob(message) for identifier, value, message in messages]
        self.send(PUBLISH, bytes((number,)) + array(entries), version=2)

    def publish_batches(self, number: int, batches: dict[int, bytes]) -> None:
        """Sub-batches by their publishing ids."""
        entries = [u64(identifier) + batch for identifier, batch in batches.items()]
        self.send(PUBLISH, bytes((number,)) + array(entries))

    def confirmed(self, count: int) -> list[int]:
        """The ids of the next confirms, so many, in the order of their numbers."""
        found: list[int] = []
        while len(found) < count:
            _, content = self.take(CONFIRM)
            read = Read(content[1:])
            found += [read.number(8) for _ in range(read.number(4))]
        return sorted(found)

    def refused(self) -> list[tuple[int, int]]:
        """The next PublishError: ids and codes."""
        _, content = self.take(PUBLISH_ERROR)
        read = Read(content[1:])
        return [(read.number(8), read.number(2)) for _ in range(read.number(4))]

    def sequence(self, reference: str, stream: str) -> int:
        code, read = self.call(QUERY_SEQUENCE, text(reference) + text(stream))
        assert code == 1
        return read.number(8)

    # --- subscriptions

    def subscribe(
        self,
        number: int,
        stream: str,
        start: int | tuple[int, int] = FIRST,
        credit: int = 10,
        properties: dict[str, str] | None = None,
    ) -> int:
        kind = u16(start) if isinstance(start, int) else u16(start[0]) + u64(start[1])
        content = bytes((number,)) + text(stream) + kind + u16(credit)
        if properties is not None:
            content += pairs(properties)
        return self.call(SUBSCRIBE, content)[0]

    def credit(self, number: int, credit: int = 1) -> None:
        self.send(CREDIT, bytes((number,)) + u16(credit))

    def chunk(self) -> Chunk:
        """The next chunk."""
        _, content = self.take(DELIVER)
        return Chunk(content[1:])

    def entries(self, count: int, number: int = 1) -> list[bytes]:
        """So many of the next entries, with a credit for each chunk."""
        found: list[bytes] = []
        while len(found) < count:
            found += self.chunk().entries
            self.credit(number)
        return found

    def store_offset(self, reference: str, stream: str, offset: int) -> None:
        self.send(STORE_OFFSET, text(reference) + text(stream) + u64(offset))

    def offset(self, reference: str, stream: str) -> tuple[int, int]:
        """The code and the offset that QueryOffset answers."""
        code, read = self.call(QUERY_OFFSET, text(reference) + text(stream))
        return code, read.number(8)


class StreamClient(Wire):
    """A client with a socket, logged in unless it is told otherwise."""

    def __init__(self, port: int, *, logs_in: bool = True) -> None:
        super().__init__()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as the clients have it that people use
        self.opened = self.log_in() if logs_in else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def await_frame(self) -> None:
        data = self._socket.recv(262_144)
        if not data:
            raise ConnectionResetError("the broker has closed the connection")
        self.came(data)

    def is_ended(self) -> bool:
        """Whether the broker closes the connection; waits for that."""
        try:
            while data := self._socket.recv(262_144):
                self.came(data)
        except ConnectionError:
            pass
        return True
