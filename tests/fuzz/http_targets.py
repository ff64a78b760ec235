"""What is fuzzed of the HTTP API; as in ``targets.py``, a target takes any bytes and raises only for a defect.

- ``http``: the bytes of a connection, in pieces: h11's edge, the heads, the bodies, the router;
- ``api``: requests of an administrator, whose method, path, query and body the input says.

Each input has a server of its own, which is not on the network. Nothing may be answered with 500.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import trio
import trio.testing

from amqp_broker.access.client import Peer
from amqp_broker.access.users import User
from amqp_broker.management.api.endpoints import ENDPOINTS
from amqp_broker.management.http.conversation import Conversation
from amqp_broker.management.http.messages import HttpError, Request
from amqp_broker.management.http.service import HttpService
from amqp_broker.management.managed_server import ManagedServer
from amqp_broker.network.listeners import HTTP
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.settings import Settings
from tests.support.client import LOOPBACK
from tests.support.served import QUIET, TrioClock

METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS")
REQUESTS_MAX = 20
IN_BACKGROUND = {"/api/x/events", "/api/x/log"}  # of what goes on when the answer is there


class NotServed(ManagedServer):
    """What an input asks: a broker of which nobody keeps rates or log lines."""

    def was_asked(self) -> None:
        """Nobody looks on later."""


class Open(HttpService):
    """Whoever says a name and a password, whichever, is the administrator."""

    async def _user_of(self, peer: Peer, protocol: str, request: Request) -> User:
        if "authorization" not in request.headers:
            raise HttpError(401)
        user = self._management.broker.users.get("guest")
        assert user is not None
        return user


class Piecewise(trio.abc.Stream):
    """A stream of bytes that are there, in pieces; what is sent is counted, and kept in part."""

    def __init__(self, data: bytes, piece_bytes: int) -> None:
        self._data, self._at, self._piece_bytes = data, 0, piece_bytes
        self.sent = bytearray()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next piece; nothing at the end."""
        await trio.lowlevel.checkpoint()
        piece = self._data[self._at : self._at + self._piece_bytes]
        self._at += len(piece)
        return piece

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Take what is sent."""
        await trio.lowlevel.checkpoint()
        self.sent += bytes(data[:4096])

    async def wait_send_all_might_not_block(self) -> None:
        """It never does."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Nothing is to be closed."""
        await trio.lowlevel.checkpoint()


def _service() -> Open:
    return Open(NotServed(BrokerServer(Settings(**QUIET), TrioClock())))


def _run(work: Callable[[], object]) -> None:
    trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))  # type: ignore[arg-type]


def http(data: bytes) -> None:
    """Bytes of one connection; the first one says how large the pieces are."""
    if not data or any(path.encode() in data for path in IN_BACKGROUND):
        return
    _run(partial(_converse, data))


async def _converse(data: bytes) -> None:
    service = _service()
    stream = Piecewise(data[1:], 4 * data[0] + 1)
    await Conversation(stream, partial(service._respond, LOOPBACK, HTTP)).run()
    assert b"HTTP/1.1 500 " not in stream.sent


def api(data: bytes) -> None:
    """Requests, one a line: a byte for the method, then path and query, a tab, and the body."""
    _run(partial(_ask, data))


async def _ask(data: bytes) -> None:
    service = _service()
    for line in data.split(b"\n", REQUESTS_MAX)[:REQUESTS_MAX]:
        method, rest = METHODS[(line or b"\0")[0] % len(METHODS)], line[1:]
        target, _, body = rest.partition(b"\t")
        try:
            request = Request.of(method, "/" + target.decode("latin-1"), {"authorization": "x", "host": "h"})
            if "/" + "/".join(request.path) in IN_BACKGROUND:
                continue
            answer = await service._respond(LOOPBACK, HTTP, request, partial(_read, body))
        except HttpError as refused:
            answer = refused.answer()
        assert answer.status != 500, (method, target, body)
        if answer.pieces is not None:
            async for _ in answer.pieces:
                pass


async def _read(body: bytes, bytes_max: int = 0) -> bytes:
    await trio.lowlevel.checkpoint()
    return body


# --- what to begin with

