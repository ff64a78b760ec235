"""What an operator changes while a broker serves, and follows, over the control socket: at once, and until its end."""

from __future__ import annotations

import functools
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec

import pytest
import trio

from amqp_broker.broker.message import digest_of
from amqp_broker.broker.policies import POLICY
from amqp_broker.cli.rabbitmqctl.outcome import Code
from amqp_broker.cli.rabbitmqctl.run import run
from amqp_broker.logs import LOGGER, log_event
from amqp_broker.server import control, event_feed, log_lines
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.control_address import SOCKET_NAME
from amqp_broker.settings import Settings
from amqp_broker.wire.content import Properties, encode_content_header
from interop.stream_client import data_section
from tests.support.stream_client import StreamClient

Arguments = ParamSpec("Arguments")

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets for Python")


def in_real_time(test: Callable[Arguments, Awaitable[None]]) -> Callable[Arguments, None]:
    """Make a test that pytest can call. The tools run in threads, which a clock that jumps would not wait for."""

    @functools.wraps(test)
    def run_it(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        trio.run(functools.partial(test, *args, **kwargs))

    return run_it


@asynccontextmanager
async def operated(folder: Path) -> AsyncIterator[BrokerServer]:
    server = BrokerServer(Settings(host=("127.0.0.1",), port=0, data_dir=str(folder)))
    server.control_folder = folder
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        await trio.testing.wait_all_tasks_blocked()
        yield server
        server.shut_down()


async def called(folder: Path, tool: str, *arguments: str) -> int:
    """The exit code of a call of one of RabbitMQ's tools, beside which the broker serves."""
    return await trio.to_thread.run_sync(run, tool, [*arguments, "--data-dir", str(folder)])


class Line:
    """What is sent over the control socket, and what comes back, line by line."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._received = b""

    async def ask(self, command: str, **arguments: Any) -> None:
        await self.stream.send_all(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")

    async def answer(self) -> dict[str, Any]:
        while b"\n" not in self._received:
            self._received += await self.stream.receive_some()
        line, _, self._received = self._received.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    async def item(self) -> dict[str, Any]:
        """The first that comes."""
        while not (items := (await self.answer())["items"]):
            pass
        first: dict[str, Any] = items[0]
        return first


@asynccontextmanager
async def line_to(folder: Path) -> AsyncIterator[Line]:
    async with await trio.open_unix_socket(str(folder / SOCKET_NAME)) as stream:
        yield Line(stream)


@in_real_time
async def test_a_limit_on_memory_counts_at_once(tmp_path: Path) -> None:
    async with operated(tmp_path) as server:
        alarms = server.broker.alarms
        for words, raised in ((["0"], ["memory"]), (["absolute", "1000GiB"], []), (["0.00000001"], ["memory"])):
            news = trio.Event()
            alarms.listen(news.set)
            assert await called(tmp_path, "rabbitmqctl", "set_vm_memory_high_watermark", *words) == Code.OK
            await news.wait()
            assert alarms.raised == raised
            budget_bytes = min(server.settings.memory_budget_bytes, server.limits.memory_high_water_bytes * 2 // 3)
            assert server.broker.paging.budget_bytes == budget_bytes // 2
        assert server.limits.memory_high_water_bytes == int(server.memory.size_bytes * 1e-8)


@in_real_time
async def test_limits_on_the_disk_are_told_in_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with operated(tmp_path) as server:
        assert await called(tmp_path, "rabbitmqctl", "set_disk_free_limit", "3MB") == Code.OK
        assert server.limits.disk_free_limit_bytes == 3_000_000
        assert await called(tmp_path, "rabbitmqctl", "set_disk_free_limit", "mem_relative", "1.5") == Code.OK
        assert server.limits.disk_free_limit_bytes == int(server.memory.size_bytes * 1.5)
        capsys.readouterr()
        await called(tmp_path, "rabbitmqctl", "status", "--formatter", "json")
        assert json.loads(capsys.readouterr().out)["disk_free_limit"] == server.limits.disk_free_limit_bytes


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["set_vm_memory_high_watermark"], Code.USAGE),
        (["set_vm_memory_high_watermark", "1.5"], Code.DATA),
        (["set_vm_memory_high_watermark", "half"], Code.DATA),
        (["set_vm_memory_high_watermark", "absolute"], Code.USAGE),
        (["set_vm_memory_high_watermark", "absolute", "5XB"], Code.DATA),
        (["set_vm_memory_high_watermark", "0.5", "0.6"], Code.USAGE),
        (["set_disk_free_limit", "much"], Code.DATA),
        (["set_disk_free_limit", "mem_relative", "x"], Code.DATA),
        (["set_log_level", "loud"], Code.UNAVAILABLE),
    ],
)
def test_what_is_no_limit_is_told_before_anybody_is_asked(arguments: list[str], code: Code, tmp_path: Path) -> None:
    assert run("rabbitmqctl", [*arguments, "--data-dir", str(tmp_path)]) == code


@in_real_time
async def test_nobody_comes_in_while_listeners_are_suspended(tmp_path: Path) -> None:
    async with operated(tmp_path) as server:
        (endpoint,) = server.endpoints
        before = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
        for _ in range(2):  # once more changes nothing
            assert await called(tmp_path, "rabbitmqctl", "suspend_listeners") == Code.OK
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", endpoint.port)
        assert server.endpoints == []
        for _ in range(2):
            assert await called(tmp_path, "rabbitmqctl", "resume_listeners") == Code.OK
        after = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
        assert server.endpoints == [endpoint]
        for stream in (before, after):  # both are heard
            await stream.send_all(b"AMQP\x00\x00\x09\x01")
            assert await stream.receive_some(1)
            await stream.aclose()


@in_real_time
async def test_an_address_that_somebody_else_has_taken_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with operated(tmp_path) as server:
        (endpoint,) = server.endpoints
        await called(tmp_path, "rabbitmqctl", "suspend_listeners")
        with socket.create_server(("127.0.0.1", endpoint.port)):
            assert await called(tmp_path, "rabbitmqctl", "resume_listeners") == Code.UNAVAILABLE
        assert f"cannot listen on 127.0.0.1:{endpoint.port} again" in capsys.readouterr().err
        assert await called(tmp_path, "rabbitmqctl", "resume_listeners") == Code.OK
        await (await trio.open_tcp_stream("127.0.0.1", endpoint.port)).aclose()


# What each prints of these, RabbitMQ 3.10.8 prints, too, or 4.0.5 where they differ.
ABOUT_QUEUES = """\
0 queues quorum_status qq --formatter json | "Raft State":"leader","Membership":"voter","Last Log Index":
69 queues quorum_status cq | Cannot get quorum status of a classic queue
65 queues quorum_status none | Object (queue, stream, exchange, etc) was not found
65 queues delete_member none x@y | queue 'none' was not found in virtual host '/'
0 queues peek qq 1 --formatter json | "routing_keys":["qq"],"exchange":"","payload (max 64 bytes)":"hello","header.k":1}
0 queues peek qq 1 | payload (max 64 bytes) │ hello
69 queues peek qq 2 | Target queue does not have a message at that position
69 queues peek none 1 | Target queue was not found in virtual host '/'
64 queues peek qq 0 | "position value must be a positive integer"
0 queues add_member qq rabbit@localhost | Adding a replica for queue qq on node rabbit@localhost...
69 queues add_member qq x@y | node_not_running
69 queues delete_member qq rabbit@localhost | last_node
0 queues grow x@y even | Growing even quorum queues on x@y...
64 queues grow x@y odd | "strategy 'odd' is not recognised."
0 queues shrink x@y | Shrinking quorum queues on x@y...
0 queues rebalance all --formatter json | ["Number of quorum queues",1],["Number of streams",1]]]}
69 queues rebalance classic | type classic is not supported. Try one of all, quorum, stream.
69 queues reclaim_quorum_memory cq | This operation is not applicable to classic queues
0 streams stream_status st --formatter json | "role":"writer","node":"rabbit@localhost","epoch":1,"offset":
0 streams list_stream_publishers --formatter json | "stream":"st","reference":"w","messages_published":1,
0 streams list_stream_consumers --formatter json | {"subscription_id":3,"stream":"st","messages_consumed":
0 streams list_stream_consumers -V | 127.0.0.1:50000 -> 127.0.0.1:5552
0 streams list_stream_consumer_groups --formatter json | "reference":"g","partition_index":-1,"consumers":1}
0 streams list_stream_group_consumers --stream st --reference g | active
0 streams list_stream_tracking st --offset --formatter json | {"type":"offset","name":"r","tracking_value":0}
0 streams list_stream_tracking st --writer --formatter json | {"type":"writer","name":"w","tracking_value":7}
64 streams list_stream_consumers none | Info key(s) none are not supported
64 streams list_stream_group_consumers --stream st | not enough arguments.
69 streams list_stream_group_consumers --stream st --reference none | The group does not exist
69 streams list_stream_tracking none | The stream does not exist.
64 streams list_stream_tracking st --all --writer | Specify only one of --all, --offset, --writer.
69 streams stream_status cq | Cannot get stream status of a classic queue
0 streams add_super_stream a --max-age PT1H --max-length-bytes 1gb | Super stream a has been created
70 streams add_super_stream a | there is already an exchange named a
70 streams delete_super_stream b | stream_not_found
0 streams list_stream_connections conn_name user | Listing stream connections ...
0 upgrade await_online_quorum_plus_one -t 3 | the command does not apply
64 streams add_super_stream b --max-age soon | Invalid value for --max-age, the value must
64 streams add_super_stream b --max-length-bytes x | valid example values: 100gb, 50mb
64 streams add_super_stream b --leader-locator x | Invalid value for --leader-locator, valid values are client-local
64 streams add_super_stream b --partitions x | Invalid options for this command:
69 plugins is_enabled x | Plugin x is not enabled on node rabbit@localhost. Enabled plugins and dependencies: rabbitmq_
0 diagnostics quorum_status qq | leader
0 diagnostics log_tail -N 0 --formatter json | [
0 diagnostics server_version --formatter json | {"result":"ok","value":"3.13
0 ctl enable_feature_flag stream_queue | Enabling feature flag "stream_queue" ...
64 ctl enable_feature_flag none | This feature flag is not supported by node rabbit@localhost
64 ctl list_feature_flags none | Info key(s) none are not supported
64 ctl status --unit stone | Please use one of: bytes, mb, gb
0 ctl status --unit mb | 50 mb
65 ctl list_vhost_limits -p none | Virtual host 'none' does not exist
0 ctl restart_vhost | Vhost '/' is already running on node 'rabbit@localhost'
70 ctl restart_vhost -p none | Failed to start vhost 'none'
70 ctl await_online_nodes 2 -t 1 | Will wait for at least 2 nodes
69 ctl wait --pid 999999999 -t 1 | process_not_running
"""


@in_real_time
async def test_queues_and_streams_are_told_as_by_rabbitmq(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with operated(tmp_path) as server:
        host = server.broker.virtual_hosts["/"]
        for name, kind in (("cq", "classic"), ("qq", "quorum"), ("st", "stream")):
            table = {"x-queue-type": kind}
            server.broker.handle(
                lambda name=name, table=table: host.add_queue(  # type: ignore[misc]
                    name, durable=True, auto_delete=False, owner=None, table=table
                )
            )
        streams = StreamClient(server.broker)
        streams.declare_publisher(1, "st", "w")
        streams.publish(1, {7: data_section(b"m")})
        streams.subscribe(3, "st", properties={"single-active-consumer": "true", "name": "g"})
        streams.store_offset("r", "st", 0)
        header = encode_content_header(5, Properties(headers={"k": 1}))
        exchange = host.exchange("")
        server.broker.handle(lambda: host.ingress.publish(exchange, "qq", header, b"hello", digest_of(header)))
        for line in ABOUT_QUEUES.splitlines():
            call, _, said = line.partition(" | ")
            code, tool, *words = call.split()
            assert (line, await called(tmp_path, f"rabbitmq{'' if tool == 'ctl' else '-'}{tool}", *words)) == (
                line,
                int(code),
            )
            printed = capsys.readouterr()
            assert said in printed.out + printed.err, line


@in_real_time
async def test_the_log_is_shown_and_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_lines, "LOOK_EVERY_S", 0.01)
    async with operated(tmp_path):
        for number in range(3):
            log_event(logging.ERROR, "something", number=number)
        assert await called(tmp_path, "rabbitmq-diagnostics", "-q", "log_tail", "-N", "2") == Code.OK
        assert [line.rpartition(" ")[2] for line in capsys.readouterr().out.splitlines()] == ["number=1", "number=2"]
        assert await called(tmp_path, "rabbitmq-diagnostics", "log_tail_stream", "-d", "0") == Code.OK
        async with line_to(tmp_path) as line:
            await line.ask("log.show", count=1, follow=True)
            assert "number=2" in (await line.item())["line"]
            log_event(logging.ERROR, "something", number=3)
            assert "number=3" in (await line.item())["line"]


@in_real_time
async def test_events_are_followed_though_there_is_no_event_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_feed, "LOOK_EVERY_S", 0.01)
    async with operated(tmp_path) as server:
        before = server.broker.observers._observers
        async with line_to(tmp_path) as line:
            await line.ask("events.follow")
            assert await line.answer() == {"items": []}
            parameters = server.broker.administration.on_behalf_of("ada").parameters
            server.broker.handle(
                lambda: parameters.set_policy("/", "p", {"pattern": "^q", "definition": {"expires": 5}}, POLICY)
            )
            event = await line.item()
            assert event.pop("timestamp_in_ms") > 0
            assert event == {
                "event": "policy.set", "name": "p", "vhost": "/", "pattern": "^q", "definition": {"expires": 5},
                "apply-to": "all", "priority": 0, "user_who_performed_action": "ada",
            }  # fmt: skip
        while server.broker.observers._observers != before:  # until it is noticed that nobody follows
            await trio.lowlevel.checkpoint()


def test_events_that_nobody_takes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "WAITING_MAX", 2)
    feed = event_feed.EventFeed(BrokerServer(Settings()).broker)
    for name in ("a", "b", "c"):
        feed.tell("user.created", {"name": name}, "")
    taken = feed.take()
    assert taken[0] == {"event": "events.lost", "count": 1}
    assert [event.get("name") for event in taken[1:]] == ["b", "c"]
    assert feed.take() == []


@in_real_time
async def test_places_are_left_for_those_who_only_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "FOLLOWERS_MAX", 1)
    async with operated(tmp_path), line_to(tmp_path) as first, line_to(tmp_path) as second:
        await first.ask("events.follow")
        await first.answer()
        await second.ask("events.follow")
        assert "already: end one of them" in (await second.answer())["error"]
        await second.ask("status")
        assert "result" in await second.answer()


@in_real_time
async def test_the_level_of_the_log_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with operated(tmp_path):
        before = LOGGER.level
        try:
            assert await called(tmp_path, "rabbitmqctl", "set_log_level", "critical") == Code.OK
            assert LOGGER.level == logging.ERROR
            assert await called(tmp_path, "rabbitmqctl", "set_log_level", "none") == Code.OK
            assert not LOGGER.isEnabledFor(logging.CRITICAL)
        finally:
            LOGGER.setLevel(before)


@in_real_time
async def test_a_server_that_ends_leaves_the_lines_of_its_node_as_they_are(tmp_path: Path) -> None:
    lines = log_lines.LogLines()
    lines.attach()
    try:
        async with operated(tmp_path) as server:
            server.log_lines = lines
        log_event(logging.WARNING, "what comes after it")
        assert lines.lines[-1][1].getMessage() == "what comes after it"
    finally:
        lines.detach()
