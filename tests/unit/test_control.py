"""The control socket from within: long lists come in pieces, and others have their turn between them."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from amqp_broker.broker.inspection import SLICE_OBJECTS
from amqp_broker.cli import control
from amqp_broker.cli.queue_details import show
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.control_address import SOCKET_NAME
from amqp_broker.settings import Settings
from amqp_broker.wire.table import Table
from tests.unit.in_trio import in_trio

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets for Python")

QUEUES = 3 * SLICE_OBJECTS + 1


async def asked(stream: trio.SocketStream, command: str, **arguments: object) -> list[dict[str, Any]]:
    """Every line of the answer."""
    await stream.send_all(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
    received = b""
    while True:
        received += await stream.receive_some()
        answers = [json.loads(line) for line in received.splitlines() if received.endswith(b"\n")]
        if answers and not answers[-1].get("items"):
            return answers


@in_trio
async def test_a_long_list_comes_in_pieces(tmp_path: Path) -> None:
    server = BrokerServer(Settings(host=("127.0.0.1",), port=0))
    server.control_folder = tmp_path
    virtual_host = server.broker.virtual_hosts["/"]
    for number in range(QUEUES):
        virtual_host.add_queue(f"q{number}", durable=False, auto_delete=False, owner=None, table={})
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        await trio.testing.wait_all_tasks_blocked()
        async with await trio.open_unix_socket(str(tmp_path / SOCKET_NAME)) as stream:
            answers = await asked(stream, "queues.list")
            assert [len(answer.get("items", ())) for answer in answers] == [*3 * [SLICE_OBJECTS], 1, 0]
            assert answers[-1] == {"result": None}
            names = [queue["name"] for answer in answers[:-1] for queue in answer["items"]]
            assert names == list(virtual_host.queues)
            (answer,) = await asked(stream, "status")
            assert answer["result"]["counts"]["queues"] == QUEUES
            (answer,) = await asked(stream, "queues.purge", vhost="/", name=5)
            assert answer == {"error": "the request was not understood: name must be a text"}
        server.shut_down()


@in_trio
async def test_a_queue_is_shown_with_its_consumers_and_what_leads_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = BrokerServer(Settings(host=("127.0.0.1",), port=0))
    server.control_folder = tmp_path
    host = server.broker.virtual_hosts["/"]
    table: Table = {"x-queue-type": "stream"}
    queue = host.add_queue("s", durable=True, auto_delete=False, owner=None, table=table)
    host.add_queue("other", durable=True, auto_delete=False, owner=None, table={})
    host.add_binding(host.exchanges["amq.topic"], queue, "a.#", {})
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        await trio.testing.wait_all_tasks_blocked()
        async with await trio.open_unix_socket(str(tmp_path / SOCKET_NAME)) as stream:
            (answer,) = await asked(stream, "queues.show", vhost="/", name="s")
            (refused,) = await asked(stream, "queues.show", vhost="/", name="none")
        server.shut_down()
    seen = answer["result"]
    assert [binding["routing_key"] for binding in seen["bindings"]] == ["a.#"]
    assert (seen["first_offset"], seen["end_offset"], seen["consumer_details"]) == (0, 0, [])
    assert refused["error"] == "there is no queue 'none' in virtual host '/'"
    monkeypatch.setattr(control, "ask", lambda *_, **__: seen)
    show("s")
    shown = capsys.readouterr().out
    assert "type           stream, durable\n" in shown
    assert "offsets        from 0 on, the next is 0\n" in shown
    assert "bound to   key  arguments\namq.topic  a.#  -\n" in shown
