"""The page without a browser: its files, who is logged in, what a change needs, and how news come."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import trio
from pamqp import commands, frame

from amqp_broker.access.users import NO_PASSWORD, User
from amqp_broker.logs import log_event
from amqp_broker.management.http import looking
from amqp_broker.management.http.sessions import SESSIONS_MAX, UNUSED_S, Sessions
from amqp_broker.management.page.assets import BUILT
from amqp_broker.management.samples import LATEST_LOOKS
from amqp_broker.server.shovels.supervisor import shovels_of
from tests.support.managed import HttpClient, Managed, managing
from tests.support.served import on_a_jumping_clock, until

SOURCE = Path(__file__).parents[2] / "amqp_broker" / "management" / "page" / "source"
PAGE_BYTES_MAX = 200_000
LOGIN = {"username": "guest", "password": "guest"}
SESSION = "/api/x/session"


async def logged_in(managed: Managed) -> tuple[HttpClient, str, str]:
    """A client, its cookie, and the secret that changes need."""
    client = await managed.administrator()
    reply = await client.ask("POST", SESSION, LOGIN, user=None)
    return client, reply.headers["set-cookie"].partition(";")[0], reply.json["csrf"]


# --- files


def test_the_built_page_belongs_to_its_sources() -> None:
    names = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*") if path.is_file())
    lines = [f"{name} {hashlib.sha256((SOURCE / name).read_bytes()).hexdigest()}\n" for name in names]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert f'content="{expected}"' in (BUILT / "index.html").read_text(), "run: make page"


def test_the_page_is_small_and_asks_nobody_else_for_anything() -> None:
    assert sum(path.stat().st_size for path in BUILT.iterdir()) < PAGE_BYTES_MAX
    html = (BUILT / "index.html").read_text()
    assert all(link.startswith("/assets/") for link in re.findall(r'(?:src|href)="([^"]*)"', html))
    for path in BUILT.glob("*.js"):
        assert set(re.findall(r"https?://[\w./-]+", path.read_text())) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xhtml",
            "http://www.w3.org/1998/Math/MathML",
        }


@on_a_jumping_clock
async def test_the_page_and_its_files_are_served_to_anybody_and_stay_in_the_browser() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        page = await client.ask("GET", "/", user=None)
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        assert (await client.ask("GET", "/", user=None, if_none_match=page.headers["etag"])).status == 304
        script = re.findall(rb'src="(/assets/[^"]*)"', page.body)[0].decode()
        found = await client.ask("GET", script, user=None, accept_encoding="gzip")
        assert (found.status, found.headers["content-encoding"]) == (200, "gzip")
        assert "immutable" in found.headers["cache-control"]
        await client.stream.aclose()


@on_a_jumping_clock
@pytest.mark.parametrize("name", ["nothing.js", "..%2Fassets.py", "%2Fetc%2Fpasswd", "index.html%00.js"])
async def test_nothing_but_the_files_of_the_page_is_served(name: str) -> None:
    async with managing() as managed:
        client = await managed.administrator()
        assert (await client.ask("GET", f"/assets/{name}", user=None)).status == 404
        await client.stream.aclose()


# --- sessions


@on_a_jumping_clock
async def test_a_login_gives_a_cookie_that_scripts_and_other_sites_do_not_get() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        reply = await client.ask("POST", SESSION, LOGIN, user=None)
        assert reply.json["name"] == "guest"
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(reply.headers["set-cookie"].split("; "))
        cookie = reply.headers["set-cookie"].partition(";")[0]
        assert (await client.ask("GET", "/api/whoami", user=None, cookie=cookie)).json["name"] == "guest"
        assert (await client.ask("GET", SESSION, user=None, cookie=cookie)).json["csrf"] == reply.json["csrf"]
        await client.stream.aclose()


@on_a_jumping_clock
async def test_a_wrong_password_gives_none_and_the_browser_is_not_told_to_ask_for_one() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        reply = await client.ask("POST", SESSION, LOGIN | {"password": "wrong"}, user=None)
        assert reply.status == 401
        assert not {"set-cookie", "www-authenticate"} & set(reply.headers)
        await client.stream.aclose()
        client = await managed.administrator()
        assert (await client.ask("POST", SESSION, LOGIN | {"password": 5}, user=None)).status == 400
        assert (await client.ask("GET", SESSION, user=None)).json is None
        await client.stream.aclose()


@on_a_jumping_clock
async def test_a_change_with_the_cookie_alone_is_refused() -> None:
    async with managing() as managed:
        client, cookie, csrf = await logged_in(managed)
        queue = "/api/queues/%2F/q"
        for secret in ({}, {"x_csrf_token": "guess"}, {"x_csrf_token": csrf[:-1]}):
            other = await managed.administrator()  # whoever is refused must connect again
            assert (await other.ask("PUT", queue, {}, user=None, cookie=cookie, **secret)).status == 403
            await other.stream.aclose()
        assert not managed.broker.virtual_hosts["/"].queues
        assert (await client.ask("PUT", queue, {}, user=None, cookie=cookie, x_csrf_token=csrf)).status == 201
        assert (await client.ask("PUT", queue, {}, cookie=cookie)).status == 204, "with a password it needs no secret"
        await client.stream.aclose()


@on_a_jumping_clock
@pytest.mark.parametrize("ending", ["logout", "password", "user"])
async def test_a_session_ends(ending: str) -> None:
    async with managing() as managed:
        managed.broker.administration.add_user("ada", managed.broker.users.get("guest").password_hash, ("monitoring",))  # type: ignore[union-attr]
        client = await managed.administrator()
        reply = await client.ask("POST", SESSION, LOGIN | {"username": "ada"}, user=None)
        cookie, csrf = reply.headers["set-cookie"].partition(";")[0], reply.json["csrf"]
        match ending:
            case "logout":
                assert (await client.ask("DELETE", SESSION, user=None, cookie=cookie)).status == 403
                gone = await client.ask("DELETE", SESSION, user=None, cookie=cookie, x_csrf_token=csrf)
                assert (gone.status, "Max-Age=0" in gone.headers["set-cookie"]) == (204, True)
            case "password":
                assert (
                    await client.ask("PUT", "/api/users/ada", {"password": "new", "tags": "monitoring"})
                ).status == 204
            case "user":
                assert (await client.ask("DELETE", "/api/users/ada")).status == 204
        refused = await client.ask("GET", "/api/whoami", user=None, cookie=cookie)
        assert (refused.status, "www-authenticate" in refused.headers) == (401, False)
        await client.stream.aclose()


def test_a_session_that_nobody_uses_ends_and_the_oldest_makes_room() -> None:
    now_s = 0.0
    sessions, user = Sessions(lambda: now_s), User("ada", NO_PASSWORD)
    token, session = sessions.begin(user)
    now_s = UNUSED_S - 1
    assert sessions.find(token, lambda _: user) is session
    now_s = 2 * UNUSED_S
    assert sessions.find(token, lambda _: user) is None
    first, _ = sessions.begin(user)
    for _ in range(SESSIONS_MAX):
        last, _ = sessions.begin(user)
    assert sessions.find(first, lambda _: user) is None
    assert sessions.find(last, lambda _: user) is not None


# --- news


class Events:
    """What comes on a stream of events."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = b""

    async def next(self) -> dict[str, Any]:
        """The next event that holds something."""
        while True:
            before, found, after = self.buffer.partition(b"\n\n")
            if found:
                self.buffer = after
                line = before.rpartition(b"\n")[2]
                if line.startswith(b"data: "):
                    event: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
                    return event
            else:
                data = await self.stream.receive_some(65_536)
                if not data:
                    raise EOFError
                self.buffer += re.sub(rb"\r\n[0-9a-f]+\r\n", b"", data)


