"""What exchanges hold back, looked at and cancelled: without a disk, with it, and by the control socket."""

from __future__ import annotations

import json
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from pamqp import commands

from amqp_broker.broker.delayed.holder import Holder
from amqp_broker.broker.delayed.looking import DelayedInfo, DelayedLook, cancel_by_id
from amqp_broker.broker.message import digest_of
from amqp_broker.broker.message_filter import make_filter
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.control_address import SOCKET_NAME
from amqp_broker.server.walks import next_step
from amqp_broker.settings import Settings
from amqp_broker.wire.content import Properties, encode_content_header
from tests.support.client import Client, ClientChannel
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker
from tests.unit.in_trio import in_trio

HOUR_MS = 3_600_000


@pytest.fixture(params=[MemoryBroker, DiskBroker], ids=["memory", "disk"])
def broker(request: pytest.FixtureRequest) -> MemoryBroker:
    """A broker without a disk, and one with it."""
    made = request.param()
    assert isinstance(made, MemoryBroker)
    return made


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    """A channel beside a delayed exchange that holds ten messages, the last of them due first."""
    channel = Client(broker).open().channel()
    channel.exchange("x", "x-delayed-message", {"x-delayed-type": "fanout"}, durable=True)
    channel.declare("q", durable=True)
    channel.bind("q", "x")
    for number in range(10):
        headers = {"x-delay": HOUR_MS - number, "number": number}
        channel.publish("x", f"k.{number % 2}", b'{"number": %d}' % number, headers=headers, message_id=f"m{number}")
    return channel


@pytest.fixture
def holder(broker: MemoryBroker, channel: ClientChannel) -> Holder:
    """What the exchange holds."""
    found = broker.virtual_host.exchange("x").holder
    assert isinstance(found, Holder)
    return found


def look(broker: MemoryBroker, looking: DelayedLook) -> DelayedInfo:
    """Go to the end of a look, as the server does."""
    steps = looking.steps()
    references = broker.handle(partial(next_step, steps, None))
    while references is not None:
        references = broker.handle(partial(next_step, steps, broker.durability.read(references)))
    return looking.seen()


def numbers(seen: DelayedInfo) -> list[int]:
    return [json.loads(message["payload"])["number"] for message in seen["messages"]]


def test_what_is_due_next_comes_first_and_a_look_goes_on_where_another_ended(
    broker: MemoryBroker, holder: Holder
) -> None:
    first = look(broker, DelayedLook(holder, limit=4))
    assert numbers(first) == [9, 8, 7, 6]
    assert first["held"] == 10
    message = first["messages"][0]
    assert message["due_in_ms"] == HOUR_MS - 9
    assert message["due"] == broker.clock.wall_ms() + HOUR_MS - 9
    assert (message["exchange"], message["routing_key"]) == ("x", "k.1")
    assert message["properties"] == {"headers": {"x-delay": 9 - HOUR_MS, "number": 9}, "message_id": "m9"}
    assert first["next"] is not None
    second = look(broker, DelayedLook(holder, limit=10, after=first["next"]))
    assert numbers(second) == [5, 4, 3, 2, 1, 0]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"routing_key": "k.0"}, [8, 6, 4, 2, 0]),
        ({"headers": {"number": "3"}}, [3]),
        ({"properties": {"message_id": "m7"}}, [7]),
        ({"json_values": {"number": "5"}, "routing_key": "k.*"}, [5]),
        ({"text": '"number": 2'}, [2]),
        ({"text": "nothing of that kind"}, []),
    ],
)
def test_what_a_filter_finds(broker: MemoryBroker, holder: Holder, wanted: Any, found: list[int]) -> None:
    seen = look(broker, DelayedLook(holder, make_filter(**wanted)))
    assert numbers(seen) == found
    assert seen["looked_at"] == 10


def test_what_is_cancelled_by_a_filter_nobody_gets(
    broker: MemoryBroker, channel: ClientChannel, holder: Holder
) -> None:
    seen = look(broker, DelayedLook(holder, make_filter(routing_key="k.0"), cancels=True))
    assert numbers(seen) == [8, 6, 4, 2, 0]
    assert holder.ready_count == 5
    if isinstance(broker, DiskBroker):
        broker = broker.killed()
        channel = broker.client().channel()
    broker.advance(HOUR_MS)
    assert [json.loads(body)["number"] for body in channel.drain("q")] == [9, 7, 5, 3, 1]


