"""A request of HTTP that is made of another node, in the name of a user who has logged in here.

The connection is between nodes that have proved to each other that they are of one cluster, so the owner takes the
user's name for it. A user whom others know (LDAP, OAuth 2.0) is asked for there again: the login that the request has
is passed on. A session of the page has none to pass on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

import h11
import trio

from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, HttpError
from amqp_broker.network.listeners import FORWARDED
from amqp_broker.server.sharding.shards import Shards, ShardUnreachable

USER_HEADER: Final = "x-amqp-broker-user"
READ_BYTES: Final = 262_144
TIMEOUT_S: Final = 30.0
_PASSED_ON: Final = ("content-type", "authorization")
_NOT_RETURNED: Final = (b"content-length", b"transfer-encoding", b"connection", b"content-type", b"date", b"server")


async def forward(
    shards: Shards,
    shard: int,
    call: Call,
    query: Mapping[str, str] | None = None,
    body: bytes | None = None,
    protocol: str = FORWARDED,
    method: str | None = None,
    path: Sequence[str] | None = None,
) -> Answer:
    """Have a call answered by the owner of a shard.

    Args:
        query: in place of the call's.
        body: in place of the call's.
        protocol: that the owner is to take it as.
        method: in place of the call's.
        path: in place of the call's, in segments.

    Raises:
        HttpError: 503, the owner does not answer.
    """
    try:
        with trio.fail_after(TIMEOUT_S):
            stream = await shards.connect(shard, call.peer, protocol)
            async with stream:
                head = _head(call, query, method, path)
                return await _ask(stream, head, call.raw_body if body is None else body)
    except (ShardUnreachable, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError) as error:
        raise HttpError(503, "no_owner", f"the owner of shard {shard} does not answer: {error}") from error
    except trio.TooSlowError as error:
        raise HttpError(503, "no_owner", f"the owner of shard {shard} does not answer in time") from error


async def refresh(shards: Shards) -> None:
    """Know all users and virtual hosts that there are now.

    Raises:
        HttpError: 503, this node cannot know them.
    """
    try:
        await shards.refresh()
    except ShardUnreachable as error:
        raise HttpError(503, "no_directory", str(error)) from error


def _head(
    call: Call, query: Mapping[str, str] | None, method: str | None, path: Sequence[str] | None
) -> tuple[str, str, list[tuple[str, str]]]:
    request = call.request
    text = request.query_text if query is None else urlencode(query)
    target = "/" + "/".join(quote(segment, safe="") for segment in path or request.path) + (f"?{text}" if text else "")
    is_known = call.user.judge is None
    headers = [("host", "node"), ("connection", "close")]
    if is_known:
        headers.append((USER_HEADER, quote(call.user.name, safe="")))
    headers += [
        (name, request.headers[name])
        for name in _PASSED_ON
        if name in request.headers and not (is_known and name == "authorization")
    ]
    method = method or request.method
    return ("GET" if method == "HEAD" else method), target, headers


async def _ask(stream: trio.abc.Stream, head: tuple[str, str, list[tuple[str, str]]], body: bytes) -> Answer:
    method, target, headers = head
    conversation = h11.Connection(h11.CLIENT)
    request = h11.Request(method=method, target=target, headers=[*headers, ("content-length", str(len(body)))])
    data = [conversation.send(request), conversation.send(h11.Data(data=body)), conversation.send(h11.EndOfMessage())]
    await stream.send_all(b"".join(one for one in data if one))
    status, found, parts, kind = 0, dict[str, str](), list[bytes](), ""
    while True:
        event = conversation.next_event()
        if event is h11.NEED_DATA:
            conversation.receive_data(bytes(await stream.receive_some(READ_BYTES)))
        elif isinstance(event, h11.Response):
            status = event.status_code
            fields = {bytes(name): bytes(value).decode("latin-1") for name, value in event.headers}
            kind = fields.get(b"content-type", "application/json")
            found = {name.decode(): value for name, value in fields.items() if name not in _NOT_RETURNED}
        elif isinstance(event, h11.Data):
            parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, b"".join(parts), headers=_without_ours(found), content_type=kind)
        elif isinstance(event, h11.ConnectionClosed):
            raise trio.BrokenResourceError("it has closed the connection")


def _without_ours(headers: Mapping[str, str]) -> dict[str, str]:
    """Without those that every answer of this node has."""
    from amqp_broker.management.http.conversation import SECURITY_HEADERS

    ours = {name for name, _ in SECURITY_HEADERS}
    return {name: value for name, value in headers.items() if name not in ours}
