"""What goes with something that is deleted: however much it is, at once for everybody, and in slices for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pamqp import commands

from amqp_broker.broker.observer import Kind, Onlooker, Subject
from amqp_broker.broker.topology import BINDING_EFFORT, QUEUE_EFFORT
from tests.support.client import Client, ClientChannel
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker

CHAIN = 2_000  # far beyond what a call for each exchange would survive


SLICE = 2 * QUEUE_EFFORT
LARGER_SLICE = 10 * QUEUE_EFFORT


@pytest.fixture
def broker() -> MemoryBroker:
    """A broker with small slices."""
    broker = MemoryBroker()
    broker.works.slice_messages = SLICE
    return broker


@pytest.fixture
def disk() -> DiskBroker:
    """A broker with a journal, and small slices."""
    disk = DiskBroker()
    disk.works.slice_messages = SLICE
    return disk


@pytest.fixture
def chain(broker: MemoryBroker) -> Iterator[ClientChannel]:
    """A channel beside a chain of auto-delete exchanges, each bound to the one before it."""
    client = Client(broker).open()
    channel = client.channel()
    for number in range(CHAIN):
        channel.exchange(f"x{number}", "fanout", auto_delete=True)
        if number:
            channel.send(commands.Exchange.Bind(destination=f"x{number}", source=f"x{number - 1}", nowait=True))
    yield channel
    assert [name for name in broker.virtual_host.exchanges if name.startswith("x")] == []
    assert client.is_finished() or channel.declare("alive")


END = f"x{CHAIN - 1}"


def test_a_chain_goes_with_the_queue_at_its_end(chain: ClientChannel) -> None:
    chain.declare("q")
    chain.bind("q", END)
    chain.call(commands.Queue.Delete(queue="q"))


def test_a_chain_goes_with_its_last_binding(chain: ClientChannel) -> None:
    chain.declare("q")
    chain.bind("q", END)
    chain.call(commands.Queue.Unbind(queue="q", exchange=END))


def test_a_chain_goes_with_the_exchange_at_its_end(chain: ClientChannel) -> None:
    chain.call(commands.Exchange.Delete(exchange=END))


def test_a_chain_goes_with_the_owner_of_an_exclusive_queue(broker: MemoryBroker, chain: ClientChannel) -> None:
    owner = Client(broker).open()
    own = owner.channel()
    own.declare("q", exclusive=True)
    own.bind("q", END)
    owner.send(commands.Connection.Close(200, "", 0, 0))


def test_a_chain_goes_with_an_expired_queue(broker: MemoryBroker, chain: ClientChannel) -> None:
    chain.declare("q", {"x-expires": 10})
    chain.bind("q", END)
    broker.advance(20)


def test_a_chain_goes_with_the_last_consumer(chain: ClientChannel) -> None:
    chain.declare("q", auto_delete=True)
    chain.bind("q", END)
    chain.call(commands.Basic.Cancel(consumer_tag=chain.consume("q")))


def test_a_ring_of_auto_delete_exchanges_is_opened(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    for name in ("a", "b", "c"):
        channel.exchange(name, "fanout", auto_delete=True)
    for source, destination in (("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")):
        channel.call(commands.Exchange.Bind(destination=destination, source=source))
    channel.call(commands.Exchange.Delete(exchange="b"))
    assert {"a", "c"} <= set(broker.virtual_host.exchanges), "from both there are bindings left"
    channel.call(commands.Exchange.Delete(exchange="a"))
    assert not {"a", "b", "c"} & set(broker.virtual_host.exchanges)


# --- in slices


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
def test_bindings_are_gone_for_everybody_before_the_last_slice(broker: MemoryBroker, kind: str) -> None:
    channel = Client(broker).open().channel()
    channel.exchange("x", kind, {"alternate-exchange": "amq.fanout"})
    channel.declare("instead")
    channel.bind("instead", "amq.fanout")
    channel.declare("q")
    for number in range(9):
        channel.bind("q", "x", "k", {"x-number": number})
    channel.publish("x", "k", b"before")
    with broker.holding_works():
        channel.call(commands.Queue.Delete(queue="q"))
        assert broker.is_unfinished
        assert len(broker.virtual_host.exchange("x").bindings) == 0
        channel.publish("x", "k", b"between")
        channel.declare("q")
        channel.bind("q", "x", "k", {"x-number": 3})
        channel.publish("x", "k", b"after")
    channel.publish("x", "k", b"in the end")
    assert channel.drain("instead") == [b"between"]
    assert channel.drain("q") == [b"after", b"in the end"]


def test_exclusive_queues_are_gone_for_everybody_before_the_last_slice(broker: MemoryBroker) -> None:
    owner, other = Client(broker).open(), Client(broker).open().channel()
    own = owner.channel()
    for number in range(9):
        own.declare(f"q{number}", exclusive=True)
        own.bind(f"q{number}", "amq.fanout")
    own.publish("amq.fanout", "", b"x")
    with broker.holding_works():
        owner.send(commands.Connection.Close(200, "", 0, 0))
        assert broker.is_unfinished
        assert not broker.virtual_host.queues
        other.publish("amq.fanout", "", b"to nobody")
        other.declare("q3")
    assert list(broker.virtual_host.queues) == ["q3"]
    assert other.message_count("q3") == 0


def test_a_crash_between_the_slices_brings_no_binding_back(disk: DiskBroker) -> None:
    channel = disk.client().channel()
    channel.exchange("x", "direct", durable=True)
    channel.declare("q", durable=True)
    for number in range(9):
        channel.bind("q", "x", f"{number}")
    with disk.holding_works():
        channel.call(commands.Queue.Delete(queue="q"))
        channel.declare("q", durable=True)
        channel.bind("q", "x", "new")
        disk.write()
        again = disk.without_power()
    exchange = again.virtual_host.exchange("x")
    assert [binding.routing_key for binding in exchange.bindings.values()] == ["new"]
    again.check_invariants()


def test_a_crash_between_the_slices_brings_no_virtual_host_back(disk: DiskBroker) -> None:
    virtual_host = disk.administration.add_virtual_host("orders")
    disk.administration.set_permission("guest", "orders", ".*", ".*", ".*")
    channel = Client(disk).open(virtual_host="orders").channel()
    channel.exchange("x", "direct", durable=True)
    for number in range(9):
        channel.declare(f"q{number}", durable=True)
        channel.bind(f"q{number}", "x")
        channel.publish("", f"q{number}", b"m", delivery_mode=2)
    channel.consume("q8")
    with disk.holding_works():
        disk.administration.delete_virtual_host("orders")
        assert disk.is_unfinished
        assert not virtual_host.queues
        disk.write()
        again = disk.without_power()
    assert "orders" not in again.virtual_hosts
    disk.check_invariants()


class Effort(Onlooker):
    """Counts what is taken down."""

    def __init__(self) -> None:
        self.count = 0

    def deleted(self, subject: Subject, by: str) -> None:
        if subject.kind is Kind.BINDING:
            self.count += 1


def largest_slice(broker: MemoryBroker, effort: Effort, take_down: Callable[[], object]) -> int:
    """How many bindings were forgotten at most in one go, of those that the others have to wait for."""
    broker.goes_on = False
    take_down()
    largest, before = effort.count, effort.count
    while broker.is_unfinished:
        broker.go_on()
        largest, before = max(largest, effort.count - before), effort.count
    return largest


@pytest.mark.parametrize(("queues", "bindings"), [(1, 200), (20, 39)])
def test_no_slice_is_larger_than_a_slice(broker: MemoryBroker, queues: int, bindings: int) -> None:
    broker.works.slice_messages = LARGER_SLICE
    effort = Effort()
    broker.observers.add(effort)
    owner = Client(broker).open()
    channel = owner.channel()
    for queue in range(queues):
        channel.declare(f"q{queue}", exclusive=True)
        for number in range(bindings):
            channel.bind(f"q{queue}", "amq.topic", f"{queue}.{number}.#")
    largest = largest_slice(broker, effort, lambda: owner.send(commands.Connection.Close(200, "", 0, 0)))
    assert effort.count == queues * bindings
    assert largest <= 2 * LARGER_SLICE // BINDING_EFFORT, "the last queue of a slice may have a slice of its own"


def test_the_messages_of_queues_count_as_well(broker: MemoryBroker) -> None:
    owner = Client(broker).open()
    channel = owner.channel()
    for queue in range(6):
        channel.declare(f"q{queue}", exclusive=True)
        for _ in range(SLICE):
            channel.publish("", f"q{queue}", b"")
    queues = list(broker.virtual_host.queues.values())
    broker.goes_on = False
    owner.send(commands.Connection.Close(200, "", 0, 0))
    slices = 0
    while broker.is_unfinished:
        slices += 1
        closed = [queue for queue in queues if not queue.ready_count]
        assert len(closed) <= slices
        broker.go_on()
