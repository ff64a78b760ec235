"""HTTP itself: who is let in, what is too much, and that whoever means ill harms nobody else."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from importlib import import_module
from typing import Any

import pytest
import trio

from amqp_broker.management import management, samples
from amqp_broker.management.http import conversation, service
from amqp_broker.management.http.messages import HttpError, Request
from amqp_broker.network.listeners import CannotListen
from amqp_broker.server.status import server_status
from amqp_broker.settings import DESCRIPTIONS
from tests.support.managed import HttpClient, Managed, managing
from tests.support.served import on_a_jumping_clock, seconds_until_the_end, until

OVERVIEW = b"GET /api/overview HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n"


async def said_to(managed: Managed, data: bytes) -> bytes:
    """All that is answered to some bytes, until the connection ends."""
    async with await managed.connect_http() as stream:
        await stream.send_all(data)
        answered = b""
        while part := await stream.receive_some(65_536):
            answered += part
        return answered


# --- nobody pays for it who does not ask


def test_nothing_of_http_is_loaded_before_somebody_connects() -> None:
    program = (
        "import sys, amqp_broker.management.management;"
        "loaded = {name for name in sys.modules if name == 'h11' or name.startswith('amqp_broker.management.')};"
        "assert loaded == {'amqp_broker.management.' + name for name in ('management', 'managed_server')}, loaded"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@on_a_jumping_clock
async def test_it_is_loaded_in_a_thread_so_that_nobody_else_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    loading: list[tuple[str, int]] = []

    def load(name: str) -> object:
        loading.append((name, threading.get_ident()))
        return import_module(name)

    monkeypatch.setattr(management, "import_module", load)
    async with managing() as managed:
        for _ in range(2):
            client = await managed.administrator()
            assert (await client.ask("GET", "/api/overview")).status == 200
            await client.stream.aclose()
    ((name, thread),) = loading
    assert name == "amqp_broker.management.http.service"
    assert thread != threading.get_ident()


@on_a_jumping_clock
async def test_no_rates_are_kept_until_somebody_asks_and_those_of_all_alone_after_a_while_of_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(samples, "FORGET_AFTER_S", 15)
    async with managing() as managed:
        assert managed.management._samples is None
        client = await managed.administrator()
        await client.ask("GET", "/api/queues")
        await until(lambda: bool(managed.management.samples._series))
        await client.stream.aclose()
        await until(lambda: set(managed.management.samples._series) == {samples.ALL})
        client = await managed.administrator()
        await client.ask("GET", "/api/queues")
        await until(lambda: len(managed.management.samples._series) > 1)
        await client.stream.aclose()


# --- ports


@on_a_jumping_clock
async def test_a_port_that_somebody_chose_must_be_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.RaisesGroup(CannotListen, flatten_subgroups=True) as caught:
            async with managing(management_port=port):
                pass
        assert "with the setting management_port" in str(caught.value.exceptions[0])


@on_a_jumping_clock
async def test_without_its_default_port_the_broker_serves_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        object.__setattr__(DESCRIPTIONS["management_port"], "default", port)
        try:
            async with managing(management_port=port) as managed:
                assert [endpoint.protocol for endpoint in managed.server.http_endpoints] == ["metrics"]
                assert "/metrics (127.0.0.1:" in server_status(managed.server)["listeners"][-1]
        finally:
            object.__setattr__(DESCRIPTIONS["management_port"], "default", 15672)
    assert [record.getMessage() for record in caplog.records] == ["no HTTP for administrators"]


@on_a_jumping_clock
async def test_minus_one_is_none() -> None:
    async with managing(management_port=-1, metrics_port=-1) as managed:
        assert managed.server.http_endpoints == []


@on_a_jumping_clock
async def test_who_changes_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with managing() as managed:
        client = await managed.administrator()
        for method in ("PUT", "GET", "DELETE"):
            await client.ask(method, "/api/queues/%2F/a%2Fb")
        await client.stream.aclose()
    records = [record for record in caplog.records if record.getMessage() == "changed over HTTP"]
    seen = [
        tuple(record.__dict__["fields"][name] for name in ("who", "method", "path", "status")) for record in records
    ]
    assert seen == [
        ("guest", "PUT", "/api/queues/%2F/a%2Fb", 201),
        ("guest", "DELETE", "/api/queues/%2F/a%2Fb", 204),
    ]


# --- who is let in


@on_a_jumping_clock
@pytest.mark.parametrize(
    "authorization", ["Basic Z3Vlc3Q6YmFk", "Basic Z3Vlc3Q=", "Basic !", "Bearer x", "Basic /////w=="]
)
async def test_a_wrong_login_is_refused(authorization: str) -> None:
    async with managing() as managed:
        client = await managed.administrator()
        reply = await client.ask("GET", "/api/overview", user=None, authorization=authorization)
        assert (reply.status, reply.json["reason"]) == (401, "Login failed")
        assert reply.headers["www-authenticate"] == 'Basic realm="RabbitMQ Management"'
        await client.stream.aclose()


WRONG_SESSION = (
    b"POST /api/x/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 37\r\n\r\n"
    b'{"username":"guest","password":"bad"}'
)
WRONG_BASIC = b"GET /api/overview HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Z3Vlc3Q6YmFk\r\n\r\n"


@on_a_jumping_clock
@pytest.mark.parametrize("guess", [WRONG_BASIC, WRONG_SESSION], ids=["basic", "session"])
async def test_a_guess_costs_a_connection_as_on_amqp(guess: bytes) -> None:
    async with managing() as managed:
        answered = await said_to(managed, guess * 10)
        assert answered.count(b"HTTP/1.1 401") == answered.count(b"Login failed") == 1
        assert answered.lower().count(b"connection: close") == 1
        assert managed.management.http_logins["failed"] == 1
        without = OVERVIEW.replace(b"Authorization", b"X-Nothing") + b"\r\n"
        assert (await said_to(managed, without * 2 + guess)).count(b"HTTP/1.1 401") == 3, "no guess costs nothing"


@on_a_jumping_clock
async def test_a_user_without_a_tag_is_nobody_here() -> None:
    async with managing() as managed:
        managed.broker.administration.add_user("ada", "secret")
        client = await managed.administrator()
        reply = await client.ask("GET", "/api/whoami", user="ada:secret")
        assert (reply.status, reply.json["reason"]) == (401, "Not management user")
        await client.stream.aclose()


@on_a_jumping_clock
async def test_a_page_of_another_site_changes_nothing() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        reply = await client.ask("PUT", "/api/vhosts/evil", origin="http://example.com")
        assert reply.status == 403
        reply = await client.ask("PUT", "/api/vhosts/good", origin="http://localhost")
        assert reply.status == 201
        assert list(managed.broker.virtual_hosts) == ["/", "good"]
        await client.stream.aclose()


# --- what is too much


@on_a_jumping_clock
async def test_a_head_that_comes_slowly_is_not_waited_for() -> None:
    async with managing() as managed:
        async with await managed.connect_http() as slow:
            await slow.send_all(b"GET / HTTP/1.1\r\n")
            assert 9 < await seconds_until_the_end(slow) < 15  # type: ignore[arg-type]
        async with await managed.connect_http() as silent:
            assert 59 < await seconds_until_the_end(silent) < 65  # type: ignore[arg-type]


async def trickle(stream: trio.abc.Stream) -> None:
    while True:
        await trio.sleep(1)
        await stream.send_all(b"X: y\r\n")


@on_a_jumping_clock
async def test_a_head_that_trickles_in_ends_all_the_same() -> None:
    async with managing() as managed, await managed.connect_http() as slow, trio.open_nursery() as nursery:
        await slow.send_all(b"GET / HTTP/1.1\r\n")
        nursery.start_soon(trickle, slow)
        assert 9 < await seconds_until_the_end(slow) < 15  # type: ignore[arg-type]
        nursery.cancel_scope.cancel()


@on_a_jumping_clock
async def test_a_head_that_is_too_large_is_refused() -> None:
    async with managing() as managed:
        answered = await said_to(managed, OVERVIEW + b"X: " + b"x" * 100_000)
        assert answered.startswith(b"HTTP/1.1 431 ")


@on_a_jumping_clock
async def test_a_body_is_read_only_for_somebody_who_has_logged_in() -> None:
    async with managing() as managed:
        head = b"PUT /api/queues/%2F/q HTTP/1.1\r\nHost: localhost\r\nContent-Length: 19999999\r\n\r\n"
        answered = await said_to(managed, head)
        assert answered.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" in answered.lower()


@on_a_jumping_clock
async def test_a_body_that_is_too_large_is_refused() -> None:
    async with managing() as managed:
        head = b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"
        answered = await said_to(managed, head + b"x" * 5000)
        assert answered.startswith(b"HTTP/1.1 413 ")


@on_a_jumping_clock
async def test_who_holds_connections_open_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CONNECTIONS_MAX", 2)
    async with managing() as managed:
        hoarders = [await managed.administrator() for _ in range(2)]
        for hoarder in hoarders:
            await hoarder.ask("GET", "/")
            await trio.sleep(1)
        client = await managed.administrator()
        assert (await client.ask("GET", "/api/whoami")).status == 200
        assert await seconds_until_the_end(hoarders[0].stream) < 1  # type: ignore[arg-type]
        assert (await hoarders[1].ask("GET", "/")).status == 200
        async with await managed.opened():
            """Clients of AMQP have limits of their own."""
        for one in (client, *hoarders):
            await one.stream.aclose()


@on_a_jumping_clock
async def test_who_has_been_refused_and_does_not_leave_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CONNECTIONS_MAX", 2)
    async with managing() as managed:
        hoarders = [await managed.administrator() for _ in range(2)]
        for hoarder in hoarders:
            assert (await hoarder.ask("GET", "/api/whoami", user="guest:wrong")).status == 401
        client = await managed.administrator()
        assert (await client.ask("GET", "/api/whoami")).status == 200
        for one in (client, *hoarders):
            await one.stream.aclose()


# --- what is framed in two ways, or is no HTTP


@on_a_jumping_clock
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n", 400),
        (b"Content-Length: -1\r\n\r\n", 400),
        (b"Content-Length: 0x4\r\n\r\n", 400),
        (b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"Host: elsewhere\r\n\r\n", 400),
        (b"X y: z\r\n\r\n", 400),
        (b"X: a\x00b\r\n\r\n", 400),
    ],
)
async def test_what_is_framed_in_two_ways_is_refused_and_ends_the_connection(lines: bytes, status: int) -> None:
    async with managing() as managed:
        answered = await said_to(managed, OVERVIEW + lines + b"GET /smuggled HTTP/1.1\r\n\r\n")
        assert answered.startswith(b"HTTP/1.1 %d " % status)
        assert answered.count(b"HTTP/1.1 ") == 1


@on_a_jumping_clock
@pytest.mark.parametrize("data", [b"AMQP\0\0\x09\x01\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET\r\n\r\n"])
async def test_what_is_no_http_is_told_so(data: bytes) -> None:
    async with managing() as managed:
        assert (await said_to(managed, data)).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@on_a_jumping_clock
async def test_requests_in_one_write_are_answered_in_order() -> None:
    async with managing() as managed:
        await_order = b"".join(
            b"GET /api/%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n%s\r\n" % (name, more)
            for name, more in ((b"whoami", b""), (b"cluster-name", b""), (b"queues", b"Connection: close\r\n"))
        )
        answered = await said_to(managed, await_order)
        assert answered.count(b"HTTP/1.1 200 ") == 3
        assert 0 < answered.index(b'"guest"') < answered.index(b"amqp-broker@localhost") < answered.index(b"chunked")


# --- paths


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/api/queues/%2F/q", ("api", "queues", "/", "q")),
        ("/api/queues/%2f/a%2Fb%2f..", ("api", "queues", "/", "a/b/..")),
        ("/api/queues/../../etc/passwd", ("api", "queues", "..", "..", "etc", "passwd")),
        ("/api//x", ("api", "", "x")),
        ("/api/queues/", ("api", "queues")),
        ("/api/%252F", ("api", "%2F")),
        ("http://elsewhere/api/x", ("api", "x")),
        ("/", ()),
    ],
)
def test_a_path_is_split_first_and_decoded_then(target: str, path: tuple[str, ...]) -> None:
    assert Request.of("GET", target, {}).path == path


@pytest.mark.parametrize("target", ["*", "api", "/%ff", "/?%ff=1", "/?" + "&".join(f"a{n}=1" for n in range(200))])
def test_a_target_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(HttpError) as refused:
        Request.of("GET", target, {})
    assert refused.value.status == 400


@on_a_jumping_clock
async def test_names_are_names_whatever_they_hold() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        for path, name in (("a%2Fb", "a/b"), ("..", ".."), ("%3Cscript%3E", "<script>"), ("%E2%80%AEx", "\u202ex")):
            assert (await client.ask("PUT", f"/api/queues/%2F/{path}")).status == 201
            assert name in managed.broker.virtual_hosts["/"].queues
            assert (await client.ask("GET", f"/api/queues/%2F/{path}")).json["name"] == name
        reply = await client.ask("GET", "/api/queues")
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["x-content-type-options"] == "nosniff"
        await client.stream.aclose()


# --- how answers are sent


@on_a_jumping_clock
async def test_long_answers_are_compressed_for_who_takes_that() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        plain = await client.ask("GET", "/api/exchanges")
        packed = await client.ask("GET", "/api/exchanges", accept_encoding="deflate, gzip")
        refused = await client.ask("GET", "/api/exchanges", accept_encoding="gzip;q=0")
        assert packed.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in refused.headers
        assert plain.json == packed.json
        await client.stream.aclose()


@on_a_jumping_clock
async def test_the_head_alone_and_the_methods_that_there_are() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        for path in ("/api/queues", "/api/overview", "/"):
            head = await client.ask("HEAD", path)
            assert (head.status, head.body) == (200, b"")
        assert (await client.ask("OPTIONS", "/api/queues")).headers["allow"] == "HEAD, GET, OPTIONS"
        refused = await client.ask("POST", "/api/queues")
        assert (refused.status, refused.headers["allow"]) == (405, "HEAD, GET, OPTIONS")
        assert (await client.ask("GET", "/api/queues", accept="text/html")).status == 406
        await client.stream.aclose()


class NotedCompressor:
    """Compresses, and notes how much at a time."""

    def __init__(self, real: Any, sizes_bytes: list[int]) -> None:
        self._real = real
        self._sizes_bytes = sizes_bytes

    def compress(self, data: bytes) -> bytes:
        """As zlib does."""
        self._sizes_bytes.append(len(data))
        return bytes(self._real.compress(data))

    def flush(self) -> bytes:
        """The same."""
        return bytes(self._real.flush())


@on_a_jumping_clock
async def test_what_is_large_is_compressed_in_many_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes_bytes: list[int] = []
    make = conversation._gzip
    monkeypatch.setattr(conversation, "_gzip", lambda: NotedCompressor(make(), sizes_bytes))
    async with managing() as managed:
        client = await managed.administrator()
        await client.ask("PUT", "/api/queues/%2F/q", {})
        publish = {"properties": {}, "routing_key": "q", "payload": "x" * 200_000, "payload_encoding": "string"}
        for _ in range(3):
            await client.ask("POST", "/api/exchanges/%2F/amq.default/publish", publish)
        path = "/api/x/queues/%2F/q/messages?truncate=1000000"
        found = await client.ask("GET", path, accept_encoding="gzip")
        assert [message["payload_bytes"] for message in found.json["messages"]] == [200_000] * 3
        get = {"count": 3, "encoding": "auto", "ackmode": "ack_requeue_true"}
        got = await client.ask("POST", "/api/queues/%2F/q/get", get, accept_encoding="gzip")
        assert [message["payload_bytes"] for message in got.json] == [200_000] * 3
        for name, wrong in (("ackmode", []), ("count", "--3")):
            assert (await client.ask("POST", "/api/queues/%2F/q/get", {**get, name: wrong})).status == 400
        for path in ("/api/queues?page=--1", f"/api/health/checks/port-listener/{'1' * 5_000}"):
            assert (await client.ask("GET", path)).status == 400
        assert sum(sizes_bytes) > 1_200_000
        assert max(sizes_bytes) <= conversation.PART_BYTES
        await client.stream.aclose()


@on_a_jumping_clock
async def test_a_large_list_is_begun_before_all_of_it_is_described() -> None:
    async with managing() as managed:
        host = managed.broker.virtual_hosts["/"]
        for number in range(500):
            host.add_queue(f"q{number:04}", durable=False, auto_delete=False, owner=None, table={})
        client = HttpClient(await managed.connect_http())
        request = b"GET /api/queues HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n"
        await client.stream.send_all(request)
        await client.stream.receive_some(100)
        for number in range(400, 500):
            host.remove_queue(host.queues[f"q{number:04}"])
        answered = b""
        while b"0\r\n\r\n" not in answered[-7:]:
            answered += await client.stream.receive_some(1_000_000)
        assert b'"q0399"' in answered
        assert b'"q0499"' not in answered
        await client.stream.aclose()


@on_a_jumping_clock
@pytest.mark.parametrize("path", [b"/api/queues", b"/metrics/per-object", b"/api/definitions"])
async def test_who_leaves_in_the_middle_of_an_answer_leaves_nothing_behind(
    path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with managing() as managed:
        host = managed.broker.virtual_hosts["/"]
        for number in range(5_000):
            host.add_queue(f"q{number:04}", durable=False, auto_delete=False, owner=None, table={})
        async with await managed.connect_http() as leaver:
            await leaver.send_all(OVERVIEW.replace(b"/api/overview", path) + b"\r\n")
            await leaver.receive_some(100)
        client = await managed.administrator()
        assert (await client.ask("GET", "/api/whoami")).status == 200
        await until(lambda: managed.server._http_clients == 1)
        await client.stream.aclose()
    assert not caplog.records


@on_a_jumping_clock
async def test_what_amqp_could_not_say_is_refused_before_anything_is_changed() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        host = managed.broker.virtual_hosts["/"]
        for path, body in (
            ("/api/queues/%2F/" + "x" * 256, {}),
            ("/api/exchanges/%2F/" + "x" * 256, {}),
            ("/api/queues/%2F/q", {"arguments": {"x" * 256: 1}}),
            ("/api/queues/%2F/q", {"arguments": {"x": 10**30}}),
            ("/api/queues/%2F/q", '{"arguments": {"x": "\\ud800"}}'),
        ):
            assert (await client.ask("PUT", path, body)).status == 400
        assert not host.queues
        assert not any(name.startswith("x") for name in host.exchanges)
        await client.stream.aclose()
