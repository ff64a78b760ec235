"""The client's side of HTTP/2, as far as calls to etcd need it: streams, windows and headers; no pushes, no priorities.

What its user owes it: ``receive`` with what the socket read, and to send what ``take_output`` returns after every call.
Headers that come are decoded by the library ``hpack``; those that are sent use no table, so they are the same each
time. By hand, because most of what a node does for etcd is to go through frames: the library ``h2`` takes eight to
twenty times as long for them, some 40 % of a standby's main thread. No socket. (RFC 9113, RFC 7541.)
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from hpack import Decoder, HPACKError

from amqp_broker.etcd.protobuf import encode_varint

WINDOW_BYTES: Final = 16_777_216  # how much etcd may send before it is taken: a takeover reads a journal in one go
FRAME_BYTES_MAX: Final = 16_384  # that we take
HEADERS_BYTES_MAX: Final = 65_536
CANCEL: Final = 8
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STREAM_MAX: Final = 2**31 - 1
_WINDOW_DEFAULT: Final = 65_535

_DATA: Final = 0
_HEADERS: Final = 1
_RST_STREAM: Final = 3
_SETTINGS: Final = 4
_PUSH_PROMISE: Final = 5
_PING: Final = 6
_GOAWAY: Final = 7
_WINDOW_UPDATE: Final = 8
_CONTINUATION: Final = 9

_ACK: Final = 0x1  # of settings and pings
_END_STREAM: Final = 0x1
_END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_PRIORITY: Final = 0x20

_ENABLE_PUSH: Final = 2
_MAX_CONCURRENT_STREAMS: Final = 3
_INITIAL_WINDOW_SIZE: Final = 4
_MAX_FRAME_SIZE: Final = 5

_FRAME: Final = struct.Struct(">IBI")  # the payload's length in three bytes and the kind; flags; stream
_SETTING: Final = struct.Struct(">HI")
_NUMBER: Final = struct.Struct(">I")

Part = bytes | memoryview


class Http2Failed(Exception):
    """The connection is of no use any more: what came is no HTTP/2, or the other side ends it."""


class HeadersReceived(NamedTuple):
    """Headers, or trailers."""

    stream: int
    fields: list[tuple[bytes, bytes]]


class DataReceived(NamedTuple):
    """Some bytes of a stream, which are to be taken at once."""

    stream: int
    data: memoryview


class StreamEnded(NamedTuple):
    """The other side says no more in a stream."""

    stream: int


class StreamReset(NamedTuple):
    """The other side has given a stream up."""

    stream: int
    code: int


Event = HeadersReceived | DataReceived | StreamEnded | StreamReset


class _Stream:
    """The state of a stream that is open."""

    __slots__ = ("taken_bytes", "unsent", "window_bytes")

    def __init__(self, window_bytes: int) -> None:
        self.window_bytes = window_bytes  # so much may be sent
        self.taken_bytes = 0  # came since the other side was told last
        self.unsent: deque[tuple[memoryview, bool]] = deque()  # there is no window for it; whether it is the last


class Connection:
    """One connection, from its first byte."""

    def __init__(self) -> None:
        settings = _SETTING.pack(_ENABLE_PUSH, 0) + _SETTING.pack(_INITIAL_WINDOW_SIZE, WINDOW_BYTES)
        self._output: list[Part] = [_PREFACE, _frame(_SETTINGS, 0, 0, settings), _window_update(0, WINDOW_BYTES)]
        self._received = b""
        self._is_begun = False  # the other side's settings have come
        self._decoder = Decoder()
        self._block: tuple[int, int, bytearray] | None = None  # headers that go on: stream, flags, what has come
        self._streams: dict[int, _Stream] = {}
        self._next_stream = 1
        self._window_bytes = self._stream_window_bytes = _WINDOW_DEFAULT  # so much may be sent: in all, in a new stream
        self._taken_bytes = 0  # came since the other side was told last
        self._frame_bytes_max = FRAME_BYTES_MAX  # that the other side takes
        self._streams_max = _STREAM_MAX

    def take_output(self) -> bytes:
        """All that is to be sent now."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    # --- sending

    def begin(self, fields: bytes) -> int:
        """Open a stream.

        Args:
            fields: its headers, as ``encode_fields`` makes them.

        Returns:
            Its number.

        Raises:
            Http2Failed: no more streams can be opened.
        """
        if self._next_stream > _STREAM_MAX or len(self._streams) >= self._streams_max:
            raise Http2Failed("too many streams")
        stream = self._next_stream
        self._next_stream += 2
        self._streams[stream] = _Stream(self._stream_window_bytes)
        self._output.append(_frame(_HEADERS, _END_HEADERS, stream, fields))
        return stream

    def send(self, stream: int, data: bytes, *, is_last: bool) -> None:
        """Send bytes, as soon as the other side has a window for them; nothing in a stream that is over.

        Args:
            stream: its number.
            data: some.
            is_last: whether nothing more will be said in it.
        """
        state = self._streams.get(stream)
        if state is not None:
            state.unsent.append((memoryview(data), is_last))
            self._send_what_fits(stream, state)

    def reset(self, stream: int) -> None:
        """Give a stream up."""
        if self._streams.pop(stream, None) is not None:
            self._output.append(_frame(_RST_STREAM, 0, stream, _NUMBER.pack(CANCEL)))

    def _send_what_fits(self, stream: int, state: _Stream) -> None:
        while state.unsent:
            data, is_last = state.unsent[0]
            size = min(len(data), self._window_bytes, state.window_bytes, self._frame_bytes_max)
            if size <= 0:
                return
            is_whole = size == len(data)
            self._output.append(_FRAME.pack(size << 8 | _DATA, _END_STREAM if is_whole and is_last else 0, stream))
            self._output.append(data[:size])
            self._window_bytes -= size
            state.window_bytes -= size
            if is_whole:
                state.unsent.popleft()
            else:
                state.unsent[0] = (data[size:], is_last)

    # --- receiving

    def receive(self, data: bytes) -> list[Event]:
        """Take what the socket has read.

        Raises:
            Http2Failed: nothing more will come.
        """
        events: list[Event] = []
        offset = 0
        if self._received:
            # Only the frame that was here in part is put together: most of the time much has come behind it.
            offset = _missing_bytes(self._received, data)
            begun = self._received + data[:offset]
            self._received = begun[self._take_frames(begun, 0, events) :]
        if offset < len(data):
            self._received = data[self._take_frames(data, offset, events) :]
        return events

    def _take_frames(self, received: bytes, offset: int, events: list[Event]) -> int:
        """Take the frames that are here in full from an offset on; returns where the next one begins."""
        view = memoryview(received)
        end = len(received)
        while end - offset >= _FRAME.size:
            length_and_kind, flags, stream = _FRAME.unpack_from(received, offset)
            start = offset + _FRAME.size
            behind = start + (length_and_kind >> 8)
            if behind - start > FRAME_BYTES_MAX:
                raise Http2Failed("a frame is too long")
            if behind > end:
                break
            self._take_frame(length_and_kind & 0xFF, flags, stream & _STREAM_MAX, view[start:behind], events)
            offset = behind
        return offset

    def _take_frame(self, kind: int, flags: int, stream: int, payload: memoryview, events: list[Event]) -> None:
        if not self._is_begun and kind != _SETTINGS:
            raise Http2Failed("it does not begin with settings")
        if self._block is not None and kind != _CONTINUATION:
            raise Http2Failed("headers do not go on")
        if kind in (_SETTINGS, _PING, _GOAWAY) if stream else kind in (_DATA, _HEADERS, _RST_STREAM, _CONTINUATION):
            raise Http2Failed(f"a frame of kind {kind} in stream {stream}")
        if kind == _DATA:
            self._take_data(flags, stream, payload, events)
        elif kind == _HEADERS:
            payload = _without_padding(flags, payload)
            self._block = (stream, flags, bytearray(payload[5:] if flags & _PRIORITY else payload))
            self._take_headers(flags, events)
        elif kind == _CONTINUATION:
            if self._block is None or self._block[0] != stream:
                raise Http2Failed("headers go on that have not begun")
            self._block[2].extend(payload)
            self._take_headers(flags, events)
        elif kind == _RST_STREAM:
            if self._streams.pop(stream, None) is not None:
                events.append(StreamReset(stream, _number(payload)))
        elif kind == _SETTINGS:
            self._take_settings(flags, payload)
        elif kind == _PING:
            if not flags & _ACK:
                self._output.append(_frame(_PING, _ACK, 0, bytes(payload)))
        elif kind == _WINDOW_UPDATE:
            self._take_window_update(stream, _number(payload))
        elif kind == _GOAWAY:
            raise Http2Failed(f"the other side ends the connection (HTTP/2 error {_number(payload[4:])})")
        elif kind == _PUSH_PROMISE:
            raise Http2Failed("a push")

    def _take_data(self, flags: int, stream: int, payload: memoryview, events: list[Event]) -> None:
        size = len(payload)
        self._taken_bytes += size
        if self._taken_bytes > WINDOW_BYTES // 2:
            self._output.append(_window_update(0, self._taken_bytes))
            self._taken_bytes = 0
        state = self._streams.get(stream)
        if state is None:
            return
        state.taken_bytes += size
        if state.taken_bytes > WINDOW_BYTES // 2:
            self._output.append(_window_update(stream, state.taken_bytes))
            state.taken_bytes = 0
        events.append(DataReceived(stream, _without_padding(flags, payload)))
        self._end_if_last(flags, stream, events)

    def _take_headers(self, flags: int, events: list[Event]) -> None:
        """Decode headers that are here in full, those of streams that are over too: they change the decoder's table."""
        assert self._block is not None
        stream, first_flags, block = self._block
        if len(block) > HEADERS_BYTES_MAX:
            raise Http2Failed("headers are too long")
        if not flags & _END_HEADERS:
            return
        self._block = None
        try:
            fields = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(bytes(block), raw=True)]
        except HPACKError as error:
            raise Http2Failed(f"headers cannot be decoded: {error}") from error
        if stream in self._streams:
            events.append(HeadersReceived(stream, fields))
            self._end_if_last(first_flags, stream, events)

    def _end_if_last(self, flags: int, stream: int, events: list[Event]) -> None:
        if flags & _END_STREAM:
            del self._streams[stream]
            events.append(StreamEnded(stream))

    def _take_settings(self, flags: int, payload: memoryview) -> None:
        self._is_begun = True
        if flags & _ACK:
            return
        if len(payload) % _SETTING.size:
            raise Http2Failed("settings are cut off")
        for name, value in _SETTING.iter_unpack(payload):
            if name == _INITIAL_WINDOW_SIZE:
                for state in self._streams.values():
                    state.window_bytes += value - self._stream_window_bytes
                self._stream_window_bytes = value
            elif name == _MAX_FRAME_SIZE:
                self._frame_bytes_max = value
            elif name == _MAX_CONCURRENT_STREAMS:
                self._streams_max = value
        self._output.append(_frame(_SETTINGS, _ACK, 0, b""))
        self._send_all_that_fits()

    def _take_window_update(self, stream: int, increment: int) -> None:
        if not stream:
            self._window_bytes += increment
            self._send_all_that_fits()
        elif (state := self._streams.get(stream)) is not None:
            state.window_bytes += increment
            self._send_what_fits(stream, state)

    def _send_all_that_fits(self) -> None:
        for stream, state in self._streams.items():
            self._send_what_fits(stream, state)


