"""Answers that are sent again whenever they change: server-sent events, at ``/api/x/events?watch=PATH&watch=PATH``.

What is watched are lists and objects of this API, by their paths with their queries, so a page that shows one sees it
live without anything more. Each look is a request of its own: in slices, with the user's permissions as they are at
that moment. All who watch together may take one twentieth of the time; then looks come less often than each second.
Nothing happens when nobody watches.

An event is ``{"watch": N, "status": STATUS, "body": JSON}``, N being the place of the path in the query. The last is
``ended``, when the user is gone, has another password, or has logged out of the session that they watch by.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from urllib.parse import parse_qsl

import trio

from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, HttpError, Request, bad_request, to_json
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.http.sessions import token_of

EVENTS = "/api/x/events"
WATCHES_MAX = 8
STREAMS_MAX = 64
BODY_BYTES_MAX = 2_000_000
LOOK_EVERY_S = 1.0
SILENCE_S = 15.0  # then a comment is sent, so that who has gone is noticed
STREAM_S = 3600.0  # then the page comes again
SHARE = 20

Look = Callable[[Call, Request], Awaitable[Answer]]


class Looking:
    """Requests that look at one server and stay.

    Args:
        look: answers a request in the name of whoever made the call.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._streams = 0

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where it is to be had."""
        return (Endpoint(EVENTS, {"GET": (Access.MANAGEMENT, self.watch)}),)

    async def watch(self, call: Call) -> Answer:
        """What is watched, whenever it changes."""
        asked = parse_qsl(call.request.query_text, max_num_fields=100)
        targets = [value for name, value in asked if name == "watch"]
        if not 0 < len(targets) <= WATCHES_MAX:
            raise bad_request(f"watch names a path of the API, such as /api/overview; at most {WATCHES_MAX} times")
        requests = [Request.of("GET", target, call.request.headers) for target in targets]
        if any(request.path[:1] != ("api",) or request.path[:3] == ("api", "x", "events") for request in requests):
            raise bad_request("what is watched is a path of the API")
        if self._streams >= STREAMS_MAX:
            raise HttpError(503, "unavailable", f"{STREAMS_MAX} pages are open already")
        return Answer(
            pieces=self._events(call, requests, _welcome(call)),
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
            content_type="text/event-stream",
            is_live=True,
        )

    async def _events(
        self, call: Call, requests: list[Request], is_welcome: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        self._streams += 1
        last: list[tuple[int, bytes] | None] = [None] * len(requests)
        end_s = trio.current_time() + STREAM_S
        said_s = trio.current_time()
        try:
            yield b"retry: 2000\n\n"
            while trio.current_time() < end_s:
                if not is_welcome():
                    yield b"event: ended\ndata: {}\n\n"
                    return
                cost_s = 0.0
                for number, request in enumerate(requests):
                    begin_s = time.perf_counter()
                    found = await self._answer(call, request)
                    cost_s += time.perf_counter() - begin_s
                    if found != last[number]:
                        last[number], said_s = found, trio.current_time()
                        status, body = found
                        yield b'data: {"watch":%d,"status":%d,"body":%s}\n\n' % (number, status, body)
                if trio.current_time() - said_s >= SILENCE_S:
                    said_s = trio.current_time()
                    yield b":\n\n"
                await trio.sleep(min(max(LOOK_EVERY_S, cost_s * SHARE * self._streams), SILENCE_S))
        finally:
            self._streams -= 1

    async def _answer(self, call: Call, request: Request) -> tuple[int, bytes]:
        try:
            answer = await self._look(call, request)
        except HttpError as refused:
            answer = refused.answer()
        if answer.pieces is None:
            return answer.status, answer.body or b"null"
        parts: list[bytes] = []
        size_bytes = 0
        async with aclosing(answer.pieces) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                parts.append(piece)
                size_bytes += len(piece)
                if size_bytes > BODY_BYTES_MAX:
                    reason = f"more than {BODY_BYTES_MAX} bytes are not watched: ask for a page of it"
                    return 413, to_json({"error": "too_large", "reason": reason})
        return answer.status, b"".join(parts)


def _welcome(call: Call) -> Callable[[], bool]:
    """Tells whether who made a call may still look: they are there, with the same password, and in their session."""
    user, password, users = call.user, call.user.password_hash, call.broker.users
    sessions, headers = call.management.sessions, call.request.headers
    token = None if "authorization" in headers else token_of(headers.get("cookie"))
    session = None if token is None else sessions.peek(token, users.get)

    def is_welcome() -> bool:
        if user.judge is None and users.get(user.name) is not user:
            return False
        if token is not None and (session is None or sessions.peek(token, users.get) is not session):
            return False
        return user.password_hash == password

    return is_welcome
