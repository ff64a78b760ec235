"""One administrator's connection: h11 between the socket and the requests, with a limit on everything.

A request's head has at most 16 KiB and must have come within ten seconds of its first byte; a body, which is read only
for somebody who has logged in, 20 MB and a minute. A request that is framed in two ways is refused, and ends the
connection. What is left unread, or not taken, for long ends it as well. Holds no endpoint and no users.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus

import h11
import trio

from amqp_broker.logs import log_internal_error
from amqp_broker.management.http.messages import Answer, HttpError, Request, bad_request

HEAD_BYTES_MAX = 16_384
BODY_BYTES_MAX = 20_000_000
CHUNK_BYTES = 65_536
IDLE_S = 60.0  # between two requests
HEAD_S = 10.0
BODY_S = 60.0
SEND_S = 30.0  # for each piece
LINGER_S = 2.0
GZIP_BYTES_MIN = 1_000
GZIP_LEVEL = 1
PART_BYTES = 65_536  # are compressed in one turn, in a millisecond or two

# Scripts and styles come from here alone, and never stand in a page.
CONTENT_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
SECURITY_HEADERS = (
    ("content-security-policy", CONTENT_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("vary", "accept, accept-encoding, origin"),
)

ReadBody = Callable[[int], Awaitable[bytes]]
Respond = Callable[[Request, ReadBody], Awaitable[Answer]]


class Conversation:
    """The requests of one connection, one after another.

    Args:
        stream: to the client.
        respond: makes the answer to a request; it may ask for the body, with the most bytes that it takes.
    """

    def __init__(self, stream: trio.abc.Stream, respond: Respond) -> None:
        self._stream = stream
        self._respond = respond
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self.idle_since_s: float | None = trio.current_time()  # None while it has a request, and must not be ended

    async def run(self) -> None:
        """Answer until the client has enough."""
        try:
            while await self._answer_next():
                self._h11.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.LocalProtocolError):
            return

    async def _answer_next(self) -> bool:
        """Answer the next request; returns whether another may follow."""
        self.idle_since_s = trio.current_time()
        try:
            head = await self._next_head()
        except h11.RemoteProtocolError as error:
            await self._refuse(error)
            return False
        if head is None:
            return False
        self.idle_since_s = None
        is_head_only = head.method == b"HEAD"
        try:
            request = _request_of(head)
        except HttpError as refused:
            await self._send(head, refused.answer(), is_head_only=is_head_only, is_last=True)
            return False
        try:
            answer = await self._respond(request, self._read_body)
        except HttpError as refused:
            answer = refused.answer()
        except h11.RemoteProtocolError as error:
            await self._refuse(error)
            return False
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            raise
        except Exception as error:
            log_internal_error("HTTP", error, target=head.target.decode("ascii", "replace"))
            answer = Answer(500)
        is_last = not self._is_body_read() or "connection" in answer.headers
        await self._send(head, answer, is_head_only=is_head_only, is_last=is_last)
        return bool(self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE)

    # --- what comes

    async def _next_head(self) -> h11.Request | None:
        has_begun = bool(self._h11.trailing_data[0])
        with trio.move_on_after(HEAD_S if has_begun else IDLE_S) as patience:
            while True:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    data = await self._stream.receive_some(CHUNK_BYTES)
                    if not has_begun:
                        has_begun, patience.deadline = True, trio.current_time() + HEAD_S
                    self._h11.receive_data(bytes(data))
                elif isinstance(event, h11.Request):
                    return event
                else:
                    return None
        return None

    async def _read_body(self, bytes_max: int = BODY_BYTES_MAX) -> bytes:
        """The body of the present request.

        Raises:
            HttpError: 413, it is larger than what is taken.
            TooSlowError: it did not come in time.
        """
        parts: list[bytes] = []
        size_bytes = 0
        if self._h11.they_are_waiting_for_100_continue:
            await self._send_all(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])))
        with trio.fail_after(BODY_S):
            while True:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    self._h11.receive_data(bytes(await self._stream.receive_some(CHUNK_BYTES)))
                elif isinstance(event, h11.Data):
                    size_bytes += len(event.data)
                    if size_bytes > bytes_max:
                        raise HttpError(413, "bad_request", f"the body has more than {bytes_max} bytes")
                    parts.append(bytes(event.data))
                else:
                    return b"".join(parts)

    # --- what goes

    async def _send(self, head: h11.Request, answer: Answer, *, is_head_only: bool, is_last: bool) -> None:
        """Send an answer; after the last one the connection ends."""
        pieces, headers = answer.pieces, _headers(answer)
        is_long = pieces is not None or len(answer.body) >= GZIP_BYTES_MIN
        is_compressed = is_long and not answer.is_live and _takes_gzip(head)
        if is_compressed:
            headers.append(("content-encoding", "gzip"))
            if len(answer.body) > PART_BYTES:
                pieces = _one(answer.body)
        is_in_pieces = pieces is not None
        if pieces is None:
            body = _compress(answer.body) if is_compressed else answer.body
            headers.append(("content-length", str(len(body))))
            pieces = _one(body)
        if is_last and "connection" not in answer.headers:
            headers.append(("connection", "close"))
        response = _response(answer.status, headers)
        async with aclosing(pieces):  # type: ignore[type-var]
            await self._send_all(self._h11.send(response))
            if not is_head_only:
                gzip = _gzip() if is_compressed and is_in_pieces else None
                async for piece in pieces:
                    for start in range(0, len(piece), PART_BYTES):
                        part = piece[start : start + PART_BYTES]
                        await self._send_piece(part if gzip is None else gzip.compress(part))
                        await trio.lowlevel.checkpoint()  # what is compressed to nothing yet is not sent
                await self._send_piece(gzip.flush() if gzip is not None else b"")
        await self._send_all(self._h11.send(h11.EndOfMessage()))
        if is_last:
            await self._let_it_be_read()

    def _is_body_read(self) -> bool:
        """Whether another request can follow: one that nobody wanted to read is not waited for."""
        if self._h11.their_state is not h11.SEND_BODY:
            return True
        try:
            return isinstance(self._h11.next_event(), h11.EndOfMessage)
        except h11.RemoteProtocolError:
            return False

    async def _let_it_be_read(self) -> None:
        """Read what still comes, for a moment: a socket that is closed with something unread takes the answer along."""
        if not isinstance(self._stream, trio.abc.HalfCloseableStream):
            return
        self.idle_since_s = trio.current_time()  # it has its answer: where there is no place for another, it ends
        with trio.move_on_after(LINGER_S):
            await self._stream.send_eof()
            while await self._stream.receive_some(CHUNK_BYTES):
                pass

    async def _send_piece(self, piece: bytes) -> None:
        if piece:
            await self._send_all(self._h11.send(h11.Data(data=piece)))

    async def _send_all(self, data: bytes | None) -> None:
        if data:
            with trio.fail_after(SEND_S):
                await self._stream.send_all(data)

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """What came is no HTTP: say so, if that is still possible."""
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = HttpError(error.error_status_hint, "bad_request", "this is no request of HTTP/1.1").answer()
            headers = [*_headers(answer), ("content-length", str(len(answer.body))), ("connection", "close")]
            await self._send_all(self._h11.send(_response(answer.status, headers)))
            await self._send_piece(answer.body)
            await self._send_all(self._h11.send(h11.EndOfMessage()))
            await self._let_it_be_read()


def _response(status: int, headers: list[tuple[str, str]]) -> h11.Response:
    return h11.Response(status_code=status, reason=HTTPStatus(status).phrase, headers=headers)


def _request_of(head: h11.Request) -> Request:
    headers: dict[str, str] = {}
    for name, value in head.headers:
        key = name.decode("ascii")
        if key == "host" and "host" in headers:
            raise bad_request("there are two Host headers")
        headers[key] = value.decode("latin-1")
    if "transfer-encoding" in headers and "content-length" in headers:
        raise bad_request("the body is framed in two ways")
    return Request.of(head.method.decode("ascii"), head.target.decode("ascii"), headers)


def _headers(answer: Answer) -> list[tuple[str, str]]:
    headers = [*SECURITY_HEADERS, *answer.headers.items()]
    if answer.body or answer.pieces is not None:
        headers += [("content-type", answer.content_type)]
    if answer.status == 200 and "cache-control" not in answer.headers:
        headers.append(("cache-control", "no-cache"))
    return headers


def _takes_gzip(head: h11.Request) -> bool:
    wanted = [value for name, value in head.headers if name == b"accept-encoding"]
    codings = (coding.partition(b";") for value in wanted for coding in value.split(b","))
    return any(name.strip() == b"gzip" and weight.replace(b" ", b"") != b"q=0" for name, _, weight in codings)


def _gzip() -> zlib._Compress:
    return zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)


def _compress(body: bytes) -> bytes:
    gzip = _gzip()
    return gzip.compress(body) + gzip.flush()


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body