HEAD = b" HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n"
CONVERSATIONS = (
    b"GET /api/overview" + HEAD + b"\r\n",
    b"PUT /api/queues/%2F/q" + HEAD + b'Content-Length: 16\r\n\r\n{"durable":true}',
    b"POST /api/exchanges/%2F/amq.default/publish"
    + HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
    b"GET /api/queues?page=1&page_size=5&name=a&use_regex=true&sort=name&columns=name,arguments" + HEAD + b"\r\n",
    b"HEAD /api/whoami" + HEAD + b"Accept-Encoding: gzip\r\nExpect: 100-continue\r\n\r\n" * 2,
    b"OPTIONS /api/%2e%2e/x" + HEAD + b"Connection: close\r\n\r\n",
    b"GET /metrics/detailed?family=queue_metrics&vhost=%2F" + HEAD + b"\r\n",
)
BODIES: tuple[tuple[str, str, str], ...] = (
    ("PUT", "api/queues/%2F/q", '{"durable":true,"arguments":{"x-max-length":5,"x-dead-letter-exchange":"d"}}'),
    ("PUT", "api/exchanges/%2F/x", '{"type":"topic","arguments":{"alternate-exchange":"amq.fanout"}}'),
    ("POST", "api/bindings/%2F/e/amq.topic/q/q", '{"routing_key":"a.#","arguments":{"x-match":"all"}}'),
    (
        "POST",
        "api/exchanges/%2F/amq.default/publish",
        '{"properties":{"headers":{"a":[1]},"delivery_mode":2},"routing_key":"q","payload":"aGk=","payload_encoding":"base64"}',
    ),
    ("POST", "api/queues/%2F/q/get", '{"count":2,"ackmode":"ack_requeue_true","encoding":"auto","truncate":3}'),
    ("GET", "api/x/queues/%2F/q/messages?offset=0&limit=5&search=a&header.a=b", ""),
    ("POST", "api/x/queues/%2F/q/move", '{"to":{"queue":"r"},"filter":{"key":"q"},"limit":1,"dry_run":true}'),
    ("POST", "api/x/explain/route", '{"vhost":"/","exchange":"amq.topic","key":"a.b","headers":{"a":1}}'),
    ("PUT", "api/policies/%2F/p", '{"pattern":"^q","definition":{"max-length":3},"priority":1,"apply-to":"queues"}'),
    ("PUT", "api/operator-policies/%2F/p", '{"pattern":"^q","definition":{"expires":3000}}'),
    (
        "PUT",
        "api/users/u",
        '{"password_hash":"B4/GbhzzoaUk4VHxYI1xyvT8hPUyKUmzoaL6dVrhZsj4CRNs","tags":"management,x"}',
    ),
    ("PUT", "api/permissions/%2F/u", '{"configure":".*","write":"^a","read":""}'),
    ("PUT", "api/topic-permissions/%2F/u", '{"exchange":"amq.topic","write":"^a","read":"b"}'),
    ("PUT", "api/parameters/shovel/%2F/s", '{"value":{"src-uri":"amqp://","dest-uri":["amqp://"],"src-queue":"q"}}'),
    ("PUT", "api/vhost-limits/%2F/max-queues", '{"value":5}'),
    ("PUT", "api/vhosts/v", '{"description":"d","tags":"a,b","tracing":true,"default_queue_type":"quorum"}'),
    (
        "POST",
        "api/definitions",
        '{"users":[],"vhosts":[{"name":"v"}],"queues":[{"name":"q","vhost":"v","durable":true,"auto_delete":false,"arguments":{}}]}',
    ),
    ("PUT", "api/traces/%2F/t", '{"format":"json","pattern":"#","max_payload_bytes":10}'),
    ("POST", "api/users/bulk-delete", '{"users":["u"]}'),
    ("GET", "api/health/checks/certificate-expiration/1/weeks", ""),
    ("DELETE", "api/queues/%2F/q?if-empty=true", ""),
    ("GET", "api/vhosts?page=1&sort=name&msg_rates_age=60&msg_rates_incr=5&columns=name,message_stats.publish", ""),
)


TARGETS = {"http": http, "api": api}


def seeds(target: str) -> list[bytes]:
    """What a target begins with."""
    return list(_http_seeds() if target == "http" else _api_seeds())


def _http_seeds() -> Iterator[bytes]:
    """Conversations of honest clients."""
    for one in CONVERSATIONS:
        yield b"\xff" + one
    yield b"\x02" + b"".join(CONVERSATIONS)


def _api_seeds() -> Iterator[bytes]:
    """Each path of the API, and bodies as they should be, alone and together."""
    paths = [b"\x00" + endpoint.path[1:].encode() for endpoint in ENDPOINTS]
    for start in range(0, len(paths), REQUESTS_MAX):
        yield b"\n".join(paths[start : start + REQUESTS_MAX])
    lines = [bytes([METHODS.index(method)]) + f"{path}\t{body}".encode() for method, path, body in BODIES]
    yield from lines
    yield b"\n".join(lines)
