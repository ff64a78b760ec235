"""What is counted, where, and that no total shrinks when something ends."""

from __future__ import annotations

from functools import partial

from pamqp import commands

from amqp_broker.broker.counters import AMQP091, AMQP10, MQTT, STOMP, STREAM, Churn, Death, QueueSums
from amqp_broker.broker.inspection import counts_by_protocol, counts_of_broker, counts_of_virtual_host
from amqp_broker.protocols.mqtt.packets import PacketType
from tests.support.amqp10_client import Amqp10Client, message
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker
from tests.support.mqtt_client import MqttClient
from tests.support.stomp_client import StompClient
from tests.support.stream_client import StreamClient


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


def test_the_bytes_that_clients_hold_are_those_of_what_is_unacknowledged(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("q")
    queue = broker.queue("q")
    for size_bytes in (1, 10, 100, 1_000, 10_000):
        channel.publish("", "q", b"x" * size_bytes)
    channel.consume("q")
    held = [queue.unacknowledged_bytes]
    for settle in (partial(channel.ack, 1), partial(channel.reject, 2, requeue=False), partial(channel.nack, 3)):
        settle()
        held.append(queue.unacknowledged_bytes)
    assert held == [11_111, 11_110, 11_100, 11_100], "what was put back has gone out again"
    channel.client.connection.lost("it went away")
    assert (queue.unacknowledged_bytes, queue.ready_bytes) == (0, 11_100)


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
    assert broker.queue("short").counts.deaths() == {("maxlen", False): 1}
    assert broker.queue("q").counts.deaths() == {("rejected", True): 1, ("expired", True): 1}
    assert broker.queue("dead").counts.published == 2
    assert broker.queue("dead").counts.deaths() == {}


def test_a_virtual_host_that_is_deleted_still_counts(broker: MemoryBroker) -> None:
    broker.administration.add_virtual_host("v")
    broker.administration.set_permission("guest", "v", ".*", ".*", ".*")
    channel = Client(broker).open(virtual_host="v").channel()
    channel.publish("", "nowhere", b"x")
    broker.handle(lambda: broker.administration.delete_virtual_host("v"))
    assert counted(counts_of_broker(broker).stats()) == {"publish": 1, "drop_unroutable": 1}


# --- by protocol, and by the type of queues


def test_what_is_published_and_delivered_is_counted_by_protocol_and_type_of_queue(broker: MemoryBroker) -> None:
    sizes = broker.message_sizes
    assert not sizes.are_counted, "nobody has asked"
    assert sizes.of(AMQP091).totals() == [0] * 9
    old = Client(broker).open()
    channel = old.channel()
    channel.declare("q", durable=True)
    channel.declare("quorum", {"x-queue-type": "quorum"}, durable=True)
    channel.publish("", "quorum", b"x")
    channel.consume("quorum")
    channel.ack(1)
    new = Amqp10Client(broker)
    new.open()
    new.begin()
    new.sender("/queues/q")
    new.transfer(message(b"x"))
    new.receiver("/queues/q", credit=1)
    new.settle(0)
    device = MqttClient(broker, "device", level=5)
    device.connect()
    device.subscribe("t", qos=1)
    device.publish("t", b"x", qos=1)
    device.acknowledge(PacketType.PUBACK, device.messages()[0].packet_id)
    stomp = StompClient(broker)
    stomp.connect()
    stomp.send("SEND", b"x", destination="/amq/queue/q")
    stomp.send("SUBSCRIBE", id="0", destination="/amq/queue/q")
    stream = StreamClient(broker)
    stream.create("s")
    stream.declare_publisher(1, "s")
    stream.publish(1, {0: b"x"})
    stream.subscribe(1, "s")

    published = {AMQP091: 1, AMQP10: 1, MQTT[5]: 1, STOMP: 1, STREAM: 1}
    settled, sent = {"deliver": 1, "deliver_get": 1, "ack": 1}, {"deliver_no_ack": 1, "deliver_get": 1}
    deliveries = {
        (AMQP091, "quorum"): settled,
        (AMQP10, "classic"): settled,
        (MQTT[5], "classic"): settled,
        (STOMP, "classic"): sent,
        (STREAM, "stream"): sent,
    }
    assert publishes(broker) == published
    assert {name: sizes.of(name).totals()[0] for name in published} == published | {STREAM: 0}
    assert delivered(broker) == deliveries
    assert counted(broker.queue("q").counts.stats()) == {
        "publish": 2, "deliver": 1, "deliver_no_ack": 1, "deliver_get": 2, "ack": 1,
    }  # fmt: skip

    for client in (old.connection, new.connection, device.connection, stomp.connection, stream.connection):
        client.lost("it went away")
    for queue in list(broker.virtual_host.queues.values()):
        broker.handle(partial(broker.virtual_host.remove_queue, queue))
    assert publishes(broker) == published
    assert delivered(broker) == deliveries


def publishes(broker: MemoryBroker) -> dict[str, int]:
    return {protocol: counts.published for protocol, counts in counts_by_protocol(broker).items()}


def delivered(broker: MemoryBroker) -> dict[tuple[str, str], dict[str, int]]:
    """What clients got, of all queues that there have been."""
    sums = broker.counts_of_deleted_queues.copy()
    for queue in broker.virtual_host.queues.values():
        sums.add(queue.declared.queue_type, queue.counts)
    found = {key: counted(counts.stats() | {"publish": 0}) for key, counts in sums.deliveries.items()}
    return {key: counts for key, counts in found.items() if counts}


def test_dead_letters_of_queues_that_are_deleted_still_count(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("short", {"x-max-length": 1, "x-dead-letter-exchange": ""})
    channel.publish("", "short", b"x")
    channel.publish("", "short", b"x")
    channel.call(commands.Queue.Delete(queue="short"))
    assert broker.counts_of_deleted_queues.deaths == {Death("maxlen", "classic", has_exchange=True): 1}


def test_dead_letters_count_by_what_the_queue_named_when_they_died(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("short", {"x-max-length": 1})
    for _ in range(3):
        channel.publish("", "short", b"x")
    rule: dict[str, object] = {
        "pattern": ".*",
        "definition": {"dead-letter-exchange": "amq.fanout"},
        "apply-to": "queues",
    }
    broker.handle(lambda: broker.administration.parameters.set_policy("/", "p", rule))
    channel.publish("", "short", b"x")
    sums = QueueSums()
    sums.add("classic", broker.queue("short").counts)
    assert sums.deaths == {
        Death("maxlen", "classic", has_exchange=False): 2,
        Death("maxlen", "classic", has_exchange=True): 1,
    }


def numbers(churn: Churn) -> tuple[int, int, int, int, int]:
    """Channels opened and closed, queues declared, created and deleted."""
    queues = (churn.queues_declared, churn.queues_created, churn.queues_deleted)
    return (churn.channels_opened, churn.channels_closed, *queues)


def test_queues_come_and_go_and_each_declaration_is_counted_as_rabbitmq_does(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    channel = client.channel()
    channel.declare("q")
    assert numbers(broker.churn) == (1, 0, 1, 1, 0)
    channel.declare("q")
    channel.declare("q", passive=True)
    assert numbers(broker.churn) == (1, 0, 2, 1, 0), "one that was there is not new, and a passive one declares nothing"
    channel.send(commands.Queue.Declare(queue="q", auto_delete=True))
    assert channel.closed_with().reply_code == 406
    assert numbers(broker.churn) == (1, 1, 3, 1, 0), "what is refused was asked for"

    channel = client.channel(2)
    channel.declare("mine", exclusive=True)
    channel.declare("used", auto_delete=True)
    channel.call(commands.Basic.Cancel(channel.consume("used")))
    channel.declare("short", {"x-expires": 10})
    broker.advance(20)
    assert numbers(broker.churn) == (2, 1, 6, 4, 2), "unused and expired"
    channel.call(commands.Queue.Delete(queue="q"))
    channel.call(commands.Queue.Delete(queue="q"))
    assert numbers(broker.churn) == (2, 1, 6, 4, 3), "only one was there to be deleted"
    client.connection.lost("it went away")
    assert numbers(broker.churn) == (2, 2, 6, 4, 4)


def test_the_channels_of_every_protocol_come_and_go(broker: MemoryBroker) -> None:
    client = Client(broker).open()
    client.channel(1).call(commands.Channel.Close(0, "", 0, 0))
    client.channel(1)
    assert numbers(broker.churn)[:2] == (2, 1)
    client.connection.lost("it went away")
    assert numbers(broker.churn)[:2] == (2, 2)

    modern, device, stomp, stream = Amqp10Client(broker), MqttClient(broker), StompClient(broker), StreamClient(broker)
    modern.open()
    modern.begin()
    modern.begin(1)
    device.connect()
    stomp.connect()
    assert numbers(broker.churn)[:2] == (7, 2)
    for gone in (modern.connection, device.connection, stomp.connection, stream.connection):
        gone.lost("it went away")
    assert numbers(broker.churn)[:2] == (7, 7)
