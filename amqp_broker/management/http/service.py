"""The HTTP of one server: its connections, and the way from a request through login and access to an endpoint.

There are at most so many connections; where one more comes, the one that has been idle for longest ends, and where none
is idle, the new one. So whoever holds connections open keeps nobody out. Holds no endpoint.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import trio

from amqp_broker.access.client import Peer
from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.access.passwords import SHA256, PasswordHash
from amqp_broker.access.users import User
from amqp_broker.logs import log_event
from amqp_broker.management.api.endpoints import ENDPOINTS, METRICS_ENDPOINTS
from amqp_broker.management.http.admission import Admission
from amqp_broker.management.http.authentication import check_access, decided, user_of
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.conversation import BODY_BYTES_MAX, Conversation, ReadBody
from amqp_broker.management.http.division import Division
from amqp_broker.management.http.forwarding import USER_HEADER, refresh
from amqp_broker.management.http.looking import EVENTS, Looking
from amqp_broker.management.http.messages import Answer, HttpError, Request, no_such_object
from amqp_broker.management.http.router import Access, Endpoint, Handler, Router
from amqp_broker.management.http.sessions import CSRF_HEADER, token_of
from amqp_broker.network.listeners import FORWARDED, HTTP, METRICS

if TYPE_CHECKING:
    from amqp_broker.management.managed_server import ManagedServer

CONNECTIONS_MAX = 256
ANYBODYS_BODY_BYTES_MAX = 4_096
WRITING = ("PUT", "POST", "DELETE", "PATCH")

NOBODY = User("", PasswordHash(SHA256, b""))


class HttpService:
    """The HTTP of one server.

    Args:
        management: what is served.
    """

    def __init__(self, management: ManagedServer) -> None:
        self._management = management
        endpoints = (*ENDPOINTS, *Looking(self._look).endpoints)
        self._routers = {HTTP: Router(endpoints), METRICS: Router(METRICS_ENDPOINTS)}
        self._routers[FORWARDED] = self._routers[HTTP]
        self._division = None if management.shards is None else Division(management.shards)
        self._admission = Admission()
        self._open: dict[Conversation, trio.CancelScope] = {}

    async def serve(self, stream: trio.abc.Stream, peer: Peer, protocol: str = HTTP) -> None:
        """Have one connection's conversation."""
        if len(self._open) >= CONNECTIONS_MAX and not self._end_an_idle_one():
            return
        conversation = Conversation(stream, partial(self._respond, peer, protocol))
        with trio.CancelScope() as scope:
            self._open[conversation] = scope
            try:
                await conversation.run()
            finally:
                self._open.pop(conversation, None)

    def _end_an_idle_one(self) -> bool:
        idle = [
            (one.idle_since_s, number, one) for number, one in enumerate(self._open) if one.idle_since_s is not None
        ]
        if not idle:
            return False
        self._open.pop(min(idle)[2]).cancel()
        return True

    async def _respond(self, peer: Peer, protocol: str, request: Request, read_body: ReadBody) -> Answer:
        found = self._routers[protocol].find(request.path)
        if self._management.shards is not None and request.path[:1] == ("api",):
            await refresh(self._management.shards)
        if found is None:
            if request.path[:1] == ("api",):
                await self._user_of(peer, protocol, request)
            raise no_such_object()
        endpoint, variables = found
        if request.method == "OPTIONS":
            return Answer(headers={"allow": endpoint.allow})
        _check_origin(request)
        method = "GET" if request.method == "HEAD" else request.method
        if method not in endpoint.methods:
            raise HttpError(405, allow=endpoint.allow)
        access, handler = endpoint.methods[method]
        self._management.was_asked()
        if access is Access.ANYBODY:
            user, body_bytes_max = NOBODY, ANYBODYS_BODY_BYTES_MAX
        else:
            user = await self._user_of(peer, protocol, request)
            check_access(self._management, user, access, variables)
            if request.path[:1] == ("api",) and endpoint.path != EVENTS:
                _check_accepts(request)
            body_bytes_max = BODY_BYTES_MAX
        body = await read_body(body_bytes_max)
        await self._admission.wait()
        answer = await self._answer(endpoint, handler, Call(self._management, request, variables, user, body, peer))
        if method in WRITING and access is not Access.ANYBODY:
            if self._division is None:  # else who has done it has noted it
                _note_change(request, user, peer, answer)
            await self._management.server.until_shared()
        return answer

    async def _answer(self, endpoint: Endpoint, handler: Handler, call: Call) -> Answer:
        """What an endpoint answers, here or where it is to be had."""
        if self._division is not None:
            answer = await self._division.answer(endpoint, call)
            if answer is not None:
                return answer
        return await _answer(handler, call)

    async def _user_of(self, peer: Peer, protocol: str, request: Request) -> User:
        """Who asks: by name and password, or by the cookie of a session; another node has found that out.

        Raises:
            HttpError: 401; 403 where a change is asked for with nothing but the cookie.
        """
        if protocol == FORWARDED and USER_HEADER in request.headers:
            named = self._management.broker.users.get(unquote(request.headers[USER_HEADER]))
            if named is None:
                raise HttpError(401, "not_authorized", "Login failed")
            return named
        authorization, token = request.headers.get("authorization"), token_of(request.headers.get("cookie"))
        if authorization is None and token is not None:
            session = self._management.sessions.find(token, self._management.broker.users.get)
            if session is None:
                raise HttpError(401, "not_authorized", "The session has ended")
            if request.method in WRITING and not session.takes(request.headers.get(CSRF_HEADER, "")):
                raise HttpError(403, "not_authorised", f"With a session, a change needs the header {CSRF_HEADER}")
            return session.user
        return await user_of(self._management, peer, authorization)

    async def _look(self, call: Call, request: Request) -> Answer:
        """Answer a request for whoever made another call, with what they may see now.

        Raises:
            HttpError: it is refused.
        """
        found = self._routers[HTTP].find(request.path)
        if found is None:
            raise no_such_object()
        endpoint, variables = found
        if "GET" not in endpoint.methods:
            raise HttpError(405, allow=endpoint.allow)
        access, handler = endpoint.methods["GET"]
        check_access(self._management, call.user, access, variables)
        self._management.was_asked()
        asked = Call(self._management, request, variables, call.user, b"", call.peer)
        return await self._answer(endpoint, handler, asked)


