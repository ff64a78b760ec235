"""Which clients are given up because they take nothing; the limits on what one client may have."""

from __future__ import annotations

from pamqp import commands

from amqp_broker.server.stalled import StallWatch
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker

TIMEOUT_MS = 1000


def test_who_takes_nothing_of_what_waits_is_found(broker: MemoryBroker) -> None:
    slow, idle, stuck = (Client(broker).open().connection for _ in range(3))
    watch = StallWatch()
    slow.output.send(b"x" * 100)
    stuck.output.send(b"x" * 100)
    everybody = [slow, idle, stuck]
    assert watch.look(everybody, 0, TIMEOUT_MS) == []
    slow.output_sent(1)
    assert watch.look(everybody, 900, TIMEOUT_MS) == []
    assert watch.look(everybody, 1000, TIMEOUT_MS) == [stuck]
    assert watch.look([slow, idle], 1899, TIMEOUT_MS) == []
    assert watch.look([slow, idle], 1900, TIMEOUT_MS) == [slow]


def test_what_is_taken_meanwhile_counts_from_then(broker: MemoryBroker) -> None:
    connection = Client(broker).open().connection
    watch = StallWatch()
    connection.output.send(b"x")
    watch.look([connection], 0, TIMEOUT_MS)
    connection.take_output()
    connection.output_sent(1)
    watch.look([connection], 500, TIMEOUT_MS)
    connection.output.send(b"x")
    assert watch.look([connection], 1400, TIMEOUT_MS) == []
    assert watch.look([connection], 1500, TIMEOUT_MS) == [connection]


def test_limit_of_queues() -> None:
    broker = MemoryBroker(queues_max=1)
    channel = Client(broker).open().channel()
    channel.declare("one")
    channel.declare("one")
    channel.send(commands.Queue.Declare(queue="two"))
    text = "PRECONDITION_FAILED - cannot declare queue 'two': queue limit in cluster (1) is reached"
    assert channel.one(commands.Channel.Close).reply_text == text


def test_limit_of_bindings() -> None:
    broker = MemoryBroker(bindings_max=1)
    channel = Client(broker).open().channel()
    channel.declare("q")
    channel.bind("q", "amq.direct", "1")
    channel.bind("q", "amq.direct", "1")
    channel.send(commands.Queue.Bind(queue="q", exchange="amq.direct", routing_key="2"))
    text = "PRECONDITION_FAILED - cannot bind: binding limit in vhost '/' (1) is reached"
    assert channel.one(commands.Channel.Close).reply_text == text


def test_limit_of_consumers() -> None:
    broker = MemoryBroker(consumers_per_channel_max=1)
    client = Client(broker).open()
    channel = client.channel()
    channel.declare("q")
    channel.consume("q")
    channel.send(commands.Basic.Consume(queue="q"))
    assert client.closed_with().reply_text == "NOT_ALLOWED - reached maximum (1) of consumers per channel"


def test_limit_of_unacknowledged_deliveries() -> None:
    broker = MemoryBroker(unacknowledged_per_channel_max=3)
    channel = Client(broker).open().channel()
    channel.declare("q")
    for number in range(6):
        channel.publish("", "q", b"%d" % number)
    assert channel.get("q")
    channel.consume("q", "t")
    assert [delivery.body for delivery in channel.deliveries()] == [b"1", b"2"]
    channel.send(commands.Basic.Ack(2))
    assert [delivery.body for delivery in channel.deliveries()] == [b"3"]
    channel.send(commands.Basic.Ack(1))  # what basic.get took counts as well
    assert [delivery.body for delivery in channel.deliveries()] == [b"4"]
    channel.send(commands.Basic.Ack(0, True))
    assert [delivery.body for delivery in channel.deliveries()] == [b"5"]


def test_what_a_transaction_has_acknowledged_counts_until_the_commit() -> None:
    broker = MemoryBroker(unacknowledged_per_channel_max=2)
    channel = Client(broker).open().channel()
    channel.declare("q")
    for number in range(6):
        channel.publish("", "q", b"%d" % number)
    channel.call(commands.Tx.Select())
    assert channel.get("q")
    assert channel.get("q")
    channel.ack(2, multiple=True)
    channel.qos(10)
    channel.consume("q", "t")
    assert channel.deliveries() == []
    channel.call(commands.Tx.Rollback())
    assert channel.deliveries() == []
    channel.ack(2, multiple=True)
    channel.send(commands.Tx.Commit())
    committed, *deliveries = channel.received()
    committed.expect(commands.Tx.CommitOk)
    assert [delivery.body for delivery in deliveries] == [b"2", b"3"]
    broker.check_invariants()
    channel.send(commands.Basic.Ack(4, True), commands.Basic.Get(queue="q"))
    assert channel.closed_with().reply_code == 406


def test_more_than_may_be_unacknowledged_cannot_be_got() -> None:
    broker = MemoryBroker(unacknowledged_per_channel_max=1)
    channel = Client(broker).open().channel()
    channel.declare("q")
    channel.publish("", "q", b"1")
    channel.publish("", "q", b"2")
    assert channel.get("q")
    channel.send(commands.Basic.Get(queue="q"))
    text = "PRECONDITION_FAILED - reached maximum (1) of unacknowledged deliveries per channel"
    assert channel.one(commands.Channel.Close).reply_text == text
