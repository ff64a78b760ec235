"""What a STOMP client is told is true after the power has failed: receipts, transactions, durable subscriptions."""

from __future__ import annotations

from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import small_slices
from tests.support.stomp_client import StompClient


def connected(broker: DiskBroker) -> StompClient:
    client = StompClient(broker)
    assert client.connect().command == "CONNECTED"
    return client


def receipts(client: StompClient) -> list[str]:
    return [frame.headers["receipt-id"] for frame in client.read()]


def bodies(broker: DiskBroker, name: str) -> list[bytes]:
    return [message.body for message in broker.queue(name).messages()]


def test_a_receipt_comes_when_the_message_is_kept() -> None:
    broker = DiskBroker(stomp_port=0)
    client = connected(broker)
    with broker.holding_writes():
        client.send("SEND", b"kept", destination="/queue/q", persistent="true", receipt="1")
        client.send("SEND", b"not kept", destination="/queue/q", receipt="2")
        assert receipts(client) == []
    assert receipts(client) == ["1", "2"]
    assert bodies(broker.without_power(), "q") == [b"kept"]


def test_a_receipt_of_an_acknowledgement_comes_when_that_is_kept() -> None:
    broker = DiskBroker(stomp_port=0)
    client = connected(broker)
    client.send("SEND", b"m", destination="/queue/q", persistent="true")
    client.send("SUBSCRIBE", destination="/queue/q", id="s", ack="client")
    (message,) = client.read()
    with broker.holding_writes():
        client.send("ACK", id=message.headers["ack"], receipt="1")
        assert receipts(client) == []
    assert receipts(client) == ["1"]
    assert bodies(broker.without_power(), "q") == []


def test_a_receipt_of_many_acknowledgements_waits_for_those_that_were_written_before_the_last() -> None:
    with small_slices():
        broker = DiskBroker(stomp_port=0)
    client = connected(broker)
    for persistent in ("true", "true", "false"):
        client.send("SEND", destination="/queue/q", persistent=persistent)
    client.send("SUBSCRIBE", destination="/queue/q", id="s", ack="client")
    *_, last = client.read()
    broker.writes_at_once = False
    with broker.holding_works():
        client.send("ACK", id=last.headers["ack"], receipt="1")
        broker.write(sync=False)
    assert receipts(client) == [], "it is not synced"
    broker.write()
    assert receipts(client) == ["1"]


def test_a_goodbye_is_answered_when_all_before_it_is_kept() -> None:
    broker = DiskBroker(stomp_port=0)
    client = connected(broker)
    with broker.holding_writes():
        client.send("SEND", b"m", destination="/queue/q", persistent="true")
        client.send("DISCONNECT", receipt="bye")
        client.send("SEND", b"too late", destination="/queue/q", persistent="true")
        assert (receipts(client), client.is_closed) == ([], False)
    assert (receipts(client), client.is_closed) == (["bye"], True)
    assert bodies(broker.without_power(), "q") == [b"m"]


def test_a_goodbye_waits_for_what_is_being_written() -> None:
    broker = DiskBroker(stomp_port=0)
    client = connected(broker)
    broker.writes_at_once = False
    client.send("SEND", b"m", destination="/queue/q", persistent="true")
    broker.write(sync=False)
    client.send("DISCONNECT", receipt="bye")
    assert (receipts(client), client.is_closed) == ([], False), "it is not synced"
    broker.write()
    assert (receipts(client), client.is_closed) == (["bye"], True)


def with_a_transaction(broker: DiskBroker) -> StompClient:
    """A client that has put off to take a message from one queue and to send two to another."""
    client = connected(broker)
    client.send("SEND", b"in", destination="/queue/in", persistent="true")
    client.send("SEND", b"out", destination="/queue/out", persistent="true")
    client.send("SUBSCRIBE", id="s", destination="/queue/in", ack="client")
    message = client.take()
    client.send("BEGIN", transaction="t")
    client.send("ACK", id=message.headers["ack"], transaction="t")
    for body in (b"1", b"2"):
        client.send("SEND", body, destination="/queue/out", persistent="true", transaction="t")
    return client


def test_a_transaction_is_there_as_a_whole_or_not_at_all_when_the_power_fails() -> None:
    broker = DiskBroker(stomp_port=0)
    client = with_a_transaction(broker)
    broker.writes_at_once = False
    client.send("COMMIT", transaction="t", receipt="done")
    assert receipts(client) == []
    broker = broker.without_power()
    assert (bodies(broker, "in"), bodies(broker, "out")) == ([b"in"], [b"out"])

    broker = DiskBroker(stomp_port=0)
    client = with_a_transaction(broker)
    client.send("COMMIT", transaction="t", receipt="done")
    assert receipts(client) == ["done"]
    broker = broker.without_power()
    assert (bodies(broker, "in"), bodies(broker, "out")) == ([], [b"out", b"1", b"2"])


def test_a_durable_subscription_outlives_the_broker() -> None:
    headers = {"id": "s", "destination": "/topic/t", "durable": "true", "auto-delete": "false"}
    broker = DiskBroker(stomp_port=0)
    client = connected(broker)
    with broker.holding_writes():
        client.send("SUBSCRIBE", receipt="r", **headers)
        assert receipts(client) == []
    assert receipts(client) == ["r"]
    client.drop()
    connected(broker).send("SEND", b"meanwhile", destination="/topic/t", persistent="true")
    client = connected(broker.without_power())
    client.send("SUBSCRIBE", **headers)
    assert client.bodies() == [b"meanwhile"]
