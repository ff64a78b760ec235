"""What is counted, where, and that no total shrinks when something ends."""

from __future__ import annotations

from pamqp import commands

from amqp_broker.broker.inspection import counts_of_broker, counts_of_virtual_host
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker


def counted(stats: dict[str, int]) -> dict[str, int]:
    """What is not nothing."""
    return {name: count for name, count in stats.items() if count}


def in_all(broker: MemoryBroker) -> dict[str, int]:
    """What was counted in the broker, which has one virtual host."""
    everywhere = counted(counts_of_broker(broker).stats())
    assert everywhere == counted(counts_of_virtual_host(broker, broker.virtual_host).stats())
    return everywhere


def test_publishes_are_counted_by_what_became_of_them(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.exchange("x", "fanout")
    for name in ("one", "two"):
        channel.declare(name)
        channel.bind(name, "x")
    channel.call(commands.Confirm.Select())
    for _ in range(3):
        channel.publish("x", "", b"routed")
    channel.publish("", "nowhere", b"dropped")
    channel.send(commands.Basic.Publish(exchange="", routing_key="nowhere", mandatory=True))
    channel.client.connection.lost("in the middle of a publish, which does not count")
    assert in_all(broker) == {"publish": 4, "confirm": 4, "drop_unroutable": 1}
    exchanges = broker.virtual_host.exchanges
    assert (exchanges["x"].published_in, exchanges["x"].published_out) == (3, 6)
    assert (exchanges[""].published_in, exchanges[""].published_out) == (1, 0)
    assert counted(broker.queue("one").counts.stats()) == {"publish": 3}


def test_what_goes_out_and_what_clients_say_of_it(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    channel = client.channel()
    channel.declare("q")
    for _ in range(6):
        channel.publish("", "q", b"x")
    channel.get("q")
    channel.get("q", no_ack=True)
    channel.nack(1)
    tag = channel.consume("q")
    channel.ack(3)
    channel.ack(5, multiple=True)
    channel.reject(6, requeue=False)
    channel.reject(7)
    channel.call(commands.Basic.Cancel(tag))
    channel.received()
    channel.get("q")
    channel.get("q")
    expected = {
        "publish": 6,
        "deliver": 6,
        "get": 1,
        "get_no_ack": 1,
        "deliver_get": 8,
        "get_empty": 2,
        "redeliver": 2,
        "ack": 3,
        "reject": 1,
        "requeue": 2,
    }
    assert counted(broker.queue("q").counts.stats()) == expected
    assert in_all(broker) == expected
    channel.call(commands.Channel.Close(200, "", 0, 0))
    assert in_all(broker) == expected
    assert counted(client.connection.counts_of_ended.stats()) == expected
    client.connection.lost("it went away")
    assert in_all(broker) == expected


def test_deliveries_without_acknowledgement(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("q")
    channel.consume("q", no_ack=True)
    channel.publish("", "q", b"x")
    assert in_all(broker) == {"publish": 1, "deliver_no_ack": 1, "deliver_get": 1}
    assert counted(broker.queue("q").counts.stats()) == {"publish": 1, "deliver_no_ack": 1, "deliver_get": 1}


def test_a_transaction_counts_when_it_is_committed(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("q")
    channel.call(commands.Tx.Select())
    channel.publish("", "q", b"x")
    assert in_all(broker) == {}
    assert broker.virtual_host.exchanges[""].published_in == 0
    channel.call(commands.Tx.Commit())
    assert in_all(broker) == {"publish": 1}
    assert broker.virtual_host.exchanges[""].published_out == 1


def test_deaths_are_counted_by_their_reason(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("dead")
    channel.declare("short", {"x-max-length": 1})
    channel.declare("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-message-ttl": 10})
    for name in ("short", "short", "q", "q"):
        channel.publish("", name, b"x")
    channel.get("q")
    channel.reject(1, requeue=False)
    broker.advance(10)
    assert broker.queue("short").counts.deaths() == {"maxlen": 1}
    assert broker.queue("q").counts.deaths() == {"rejected": 1, "expired": 1}
    assert broker.queue("dead").counts.published == 2
    assert broker.queue("dead").counts.deaths() == {}


def test_a_virtual_host_that_is_deleted_still_counts(broker: MemoryBroker) -> None:
    broker.administration.add_virtual_host("v")
    broker.administration.set_permission("guest", "v", ".*", ".*", ".*")
    channel = Client(broker).open(virtual_host="v").channel()
    channel.publish("", "nowhere", b"x")
    broker.handle(lambda: broker.administration.delete_virtual_host("v"))
    assert counted(counts_of_broker(broker).stats()) == {"publish": 1, "drop_unroutable": 1}
