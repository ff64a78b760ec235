"""Frames on the wire: a byte stream cut into frames, and frames written (STOMP 1.2, "STOMP Frames").

A line may end with CR LF in every version, as with RabbitMQ; between frames line ends and zero bytes mean nothing, so a
heart-beat is no frame. Header names and values are escaped in every version, but for those of CONNECT and CONNECTED.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from amqp_broker.protocols.stomp.errors import StompError, malformed

HEADER_BYTES_MAX: Final = 65_536  # of the command and all headers
HEADERS_MAX: Final = 1_000
NUL: Final = 0
RETURN: Final = 13
BETWEEN_FRAMES: Final = b"\r\n\0"
UNESCAPED_COMMANDS: Final = ("CONNECT", "STOMP", "CONNECTED")  # they are read the same whichever version comes of it
COMMANDS_WITH_LENGTH: Final = ("SEND",)  # content-length counts in these, as with RabbitMQ
HEART_BEAT: Final = b"\n"

Headers = dict[str, str]


class Frame:
    """One frame.

    Args:
        command: what is wanted.
        headers: the first of each name.
        body: what stands behind them.
    """

    __slots__ = ("body", "command", "headers")

    def __init__(self, command: str, headers: Headers, body: bytes = b"") -> None:
        self.command = command
        self.headers = headers
        self.body = body

    def is_true(self, name: str) -> bool:
        """Whether a header says true; whatever else it says is false, as with RabbitMQ."""
        return self.headers.get(name) in ("true", "True")

    def number(self, name: str) -> int | None:
        """The number that a header says; None where it is absent.

        Raises:
            StompError: it says none.
        """
        value = self.headers.get(name)
        if value is None:
            return None
        digits = value.strip()
        if not (digits.isascii() and digits.removeprefix("-").isdigit() and len(digits) <= 20):
            raise StompError("Invalid header", f"'{name}' takes a whole number, not '{value[:50]}'.\n")
        return int(digits)


class FrameSplitter:
    """Cuts a byte stream into frames.

    Args:
        body_bytes_max: a frame with a larger body is refused before it is gathered.
    """

    def __init__(self, body_bytes_max: int) -> None:
        self.body_bytes_max = body_bytes_max
        self._parts: list[bytes] = []  # of a frame that has begun
        self._size_bytes = 0  # of these
        self._wanted_bytes = 0  # with fewer there is no need to look again; 0 for any more
        self._awaits_nul = False  # there is none in what has come
        self._lines_bytes = 0  # of a frame that has begun: whole lines, none of them empty
        self._end = 0  # of the frame that was read last
        self._receipt: str | None = None  # that the frame has asked for whose headers were read last

    @property
    def missing_bytes(self) -> int:
        """So much of a frame that has begun is still to come; 0 where that is not known."""
        return max(self._wanted_bytes - self._size_bytes, 0)

    def split(self, data: bytes) -> Iterator[Frame]:
        """Take what was read, and yield each whole frame.

        Raises:
            StompError: it is no STOMP, or larger than may be; nothing more can be read then.
        """
        if self._parts:
            self._parts.append(data)
            self._size_bytes += len(data)
            if self._size_bytes < self._wanted_bytes or (self._awaits_nul and NUL not in data):
                if self._size_bytes > self.body_bytes_max + HEADER_BYTES_MAX:
                    raise self._too_large()
                return
            data = b"".join(self._parts)
            self._parts = []
        self._size_bytes = self._wanted_bytes = 0
        self._awaits_nul = False
        offset = _skip(data, 0)
        while offset < len(data):
            frame = self._read(data, offset)
            if frame is None:
                self._parts = [data[offset:]]
                self._size_bytes = len(data) - offset
                return
            offset = _skip(data, self._end)
            yield frame

    def _read(self, data: bytes, offset: int) -> Frame | None:
        """The frame that begins here; None while it lacks something."""
        lines_end, body_start = self._end_of_headers(data, offset)
        nul = data.find(b"\0", offset, lines_end if body_start else len(data))
        if nul >= 0:
            raise malformed("a frame ends within its headers")
        if (lines_end if body_start else len(data)) - offset > HEADER_BYTES_MAX:
            raise StompError("Frame too large", f"more than {HEADER_BYTES_MAX} bytes of headers\n", closes=True)
        if not body_start:
            return None
        command, headers = _read_lines(data[offset:lines_end])
        self._receipt = headers.get("receipt")
        length = _length_of(headers) if command in COMMANDS_WITH_LENGTH and "content-length" in headers else -1
        body_end = body_start + length if length >= 0 else data.find(b"\0", body_start)
        if body_end >= 0 and body_end - body_start > self.body_bytes_max:
            raise self._too_large()
        if body_end < 0:
            if len(data) - body_start > self.body_bytes_max:
                raise self._too_large()
            self._awaits_nul = True
            return None
        if body_end >= len(data):
            self._wanted_bytes = body_end + 1 - offset
            return None
        if data[body_end] != NUL:
            raise malformed("a body is longer than its content-length")
        self._end = body_end + 1
        self._lines_bytes = 0
        return Frame(command, headers, data[body_start:body_end])

    def _end_of_headers(self, data: bytes, offset: int) -> tuple[int, int]:
        """Where the last header ends, and where the body begins, which is 0 while the empty line is missing.

        Line by line: to look for the empty line at once would look through all frames behind this one. What was looked
        through is remembered, for a frame may come in very many pieces.
        """
        start = offset + self._lines_bytes
        while True:
            end = data.find(b"\n", start)
            if end < 0:
                self._lines_bytes = start - offset
                return 0, 0
            if end == start or (end == start + 1 and data[start] == RETURN):
                self._lines_bytes = start - offset
                return start - 1, end + 1
            start = end + 1

    def _too_large(self) -> StompError:
        detail = f"a body of more than {self.body_bytes_max} bytes\n"
        return StompError("Frame too large", detail, closes=True, receipt=self._receipt)


def _skip(data: bytes, offset: int) -> int:
    """Where the next frame begins."""
    while offset < len(data) and data[offset] in BETWEEN_FRAMES:
        offset += 1
    return offset


def _length_of(headers: Headers) -> int:
    text = headers["content-length"].strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise malformed(f"content-length is no number: '{text[:50]}'")
    return int(text)


def _read_lines(lines: bytes) -> tuple[str, Headers]:
    """The command and the headers."""
    text = lines.decode("utf-8", "surrogateescape")
    if "\r" in text:
        text = text.removesuffix("\r").replace("\r\n", "\n")
    command, *header_lines = text.split("\n")
    if len(header_lines) > HEADERS_MAX:
        raise malformed(f"more than {HEADERS_MAX} headers")
    is_escaped = "\\" in text and command not in UNESCAPED_COMMANDS
    headers: Headers = {}
    for line in header_lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise malformed("a header without a colon")
        if is_escaped:
            name, value = _unescape(name), _unescape(value)
        if name not in headers:
            headers[name] = value
    return command, headers


_ESCAPES: Final = {"n": "\n", "c": ":", "\\": "\\", "r": "\r"}


def _unescape(text: str) -> str:
    """Undo the escapes of a header's name or value (STOMP 1.2, "Value Encoding")."""
    if "\\" not in text:
        return text
    parts: list[str] = []
    start = 0
    while (place := text.find("\\", start)) >= 0:
        escaped = _ESCAPES.get(text[place + 1 : place + 2])
        if escaped is None:
            raise malformed("an unknown escape in a header")
        parts += [text[start:place], escaped]
        start = place + 2
    parts.append(text[start:])
    return "".join(parts)