async def watching(managed: Managed, *targets: str, login: str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=") -> Events:
    stream = await managed.connect_http()
    query = "&".join(f"watch={target}" for target in targets)
    request = f"GET /api/x/events?{query} HTTP/1.1\r\nHost: localhost\r\n{login}\r\n"
    await stream.send_all(f"{request}Accept: text/event-stream\r\nAccept-Encoding: gzip\r\n\r\n".encode())
    return Events(stream)


@on_a_jumping_clock
async def test_news_come_when_something_has_changed_and_at_no_other_time() -> None:
    async with managing() as managed:
        events = await watching(managed, "/api/x/queues", "/api/cluster-name")
        assert (await events.next())["body"]["filtered"] == 0
        assert (await events.next()) == {"watch": 1, "status": 200, "body": {"name": "amqp-broker@localhost"}}
        await trio.sleep(20)
        client = await managed.administrator()
        await client.ask("PUT", "/api/queues/%2F/q", {})
        event = await events.next()
        assert (event["watch"], event["body"]["items"][0]["name"]) == (0, "q")
        for stream in (client.stream, events.stream):
            await stream.aclose()


@on_a_jumping_clock
async def test_each_who_watches_sees_what_they_may_and_no_more() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        await client.ask("PUT", "/api/users/guest", {"password": "guest", "tags": "management"})
        events = await watching(managed, "/api/users", "/api/whoami", "/api/nothing")
        statuses = [(await events.next())["status"] for _ in range(3)]
        assert statuses == [401, 200, 404]
        managed.broker.administration.delete_user("guest")
        assert await events.next() == {}  # of the event "ended"
        with pytest.raises(EOFError):
            await events.next()
        for stream in (client.stream, events.stream):
            await stream.aclose()


@on_a_jumping_clock
async def test_who_logs_out_watches_nothing_any_more_and_their_other_tabs_are_told() -> None:
    async with managing() as managed:
        client, cookie, csrf = await logged_in(managed)
        third, other, _ = await logged_in(managed)
        ending, staying = [await watching(managed, "/api/x/queues", login=f"Cookie: {one}") for one in (cookie, other)]
        for events in (ending, staying):
            assert (await events.next())["body"]["filtered"] == 0
        assert (await client.ask("DELETE", SESSION, user=None, cookie=cookie, x_csrf_token=csrf)).status == 204
        await client.ask("PUT", "/api/queues/%2F/q", {})
        refused = await client.ask("GET", "/api/whoami", user=None)
        assert (refused.status, refused.body) == (401, b""), "by which the page knows that nobody is logged in"
        assert await ending.next() == {}
        with pytest.raises(EOFError):
            await ending.next()
        assert (await staying.next())["body"]["filtered"] == 1
        for stream in (client.stream, third.stream, ending.stream, staying.stream):
            await stream.aclose()


@on_a_jumping_clock
@pytest.mark.parametrize(
    "query", ["", "?watch=/metrics", "?watch=/api/x/events", "?watch=nonsense", "?" + "watch=/api&" * 9]
)
async def test_what_cannot_be_watched_is_refused(query: str) -> None:
    async with managing() as managed:
        client = await managed.administrator()
        assert (await client.ask("GET", f"/api/x/events{query}")).status == 400
        await client.stream.aclose()


@on_a_jumping_clock
async def test_there_is_an_end_to_how_many_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "STREAMS_MAX", 1)
    async with managing() as managed:
        events = await watching(managed, "/api/whoami")
        await events.next()
        client = await managed.administrator()
        assert (await client.ask("GET", "/api/x/events?watch=/api/whoami")).status == 503
        for stream in (client.stream, events.stream):
            await stream.aclose()