def test_what_is_cancelled_by_its_id_nobody_gets(broker: MemoryBroker, channel: ClientChannel, holder: Holder) -> None:
    ids = [message["id"] for message in look(broker, DelayedLook(holder))["messages"]]
    broker.advance(HOUR_MS - 1000)  # some are read from the disk by now
    assert broker.handle(lambda: cancel_by_id(holder, [ids[0], ids[9], "999999999"])) == [ids[0], ids[9]]
    broker.advance(1000)
    assert [json.loads(body)["number"] for body in channel.drain("q")] == [8, 7, 6, 5, 4, 3, 2, 1]


def test_what_is_cancelled_while_it_is_read_is_not_missed_by_the_others() -> None:
    broker = DiskBroker()
    channel = Client(broker).open().channel()
    channel.exchange("x", "x-delayed-message", {"x-delayed-type": "fanout"}, durable=True)
    channel.declare("q", durable=True)
    channel.bind("q", "x")
    for number in range(5):
        channel.publish("x", "", b"%d" % number, headers={"x-delay": HOUR_MS + number})
    holder = broker.virtual_host.exchange("x").holder
    assert isinstance(holder, Holder)
    third = look(broker, DelayedLook(holder))["messages"][2]["id"]
    with broker.holding_reads():
        broker.advance(HOUR_MS)
        assert channel.message_count("q") == 0
        broker.handle(lambda: cancel_by_id(holder, [third]))
    broker.advance(10)
    assert channel.drain("q") == [b"0", b"1", b"3", b"4"]


@pytest.mark.parametrize("after", ["x", "5", "-", "5-x", "5-" + "9" * 60])
def test_a_place_that_no_look_ended_with_is_refused(holder: Holder, after: str) -> None:
    with pytest.raises(AdministrationError, match="a look goes on after"):
        DelayedLook(holder, after=after)


def test_an_id_that_is_none_is_refused_and_nothing_is_cancelled(broker: MemoryBroker, holder: Holder) -> None:
    ids = [message["id"] for message in look(broker, DelayedLook(holder))["messages"]]
    with pytest.raises(AdministrationError, match="'m3' is no id"):
        cancel_by_id(holder, [*ids, "m3"])
    assert holder.ready_count == 10


def test_a_virtual_hosts_end_while_somebody_looks(broker: MemoryBroker, channel: ClientChannel, holder: Holder) -> None:
    looking = DelayedLook(holder)
    steps = looking.steps()
    references = next(steps)
    channel.call(commands.Exchange.Delete(exchange="x"))
    with pytest.raises(StopIteration):
        steps.send(broker.durability.read(references))
    assert looking.seen()["messages"] == []


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets for Python")
@in_trio
async def test_it_is_asked_for_on_the_control_socket(tmp_path: Path) -> None:
    server = BrokerServer(Settings(host=("127.0.0.1",), port=0))
    server.control_folder = tmp_path
    host = server.broker.virtual_hosts["/"]
    table: dict[str, Any] = {"x-delayed-type": "fanout"}
    exchange = host.add_exchange(
        "x", "x-delayed-message", durable=False, auto_delete=False, internal=False, table=table
    )
    assert exchange.holder is not None
    header = encode_content_header(0, Properties(headers={"x-delay": HOUR_MS}))
    for number in range(3):
        host.ingress.publish(exchange, f"k{number}", header, b"", digest_of(header))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        await trio.testing.wait_all_tasks_blocked()
        async with await trio.open_unix_socket(str(tmp_path / SOCKET_NAME)) as stream:

            async def ask(command: str, **arguments: object) -> Any:
                asked = {"command": command, "arguments": {"vhost": "/", "exchange": "x", **arguments}}
                await stream.send_all(json.dumps(asked).encode() + b"\n")
                received = b""
                while not received.endswith(b"\n"):
                    received += await stream.receive_some()
                return json.loads(received)

            seen = (await ask("delayed.look", routing_key="k*"))["result"]
            assert [message["routing_key"] for message in seen["messages"]] == ["k0", "k1", "k2"]
            assert "by ids or by what to look for" in (await ask("delayed.cancel"))["error"]
            cancelled = (await ask("delayed.cancel", ids=[seen["messages"][1]["id"]]))["result"]["cancelled"]
            assert cancelled == [seen["messages"][1]["id"]]
            assert len((await ask("delayed.cancel", routing_key="k0"))["result"]["cancelled"]) == 1
            assert (await ask("delayed.look"))["result"]["held"] == 1
            assert "there is no exchange 'y'" in (await ask("delayed.look", exchange="y"))["error"]
            assert "does not hold messages back" in (await ask("delayed.look", exchange="amq.topic"))["error"]
            assert "there is no property 'colour'" in (await ask("delayed.look", properties={"colour": "red"}))["error"]
            assert "limit must be a number" in (await ask("delayed.look", limit="5"))["error"]
            assert "unknown command" in (await ask("delayed.paint"))["error"]
        server.shut_down()
