"""Traces to files: what is written, how much of it, when they end; by HTTP, and into which folder."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import trio
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from amqp_broker.broker import file_traces
from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.server.trace_writer import trace_file, trace_files
from tests.support.client import Client, ClientChannel
from tests.support.managed import managing
from tests.support.memory_broker import MemoryBroker, MemoryDriver
from tests.support.served import on_a_jumping_clock, until


class TracingDriver(MemoryDriver):
    """The driver of a broker whose traces somebody writes."""

    def writes_traces(self) -> bool:
        return True


class TracedBroker(MemoryBroker):
    """A broker whose traces somebody writes."""

    driver_type = TracingDriver


@pytest.fixture
def broker() -> MemoryBroker:
    return TracedBroker(node_name="node")


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    channel = Client(broker).open().channel()
    channel.declare("q")
    return channel


def add(broker: MemoryBroker, name: str = "t", **asked: Any) -> None:
    asked = {"format": "json", "pattern": "#", **asked}
    broker.file_traces.add(broker.virtual_host, name, asked, "a test")


def written(broker: MemoryBroker) -> dict[str, bytes]:
    return {name: data for name, data, _ in broker.file_traces.take()}


def test_lines_of_json(broker: MemoryBroker, channel: ClientChannel) -> None:
    add(broker)
    channel.publish("", "q", b"\xffbody", message_id="m", headers={"a": {"b": 1}})
    channel.get("q", no_ack=True)
    lines = [json.loads(line) for line in written(broker)["t.log"].splitlines()]
    published, received = lines
    assert published.pop("connection") == received.pop("connection")
    common = {
        "node": "node",
        "vhost": "/",
        "user": "guest",
        "channel": 1,
        "exchange": "",
        "routing_keys": ["q"],
        "properties": {"message_id": "m", "headers": {"a": {"b": 1}}},
        "payload": "/2JvZHk=",
    }
    assert published.pop("timestamp") == received.pop("timestamp")
    assert published == {**common, "type": "published", "queue": "none", "routed_queues": ["q"]}
    assert received == {**common, "type": "received", "queue": "q", "routed_queues": "none"}


def test_blocks_of_text(broker: MemoryBroker, channel: ClientChannel) -> None:
    add(broker, format="text", max_payload_bytes=3)
    channel.publish("", "q", b"hello", priority=2)
    channel.get("q", no_ack=True)
    first, second = written(broker)["t.log"].split(b"=" * 80 + b"\n")[1:]
    lines = first.decode().splitlines()
    assert lines[0].endswith(": Message published")
    assert lines[2] == "Node:         node"
    assert lines[4:] == [
        "Virtual host: /",
        "User:         guest",
        "Channel:      1",
        "Exchange:     ",
        'Routing keys: [<<"q">>]',
        'Routed queues: [<<"q">>]',
        'Properties:   [{<<"priority">>,long,2}]',
        "Payload: ",
        "hel",
        "",
    ]
    assert b"Queue:        q\n" in second


def test_a_pattern_says_what_is_written(broker: MemoryBroker, channel: ClientChannel) -> None:
    add(broker, "delivered", pattern="deliver.*")
    add(broker, "topic", pattern="publish.amq.#")
    channel.publish("", "q", b"1")
    channel.publish("amq.topic", "k", b"2")
    channel.get("q", no_ack=True)
    found = written(broker)
    assert {name: len(data.splitlines()) for name, data in found.items()} == {"delivered.log": 1, "topic.log": 1}
    rows = {trace.name: trace.describe()["written"] for trace in broker.file_traces.all()}
    assert rows == {"delivered": 1, "topic": 1}


def test_the_firehose_is_on_as_long_as_there_are_traces(broker: MemoryBroker, channel: ClientChannel) -> None:
    assert not broker.observers.present
    add(broker, "one")
    add(broker, "two")
    broker.file_traces.remove("/", "one", "a test")
    assert broker.firehose.is_on("/")
    broker.file_traces.remove("/", "two", "a test")
    assert not broker.firehose.is_on("/")
    assert not broker.observers.present
    channel.publish("", "q", b"1")
    assert written(broker) == {}
    with pytest.raises(NotThere, match="there is no trace 'two' in virtual host '/'"):
        broker.file_traces.remove("/", "two", "a test")


def test_what_nobody_takes_is_bounded(
    broker: MemoryBroker, channel: ClientChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_traces, "PENDING_BYTES_MAX", 5000)
    add(broker)
    for _ in range(3):
        channel.publish("", "q", b"b" * 3000)
    (trace,) = broker.file_traces.all()
    assert (trace.written_count, trace.left_out_count) == (1, 2)
    assert len(written(broker)["t.log"].splitlines()) == 1
    channel.publish("", "q", b"b" * 3000)
    assert len(written(broker)["t.log"].splitlines()) == 1


def test_it_goes_with_its_virtual_host(broker: MemoryBroker) -> None:
    host = broker.administration.add_virtual_host("v")
    broker.file_traces.add(host, "t", {"format": "json", "pattern": "#"}, "a test")
    with pytest.raises(AdministrationError, match="virtual host 'v' has a trace 't'"):
        add(broker, "t")
    broker.handle(lambda: broker.administration.delete_virtual_host("v"))
    assert broker.file_traces.all() == []
    add(broker, "t")


@pytest.mark.parametrize(
    ("name", "asked", "text"),
    [
        ("../t", {}, "a trace cannot be named '../t'"),
        (".t", {}, "begins with no dot"),
        ("a/b", {}, "letters of ASCII"),
        ("", {}, "1 to 100"),
        ("t", {"format": "xml"}, "format not json or text"),
        ("t", {"pattern": 5}, "pattern must be a text: # for all"),
        ("t", {"max_payload_bytes": "x"}, "max_payload_bytes not integer"),
        ("t", {"max_file_bytes": 0}, "max_file_bytes must be a number from 1 to"),
    ],
)
def test_bad_traces(broker: MemoryBroker, name: str, asked: dict[str, Any], text: str) -> None:
    with pytest.raises(AdministrationError, match=text):
        add(broker, name, **asked)
    assert not broker.firehose.is_on("/")


def test_a_broker_without_a_folder_has_none() -> None:
    broker = MemoryBroker()
    with pytest.raises(AdministrationError, match="start the broker with a data folder"):
        add(broker)


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    assert trace_files(folder) == []
    folder.mkdir()
    (tmp_path / "secret.log").write_text("x")
    (folder / "t.log").write_text("abc")
    (folder / "other").write_text("x")
    assert trace_files(folder) == [{"name": "t.log", "size": 3}]
    assert trace_file(folder, "t.log") == folder / "t.log"
    for name in ("../secret.log", "..", "other", "", "nothing.log", str(tmp_path / "secret.log")):
        assert trace_file(folder, name) is None


async def publish(stream: trio.abc.Stream, body: bytes) -> None:
    method = commands.Basic.Publish(exchange="amq.topic", routing_key="k")
    content = frame.marshal(ContentHeader(0, len(body)), 1) + frame.marshal(ContentBody(body), 1)
    await stream.send_all(frame.marshal(method, 1) + content)


@on_a_jumping_clock
async def test_files_are_written_put_aside_and_served(tmp_path: Path) -> None:
    async with managing(tmp_path) as managed, await managed.opened() as publisher:
        client = await managed.administrator()
        value = {"format": "json", "pattern": "#", "max_file_bytes": 1000}
        assert (await client.ask("PUT", "/api/traces/%2F/t", value)).status == 201
        (shown,) = (await client.ask("GET", "/api/traces")).json
        assert (shown["vhost"], shown["name"], shown["format"], shown["pattern"]) == ("/", "t", "json", "#")
        path = tmp_path / "traces" / "t.log"
        for body in (b"1" * 600, b"2" * 600):
            before = managed.broker.file_traces.get("/", "t").written_count
            await publish(publisher, body)
            await until(lambda before=before: managed.broker.file_traces.get("/", "t").written_count > before)  # type: ignore[misc]
            await until(lambda body=body: path.exists() and b64encode(body) in path.read_bytes())  # type: ignore[misc]
        names = [file["name"] for file in (await client.ask("GET", "/api/trace-files")).json]
        assert names == ["t.log", "t.log.1"]
        for name, body in (("t.log", b"2" * 600), ("t.log.1", b"1" * 600)):
            assert b64encode(body) in (await client.ask("GET", f"/api/trace-files/{name}")).body
        assert (await client.ask("GET", "/api/trace-files/..%2Fcontrol.sock")).status == 404
        assert (await client.ask("DELETE", "/api/trace-files/t.log.1")).status == 204
        assert (await client.ask("DELETE", "/api/traces/%2F/t")).status == 204
        assert (await client.ask("GET", "/api/traces/%2F/t")).status == 404
        assert (await client.ask("GET", "/api/traces/node/here/%2F")).json == []
        assert [file.name for file in path.parent.iterdir()] == ["t.log"]
        await client.stream.aclose()


@on_a_jumping_clock
async def test_bad_traces_by_http(tmp_path: Path) -> None:
    for body, reason in (
        ({"pattern": "#"}, "[{key_missing,format}]"),
        ({"format": "json"}, "[{key_missing,pattern}]"),
        ({"format": "xml", "pattern": "#"}, "format not json or text"),
        ({"format": "json", "pattern": "#", "max_payload_bytes": "x"}, "max_payload_bytes not integer"),
    ):
        async with managing(tmp_path) as managed:
            client = await managed.administrator()
            refused = await client.ask("PUT", "/api/traces/%2F/t", body)
            assert (refused.status, refused.json["reason"]) == (400, reason)
            await client.stream.aclose()


@on_a_jumping_clock
async def test_what_is_left_at_the_end_is_written(tmp_path: Path) -> None:
    async with managing(tmp_path) as managed, await managed.opened() as publisher:
        traces = managed.broker.file_traces
        traces.add(managed.broker.virtual_hosts["/"], "t", {"format": "json", "pattern": "#"}, "a test")
        managed.server._driver.trace_lines = None  # nobody is woken
        await publish(publisher, b"1")
        await until(lambda: traces.get("/", "t").written_count == 1)
    assert b64encode(b"1") in (tmp_path / "traces" / "t.log").read_bytes()
