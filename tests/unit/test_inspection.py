"""The picture for those who look in: it says what is there, can be written as JSON, and is told in slices."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice

import pytest
from pamqp import commands
from pamqp.common import FieldTable

from amqp_broker.access.client import Peer, Tls
from amqp_broker.broker.inspection import Inspection, default_binding
from amqp_broker.broker.json_values import json_ready
from amqp_broker.broker.problems import NotThere
from amqp_broker.wire import table
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker


@pytest.fixture
def inspection(broker: MemoryBroker) -> Inspection:
    return Inspection(broker)


def last(steps: Iterator[object]) -> object:
    """What the last step has told."""
    return [*steps][-1]


def test_a_queue_with_its_messages_and_consumers(broker: MemoryBroker, inspection: Inspection) -> None:
    channel = Client(broker).open().channel()
    arguments: FieldTable = {"x-max-length": 10, "x-single-active-consumer": True}
    channel.declare("q", durable=True, arguments=arguments)
    for _ in range(3):
        channel.publish("", "q", b"four")
    channel.qos(2)
    channel.consume("q", "first")
    channel.consume("q", "second")
    (queue,) = inspection.queues()
    stats = queue.pop("message_stats")  # type: ignore[misc]
    assert isinstance(stats, dict)
    assert (stats["publish"], stats["deliver"], stats["ack"]) == (3, 2, 0)
    assert queue == {
        "name": "q",
        "vhost": "/",
        "type": "classic",
        "has_replicas": False,
        "durable": True,
        "auto_delete": False,
        "exclusive": False,
        "arguments": arguments,
        "policy": None,
        "operator_policy": None,
        "effective_policy_definition": {},
        "state": "running",
        "consumers": 2,
        "single_active_consumer_tag": "first",
        "messages": 3,
        "messages_ready": 1,
        "messages_unacknowledged": 2,
        "message_bytes_ready": 4,
        "message_bytes_unacknowledged": 8,
    }
    first, second = inspection.consumers("/")
    assert (first["consumer_tag"], first["activity_status"]) == ("first", "single_active")
    assert first["messages_unacknowledged"] == 2
    assert (second["consumer_tag"], second["activity_status"], second["active"]) == ("second", "waiting", False)
    assert first["channel"] == next(inspection.channels())
    assert first["channel"]["messages_unacknowledged"] == 2
    assert first["channel"]["prefetch_count"] == 2


def test_a_connection_with_its_ends_its_client_and_tls(broker: MemoryBroker, inspection: Inspection) -> None:
    peer = Peer("::1", 50000, True, our_host="::1", our_port=5671, tls=Tls("TLSv1.3", "AES"))
    client = Client(broker, peer=peer).open(properties={"connection_name": "shop", "product": "pika"})
    channel = client.channel()
    channel.send(commands.Confirm.Select())
    broker.clock.advance(1)
    (connection,) = inspection.connections()
    assert json.loads(json.dumps(connection)) == connection
    assert connection["name"] == "[::1]:50000 -> [::1]:5671"
    assert (connection["user_provided_name"], connection["client_properties"]["product"]) == ("shop", "pika")
    assert (connection["user"], connection["vhost"], connection["auth_mechanism"]) == ("guest", "/", "PLAIN")
    assert (connection["ssl"], connection["ssl_protocol"], connection["ssl_cipher"]) == (True, "TLSv1.3", "AES")
    assert (connection["state"], connection["channels"], connection["protocol"]) == ("running", 1, "AMQP 0-9-1")
    assert connection["recv_oct"] > 0
    (seen,) = inspection.channels()
    assert (seen["name"], seen["confirm"], seen["transactional"]) == ("[::1]:50000 -> [::1]:5671 (1)", True, False)


def test_what_a_transaction_has_put_off(broker: MemoryBroker, inspection: Inspection) -> None:
    channel = Client(broker).open().channel()
    channel.declare("q")
    channel.publish("", "q", b"")
    channel.call(commands.Tx.Select())
    channel.get("q")
    channel.publish("", "q", b"")
    channel.send(commands.Basic.Ack(1))
    (seen,) = inspection.channels()
    assert (seen["transactional"], seen["messages_uncommitted"], seen["acks_uncommitted"]) == (True, 1, 1)


def test_exchanges_and_bindings(broker: MemoryBroker, inspection: Inspection) -> None:
    channel = Client(broker).open().channel()
    channel.declare("q")
    channel.exchange("x", "topic")
    channel.bind("q", "x", "a.#", {"n": 1})
    channel.send(commands.Exchange.Bind(destination="x", source="amq.fanout"))
    assert [exchange["name"] for exchange in inspection.exchanges()][-1] == "x"
    to_exchange, to_queue = inspection.bindings()
    assert (to_exchange["source"], to_exchange["destination"], to_exchange["destination_type"]) == (
        "amq.fanout",
        "x",
        "exchange",
    )
    assert to_queue == {
        "source": "x",
        "vhost": "/",
        "destination": "q",
        "destination_type": "queue",
        "routing_key": "a.#",
        "arguments": {"n": 1},
    }
    assert default_binding(broker.queue("q"))["routing_key"] == "q"


def test_counts_are_of_one_virtual_host_or_of_all(broker: MemoryBroker, inspection: Inspection) -> None:
    broker.administration.add_virtual_host("other")
    channel = Client(broker).open().channel()
    channel.declare("q")
    channel.publish("", "q", b"")
    channel.publish("", "q", b"")
    channel.get("q")
    assert last(inspection.count()) == {
        "virtual_hosts": 2,
        "users": 1,
        "connections": 1,
        "channels": 1,
        "queues": 1,
        "exchanges": 2 * 7,
        "consumers": 0,
        "messages": 2,
        "messages_ready": 1,
        "messages_unacknowledged": 1,
    }
    counts = last(inspection.count("other"))
    assert isinstance(counts, dict)
    assert (counts["queues"], counts["exchanges"]) == (0, 7)


def test_what_goes_between_two_slices_is_left_out(broker: MemoryBroker, inspection: Inspection) -> None:
    client = Client(broker).open()
    channel = client.channel()
    for number in range(4):
        channel.declare(f"q{number}")
        channel.consume(f"q{number}", f"c{number}")
        channel.bind(f"q{number}", "amq.fanout")
    queues, consumers, bindings = inspection.queues(), inspection.consumers(), inspection.bindings()
    queue, consumer, binding = next(queues), next(consumers), next(bindings)
    broker.administration.delete_queue("/", "q2")
    channel.received()
    channel.declare("q4")
    assert [each["name"] for each in (queue, *queues)] == ["q0", "q1", "q3"]
    assert [each["consumer_tag"] for each in (consumer, *consumers)] == ["c0", "c1", "c3"]
    assert [each["destination"] for each in (binding, *bindings)] == ["q0", "q1", "q3"]
    connections = inspection.connections()
    client.connection.lost("gone")
    assert list(connections) == []


def test_a_virtual_host_that_is_not_there_is_named_at_once(inspection: Inspection) -> None:
    topology = inspection.queues, inspection.exchanges, inspection.bindings, inspection.consumers
    for look in (*topology, inspection.connections, inspection.channels):
        with pytest.raises(NotThere, match="no virtual host 'nowhere'"):
            look("nowhere")


def test_values_that_json_does_not_know() -> None:
    value: table.FieldValue = {
        "bytes": b"\xff",
        "decimal": table.Decimal(2, 314),
        "endless": [math.inf, table.Timestamp(5), None, True],
    }
    assert json.loads(json.dumps(json_ready(value), allow_nan=False)) == {
        "bytes": "\udcff",
        "decimal": float(Decimal("3.14")),
        "endless": ["inf", 5, None, True],
    }


def test_describing_does_nothing_before_it_is_asked(broker: MemoryBroker, inspection: Inspection) -> None:
    channel = Client(broker).open().channel()
    for number in range(50):
        channel.declare(f"q{number}")
    assert [queue["name"] for queue in islice(inspection.queues(), 2)] == ["q0", "q1"]