# --- what the page asks for


@on_a_jumping_clock
async def test_queues_in_brief_are_filtered_sorted_and_come_in_windows() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        for name in ("a1", "a2", "b1"):
            await client.ask("PUT", f"/api/queues/%2F/{name}", {})
        message = {"properties": {}, "routing_key": "a2", "payload": "x", "payload_encoding": "string"}
        await client.ask("POST", "/api/exchanges/%2F/amq.default/publish", message)

        async def names(query: str) -> list[str]:
            return [row["name"] for row in (await client.ask("GET", f"/api/x/queues?{query}")).json["items"]]

        assert await names("") == ["a1", "a2", "b1"]
        assert await names("offset=1&limit=1") == ["a2"]
        assert await names("name=A") == ["a1", "a2"]
        assert await names("name=1$&use_regex=true") == ["a1", "b1"]
        assert await names("state=stuck") == ["a2"]
        assert await names("sort=messages_ready&sort_reverse=true") == ["a2", "a1", "b1"]
        for wrong in ("sort=nothing", "state=nothing", "offset=-1", "name=(&use_regex=true"):
            assert (await client.ask("GET", f"/api/x/queues?{wrong}")).status == 400
        await client.stream.aclose()


@on_a_jumping_clock
async def test_what_is_wrong_now_is_told() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        assert (await client.ask("GET", "/api/x/problems")).json == {"problems": [], "totals": {}}
        await client.ask("PUT", "/api/queues/%2F/q", {})
        message = {"properties": {}, "routing_key": "q", "payload": "x", "payload_encoding": "string"}
        await client.ask("POST", "/api/exchanges/%2F/amq.default/publish", message)
        found = (await client.ask("GET", "/api/x/problems")).json["problems"]
        assert found == [{"kind": "waiting", "severity": "mild", "vhost": "/", "queue": "q", "count": 1}]
        await client.stream.aclose()