async def _answer(handler: Handler, call: Call) -> Answer:
    """What an endpoint answers; what the user may do is asked for first, where others decide that."""
    while True:
        try:
            return await handler(call)
        except NotDecidedYet as undecided:
            await decided(undecided)


def _note_change(request: Request, user: User, peer: Peer, answer: Answer) -> None:
    """Who has changed what; messages that are published or taken out are no change of an administrator's."""
    is_message = request.path[-1:] in (("publish",), ("get",))
    log_event(
        logging.DEBUG if is_message else logging.INFO,
        "changed over HTTP",
        who=user.name,
        peer=str(peer),
        method=request.method,
        path="/" + "/".join(quote(segment, safe="") for segment in request.path),
        status=answer.status,
    )


def _check_origin(request: Request) -> None:
    """A page of somebody else's that a browser shows must change nothing, though the browser knows the password.

    Raises:
        HttpError: 403.
    """
    origin = request.headers.get("origin")
    is_foreign = origin is not None and origin.partition("://")[2] != request.headers.get("host")
    if is_foreign and request.method in WRITING:
        raise HttpError(403, "not_authorised", "The request comes from another site")


def _check_accepts(request: Request) -> None:
    """See that the client takes JSON.

    Raises:
        HttpError: 406.
    """
    accept = request.headers.get("accept")
    if accept:
        kinds = {kind.partition(";")[0].strip().lower() for kind in accept.split(",")}
        if kinds.isdisjoint({"*/*", "application/*", "application/json", "application/bigint"}):
            raise HttpError(406)