def encode_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Headers as they are sent: literal, without a table (RFC 7541, 6.2.2). Those encoded apart may be put together."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)


def _string(text: str) -> bytes:
    data = text.encode()
    size = bytes([len(data)]) if len(data) < 127 else b"\x7f" + encode_varint(len(data) - 127)
    return size + data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def _window_update(stream: int, increment: int) -> bytes:
    return _frame(_WINDOW_UPDATE, 0, stream, _NUMBER.pack(increment))


def _missing_bytes(begun: bytes, data: bytes) -> int:
    """How much of what has come now belongs to a frame that was here in part."""
    head = (begun[: _FRAME.size] + data[: _FRAME.size])[: _FRAME.size]
    if len(head) < _FRAME.size:
        return len(data)
    length_and_kind: int = _FRAME.unpack(head)[0]
    return min(_FRAME.size + (length_and_kind >> 8) - len(begun), len(data))


def _number(payload: memoryview) -> int:
    if len(payload) < _NUMBER.size:
        raise Http2Failed("a frame is too short")
    return int(_NUMBER.unpack_from(payload)[0]) & _STREAM_MAX


def _without_padding(flags: int, payload: memoryview) -> memoryview:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Http2Failed("a frame is nothing but padding")
    return payload[1 : len(payload) - payload[0]]
