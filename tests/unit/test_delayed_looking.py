"""What exchanges hold back, looked at, cancelled, let go now: without a disk, with it, and by the control socket."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from pamqp import commands

from amqp_broker.broker.delayed.acting import DelayedActInfo, DelayedActing, DelayedAction
from amqp_broker.broker.delayed.holder import Holder
from amqp_broker.broker.delayed.looking import DelayedInfo, DelayedLook
from amqp_broker.broker.message import digest_of
from amqp_broker.broker.message_filter import ANY_MESSAGE, MessageFilter, make_filter
from amqp_broker.broker.moving import Selection
from amqp_broker.broker.peeking import Steps
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


def walk(broker: MemoryBroker, steps: Steps) -> None:
    """Go to the end of a walk, as the server does."""
    references = broker.handle(partial(next_step, steps, None))
    while references is not None:
        references = broker.handle(partial(next_step, steps, broker.durability.read(references)))


def look(broker: MemoryBroker, looking: DelayedLook) -> DelayedInfo:
    walk(broker, looking.steps())
    return looking.seen()


def act(
    broker: MemoryBroker,
    holder: Holder,
    action: DelayedAction,
    wanted: MessageFilter = ANY_MESSAGE,
    *,
    ids: list[str] | None = None,
    limit: int | None = None,
    dry_run: bool = False,
) -> DelayedActInfo:
    """Cancel what ids name or a filter finds, or let it go now."""
    selection = Selection(wanted, None if ids is None else frozenset(ids), limit)
    acting = DelayedActing(holder, action, selection, dry_run=dry_run)
    walk(broker, acting.steps())
    return acting.progress()


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
    wanted = make_filter(routing_key="k.0")
    would = act(broker, holder, DelayedAction.CANCEL, wanted, dry_run=True)
    assert (would["found"], would["done"], holder.ready_count) == (5, 5, 10)
    info = act(broker, holder, DelayedAction.CANCEL, wanted)
    assert info == {**would, "dry_run": False}
    assert holder.ready_count == 5
    if isinstance(broker, DiskBroker):
        broker = broker.killed()
        channel = broker.client().channel()
    broker.advance(HOUR_MS)
    assert [json.loads(body)["number"] for body in channel.drain("q")] == [9, 7, 5, 3, 1]


def test_what_is_cancelled_by_its_id_nobody_gets(broker: MemoryBroker, channel: ClientChannel, holder: Holder) -> None:
    ids = [message["id"] for message in look(broker, DelayedLook(holder))["messages"]]
    broker.advance(HOUR_MS - 1000)  # some are read from the disk by now
    info = act(broker, holder, DelayedAction.CANCEL, ids=[ids[0], ids[9], "999999999"])
    assert (info["found"], info["done"]) == (2, 2)
    broker.advance(1000)
    assert [json.loads(body)["number"] for body in channel.drain("q")] == [8, 7, 6, 5, 4, 3, 2, 1]


def delivered(channel: ClientChannel) -> list[int]:
    """The numbers of what has come out."""
    return [json.loads(body)["number"] for body in channel.drain("q")]


def test_what_is_let_go_comes_at_once_in_its_order_and_once(
    broker: MemoryBroker, channel: ClientChannel, holder: Holder
) -> None:
    would = act(broker, holder, DelayedAction.DELIVER, make_filter(routing_key="k.1"), dry_run=True)
    assert (would["done"], delivered(channel)) == (5, [])
    assert act(broker, holder, DelayedAction.DELIVER, make_filter(routing_key="k.1"))["done"] == 5
    broker.advance(0)
    assert delivered(channel) == [9, 7, 5, 3, 1]
    assert holder.ready_count == 5
    if isinstance(broker, DiskBroker):
        broker = broker.killed()
        channel = broker.client().channel()
    broker.advance(HOUR_MS)
    assert delivered(channel) == [8, 6, 4, 2, 0]


def test_what_is_let_go_by_its_id_overtakes_what_is_due_before(
    broker: MemoryBroker, channel: ClientChannel, holder: Holder
) -> None:
    last = look(broker, DelayedLook(holder))["messages"][9]["id"]
    assert act(broker, holder, DelayedAction.DELIVER, ids=[last])["done"] == 1
    broker.advance(0)
    assert delivered(channel) == [0]


def test_a_limit_is_that_of_what_is_due_first(broker: MemoryBroker, channel: ClientChannel, holder: Holder) -> None:
    assert act(broker, holder, DelayedAction.DELIVER, limit=2)["done"] == 2
    broker.advance(0)
    assert act(broker, holder, DelayedAction.CANCEL, make_filter(routing_key="k.0"), limit=1)["done"] == 1
    broker.advance(HOUR_MS)
    assert delivered(channel) == [9, 8, 7, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("action", [None, DelayedAction.CANCEL])
def test_others_have_their_turn_between_large_messages_of_which_few_are_read_at_once(
    broker: MemoryBroker, channel: ClientChannel, holder: Holder, action: DelayedAction | None
) -> None:
    for number in range(40):
        channel.publish("x", "large", bytes(300_000), headers={"x-delay": 2 * HOUR_MS + number})
    wanted = make_filter(text="nothing of that kind")
    work = (
        DelayedLook(holder, wanted)
        if action is None
        else DelayedActing(holder, action, Selection(wanted), dry_run=False)
    )
    steps, turns, most_read = work.steps(), 0, 0
    references = next(steps)
    with suppress(StopIteration):
        while True:
            turns += 1
            most_read = max(most_read, len(references))
            references = steps.send(broker.durability.read(references))
    assert turns >= 40
    assert most_read <= 16


def test_who_says_not_which_cancels_nothing(broker: MemoryBroker, holder: Holder) -> None:
    with pytest.raises(AdministrationError, match="say which: name ids, a filter or a limit"):
        act(broker, holder, DelayedAction.CANCEL)
    assert act(broker, holder, DelayedAction.CANCEL, ids=[])["done"] == 0
    assert holder.ready_count == 10


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
        act(broker, holder, DelayedAction.CANCEL, ids=[third])
    broker.advance(10)
    assert channel.drain("q") == [b"0", b"1", b"3", b"4"]


@pytest.mark.parametrize("after", ["x", "5", "-", "5-x", "5-" + "9" * 60])
def test_a_place_that_no_look_ended_with_is_refused(holder: Holder, after: str) -> None:
    with pytest.raises(AdministrationError, match="a look goes on after"):
        DelayedLook(holder, after=after)


@pytest.mark.parametrize("action", DelayedAction)
def test_of_those_that_ids_name_only_what_the_filter_finds(
    broker: MemoryBroker, holder: Holder, action: DelayedAction
) -> None:
    ids = [message["id"] for message in look(broker, DelayedLook(holder))["messages"]]
    done = act(broker, holder, action, make_filter(routing_key="k.0"), ids=ids)
    assert (done["looked_at"], done["found"], done["done"]) == (10, 5, 5)
    none = act(broker, holder, action, make_filter(routing_key="nobody's"), ids=ids)
    assert (none["found"], none["done"]) == (0, 0)


def test_an_id_that_is_none_is_refused_and_nothing_is_cancelled(broker: MemoryBroker, holder: Holder) -> None:
    ids = [message["id"] for message in look(broker, DelayedLook(holder))["messages"]]
    with pytest.raises(AdministrationError, match="'m3' is no id"):
        act(broker, holder, DelayedAction.CANCEL, ids=[*ids, "m3"])
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

            seen = (await ask("delayed.look", filter={"routing_key": "k*"}))["result"]
            assert [message["routing_key"] for message in seen["messages"]] == ["k0", "k1", "k2"]
            assert "say which" in (await ask("delayed.cancel"))["error"]
            assert (await ask("delayed.cancel", ids=[seen["messages"][1]["id"]]))["result"]["done"] == 1
            assert (await ask("delayed.cancel", filter={"routing_key": "k0"}))["result"]["done"] == 1
            assert (await ask("delayed.deliver", filter={"routing_key": "k2"}, dry_run=True))["result"]["done"] == 1
            assert (await ask("delayed.look"))["result"]["held"] == 1
            assert (await ask("delayed.deliver", filter={"routing_key": "k2"}))["result"]["done"] == 1
            assert (await ask("delayed.look"))["result"]["held"] == 0
            assert "there is no exchange 'y'" in (await ask("delayed.look", exchange="y"))["error"]
            assert "does not hold messages back" in (await ask("delayed.look", exchange="amq.topic"))["error"]
            colour = {"properties": {"colour": "red"}}
            assert "there is no property 'colour'" in (await ask("delayed.look", filter=colour))["error"]
            assert "limit is a whole number" in (await ask("delayed.look", limit="five"))["error"]
            assert "unknown command" in (await ask("delayed.paint"))["error"]
        server.shut_down()