def _escape(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    if b"\\" in data:
        data = data.replace(b"\\", b"\\\\")
    if b"\n" in data:
        data = data.replace(b"\n", b"\\n")
    if b"\r" in data:
        data = data.replace(b"\r", b"\\r")
    return data.replace(b":", b"\\c") if b":" in data else data


def encode_header(name: str, value: str) -> bytes:
    """One header's line."""
    return b"%b:%b\n" % (_escape(name), _escape(value))


def encode_headers(headers: Headers) -> bytes:
    """The lines of headers."""
    return b"".join([encode_header(name, value) for name, value in headers.items()])


def encode_frame(command: str, headers: Headers, body: bytes = b"") -> bytes:
    """A whole frame, with the line end behind it that RabbitMQ sends too. An empty body has no length."""
    length = b"content-length:%d\n" % len(body) if body else b""
    lines = _unescaped_lines(headers) if command in UNESCAPED_COMMANDS else encode_headers(headers)
    return b"%b\n%b%b\n%b\0\n" % (command.encode(), lines, length, body)


def _unescaped_lines(headers: Headers) -> bytes:
    """The lines of a frame that is not escaped; what ends a line cannot be said there, and is left out."""
    lines = []
    for name, value in headers.items():
        line = f"{name}:{value}".replace("\r", "").replace("\n", "")
        lines.append(line.encode("utf-8", "surrogateescape") + b"\n")
    return b"".join(lines)