@on_a_jumping_clock
async def test_consumers_that_hang_are_wrong_while_their_queue_grows_and_afterwards() -> None:
    async with managing() as managed:
        managed.management._is_sampling = True  # nobody looks but this test
        managed.broker.virtual_hosts["/"].add_queue("q", durable=True, auto_delete=False, owner=None, table={})
        queue = managed.broker.virtual_hosts["/"].queues["q"]
        client, consumer = await managed.administrator(), await managed.opened()
        methods = (commands.Basic.Qos(prefetch_count=3), commands.Basic.Consume(queue="q"))
        await consumer.send_all(b"".join(frame.marshal(method, 1) for method in methods))

        async def look(come: int) -> list[tuple[str, str, int]]:
            """The problems a second later, when so many messages have come."""
            message = {"properties": {}, "routing_key": "q", "payload": "x", "payload_encoding": "string"}
            for _ in range(come):
                await client.ask("POST", "/api/exchanges/%2F/amq.default/publish", message)
            await trio.sleep(1)
            await managed.management.samples.look()
            problems = (await client.ask("GET", "/api/x/problems")).json["problems"]
            return [(one["kind"], one["severity"], one["count"]) for one in problems]

        await until(lambda: bool(queue.consumers))
        assert await look(come=4) == []
        assert queue.unacknowledged_count == 3
        assert await look(come=1) == [("growing_consumed", "mild", 2)]
        (row,) = (await client.ask("GET", "/api/x/queues")).json["items"]
        assert (row["consumers"], row["in"] > 0, row["out"]) == (1, True, 0)
        sign = {"kind": "growing_consumed", "severity": "mild"}
        assert row["problem"] == sign, "the list says the same"
        assert (await client.ask("GET", "/api/queues/%2F/q")).json["problem"] == sign
        assert await look(come=0) == []
        for _ in range(LATEST_LOOKS - 4):
            assert await look(come=0) == [], "they may be at work"
        assert await look(come=0) == [("unacknowledged", "mild", 3)]
        assert await look(come=1) == [("growing_consumed", "bad", 3)]
        await consumer.send_all(frame.marshal(commands.Basic.Ack(0, multiple=True), 1))
        await until(lambda: queue.ready_count == 0)
        assert await look(come=0) == []
        for stream in (client.stream, consumer):
            await stream.aclose()


@on_a_jumping_clock
async def test_who_keeps_a_delivery_for_too_long_is_told_of_before_its_channel_is_closed() -> None:
    async with managing(consumer_timeout_ms=100_000, consumer_timeout_sweep_ms=1_000_000) as managed:
        managed.broker.virtual_hosts["/"].add_queue("q", durable=True, auto_delete=False, owner=None, table={})
        queue = managed.broker.virtual_hosts["/"].queues["q"]
        client, consumer = await managed.administrator(), await managed.opened()
        await consumer.send_all(frame.marshal(commands.Basic.Consume(queue="q", consumer_tag="slow"), 1))
        message = {"properties": {}, "routing_key": "q", "payload": "x", "payload_encoding": "string"}
        await client.ask("POST", "/api/exchanges/%2F/amq.default/publish", message)
        await until(lambda: queue.unacknowledged_count == 1)
        begun_s, severities = trio.current_time(), []
        for age_s in (40, 60, 95):
            await trio.sleep_until(begun_s + age_s)
            problems = (await client.ask("GET", "/api/x/problems")).json["problems"]
            severities += [(age_s, one["severity"]) for one in problems if one["kind"] == "near_timeout"]
        assert severities == [(60, "mild"), (95, "bad")]
        for tag in ("management", "monitoring"):
            managed.broker.administration.add_user(tag, "secret", (tag,), algorithm="rabbit_password_hashing_sha256")
        managed.broker.administration.set_permission("management", "/", ".*", ".*", ".*")
        # another's connection is not told of, nor what is in a virtual host without permissions
        for user, kinds in (("management", ["unacknowledged"]), ("monitoring", [])):
            seen = (await client.ask("GET", "/api/x/problems", user=f"{user}:secret")).json["problems"]
            assert [one["kind"] for one in seen] == kinds
        (told,) = [one for one in problems if one["kind"] == "near_timeout"]
        assert (told["queue"], told["consumer_tag"], told["timeout_ms"]) == ("q", "slow", 100_000)
        for stream in (client.stream, consumer):
            await stream.aclose()


@on_a_jumping_clock
async def test_what_was_lost_lately_and_what_carries_nothing_is_wrong_too() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        full = {"arguments": {"x-max-length": 1}}
        await client.ask("PUT", "/api/queues/%2F/full", full)
        message = {"properties": {}, "routing_key": "full", "payload": "x", "payload_encoding": "string"}
        for _ in range(3):
            await client.ask("POST", "/api/exchanges/%2F/amq.default/publish", message)
        for name in ("one", "two"):
            policy = {"pattern": "^x", "definition": {"max-length": 9}, "priority": 2}
            await client.ask("PUT", f"/api/policies/%2F/{name}", policy)
        nobody = {"src-uri": "amqp://127.0.0.1:1", "src-queue": "a", "dest-uri": "amqp://", "dest-queue": "b"}
        await client.ask("PUT", "/api/parameters/shovel/%2F/s", {"value": nobody})

        async def found() -> dict[str, dict[str, Any]]:
            problems = (await client.ask("GET", "/api/x/problems")).json["problems"]
            return {problem["kind"]: problem for problem in problems}

        await until(lambda: any(shovel["reason"] for shovel in shovels_of(managed.broker).all()))
        problems = await found()
        assert problems["dropped"] == {
            "kind": "dropped", "severity": "mild", "vhost": "/", "queue": "full", "reason": "maxlen", "count": 2
        }  # fmt: skip
        tie = problems["policies_tie"]
        assert (tie["policy"], tie["other"]) == ("two", "one")
        assert (problems["shovel"]["name"], problems["shovel"]["severity"]) == ("s", "mild")
        assert "cannot be reached" in problems["shovel"]["reason"]
        await client.ask("DELETE", "/api/parameters/shovel/%2F/s")
        assert set(await found()) == {"dropped", "policies_tie", "waiting"}
        await client.stream.aclose()


@on_a_jumping_clock
async def test_what_is_in_a_stream_waits_for_nobody() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        await client.ask("PUT", "/api/queues/%2F/s", {"durable": True, "arguments": {"x-queue-type": "stream"}})
        message = {"properties": {}, "routing_key": "s", "payload": "x", "payload_encoding": "string"}
        await client.ask("POST", "/api/exchanges/%2F/amq.default/publish", message)
        assert (await client.ask("GET", "/api/x/problems")).json["problems"] == []
        assert (await client.ask("GET", "/api/x/queues?state=stuck")).json["items"] == []
        row = (await client.ask("GET", "/api/queues/%2F/s")).json
        wanted = {"type": "stream", "messages": 1, "first_offset": 0, "end_offset": 1}
        assert {name: row[name] for name in wanted} == wanted
        assert row["readers"] == {row["node"]: 0}
        await client.stream.aclose()


@on_a_jumping_clock
async def test_a_queue_tells_when_its_next_message_was_made_and_what_is_on_disk_only() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        await client.ask("PUT", "/api/queues/%2F/q", {})
        for stamp in (1_700_000_000, 1_800_000_000):
            properties = {"timestamp": stamp, "headers": {"a": 1}}
            message = {"properties": properties, "routing_key": "q", "payload": "x", "payload_encoding": "string"}
            await client.ask("POST", "/api/exchanges/%2F/amq.default/publish", message)
        row = (await client.ask("GET", "/api/queues/%2F/q")).json
        assert row["head_message_timestamp"] == 1_700_000_000
        assert (row["messages_ram"], row["messages_paged_out"], row["message_bytes_paged_out"]) == (2, 0, 0)
        await client.stream.aclose()


@on_a_jumping_clock
async def test_the_topology_tells_what_leads_where() -> None:
    async with managing() as managed:
        client = await managed.administrator()
        arguments = {"x-dead-letter-exchange": "amq.fanout"}
        await client.ask("PUT", "/api/queues/%2F/q", {"arguments": arguments})
        await client.ask("POST", "/api/bindings/%2F/e/amq.topic/q/q", {"routing_key": "a.#"})
        graph = (await client.ask("GET", "/api/x/topology?vhost=%2F")).json
        edges = {(edge["from"], edge["to"], edge["kind"]): edge["keys"] for edge in graph["edges"]}
        assert edges == {("e:amq.topic", "q:q", "binding"): ["a.#"], ("q:q", "e:amq.fanout", "dead-letter"): []}
        assert {node["id"] for node in graph["nodes"]} == {"e:amq.topic", "q:q", "e:amq.fanout"}
        assert (await client.ask("GET", "/api/x/topology?vhost=none")).status == 404
        await client.stream.aclose()


@on_a_jumping_clock
async def test_the_log_is_there_from_the_first_look_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with managing() as managed:
        client = await managed.administrator()
        await client.ask("GET", "/api/whoami")
        log_event(logging.INFO, "something happened", who="<b>somebody</b>")
        found = (await client.ask("GET", "/api/x/log?search=SOMEBODY")).json["lines"]
        assert [(line["event"], line["fields"]) for line in found] == [
            ("something happened", {"who": "<b>somebody</b>"})
        ]
        assert not (await client.ask("GET", "/api/x/log?level=error")).json["lines"]
        await client.stream.aclose()
