"""STOMP, asked of both brokers, which are started anew with it; RabbitMQ with its plugin.

Messages that go from one protocol to another are in test_directions.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interop import brokers, raw_client, waiting
from interop.brokers import Choice
from interop.raw_client import ChannelUnderTest, T
from interop.started_brokers import StartedBrokers
from interop.stomp_client import StompClient
from interop.under_test import BrokerUnderTest

CONFIG = "stomp.listeners.tcp.1 = 127.0.0.1:{stomp}\n"


class WithStomp(StartedBrokers):
    """The brokers of this module, each started when it is first asked."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[Choice, int] = {}

    def start(self, choice: Choice) -> brokers.RabbitMQ | brokers.OurBroker:
        (port,) = brokers.free_ports(1)
        self.ports[choice] = port
        return choice.start(
            config=CONFIG.format(stomp=port),
            plugins=["rabbitmq_stomp"],
            environment={"AMQP_BROKER_STOMP_PORT": str(port)},
        )


@pytest.fixture(scope="module")
def broker_processes() -> Iterator[WithStomp]:
    with WithStomp() as started:
        yield started


@pytest.fixture
def port(broker: BrokerUnderTest, broker_processes: WithStomp) -> int:
    """Where it speaks STOMP."""
    return broker_processes.ports[broker.choice]


@pytest.fixture
def stomp(port: int) -> Iterator[StompClient]:
    with StompClient(port) as client:
        yield client


def test_connected(port: int) -> None:
    for offered, version in (("1.0", "1.0"), ("1.0,1.1", "1.1"), ("1.2,9.9,1.0", "1.2")):
        with StompClient(port, offered, heart_beat="500,2500") as client:
            assert client.connected is not None
            headers = client.connected.headers
            assert set(headers) == {"server", "session", "heart-beat", "version"}
            assert (headers["version"], headers["heart-beat"]) == (version, "2000,1000")


def test_message_headers(broker: BrokerUnderTest, stomp: StompClient) -> None:
    name = broker.queue_name()
    stomp.call("SUBSCRIBE", id="s", destination=f"/queue/{name}", ack="client")
    stomp.send("SEND", b"one", destination=f"/queue/{name}", own="a\\cb\\\\c", priority="3", content_type="text/x")
    frame = stomp.take()
    assert stomp.connected is not None
    number = f"T_s@@{stomp.connected.headers['session']}@@1"
    expected = {
        "subscription": "s", "destination": f"/queue/{name}", "message-id": number, "ack": number,
        "redelivered": "false", "own": "a\\cb\\\\c", "priority": "3", "content-type": "text/x", "content-length": "3",
    }  # fmt: skip
    if broker.version >= (4, 0):
        frame.headers.pop("persistent", None)
    assert (frame.headers, frame.body) == (expected, b"one")


@pytest.mark.parametrize("mode", ["client", "client-individual"])
def test_acknowledgements(broker: BrokerUnderTest, ch: ChannelUnderTest, port: int, mode: str) -> None:
    name = broker.queue_name()
    with StompClient(port) as client:
        client.call("SUBSCRIBE", id="s", destination=f"/queue/{name}", ack=mode)
        for body in (b"1", b"2", b"3"):
            client.send("SEND", body, destination=f"/queue/{name}")
        ids = [client.take().headers["ack"] for _ in range(3)]
        client.call("ACK", id=ids[1])
        client.send("DISCONNECT", receipt="bye")
        assert client.take().headers["receipt-id"] == "bye"
        assert client.is_ended()
    ch.consume(name)
    left = [b"3"] if mode == "client" else [b"1", b"3"]
    assert [(one.body, one.redelivered) for one in ch.deliveries(len(left))] == [(body, True) for body in left]


def test_what_is_refused_is_dead_lettered(broker: BrokerUnderTest, ch: ChannelUnderTest, stomp: StompClient) -> None:
    name, dead = broker.queue_name(), broker.queue_name("dead")
    ch.declare(dead)
    ch.declare(name, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    stomp.call("SUBSCRIBE", id="s", destination=f"/amq/queue/{name}", ack="client-individual")
    stomp.send("SEND", b"poison", destination=f"/amq/queue/{name}")
    stomp.send("NACK", id=stomp.take().headers["ack"])
    again = stomp.take()
    assert (again.body, again.headers["redelivered"]) == (b"poison", "true")
    stomp.call("NACK", id=again.headers["ack"], requeue="false")
    ch.consume(dead)
    (message,) = ch.deliveries(1)
    assert message.body == b"poison"


def test_errors_that_do_not_end_the_connection(stomp: StompClient) -> None:
    cases: list[tuple[str, dict[str, str], str]] = [
        ("SEND", {"destination": "/foo/bar"}, "Unknown destination"),
        ("SEND", {"destination": ""}, "Invalid destination"),
        ("SUBSCRIBE", {"destination": "", "id": "1"}, "Invalid destination"),
        ("SEND", {"destination": "/queue/a/b"}, "Invalid destination"),
        ("SEND", {"destination": "/exchange//b"}, "Invalid destination"),
        ("SEND", {"destination": "/temp-queue/a"}, "Invalid destination"),
        ("SUBSCRIBE", {"destination": "/temp-queue/a", "id": "1"}, "Invalid destination"),
        ("SEND", {}, "Missing destination"),
        ("SEND", {"destination": "/queue/a", "message-id": "1"}, "Invalid header"),
        ("UNSUBSCRIBE", {"id": "none"}, "No subscription found"),
        ("UNSUBSCRIBE", {}, "Missing destination or id"),
        ("ACK", {}, "Missing header"),
        ("ACK", {"id": "x"}, "Invalid header"),
        ("BEGIN", {}, "Missing transaction"),
        ("COMMIT", {"transaction": "none"}, "Bad transaction"),
        ("SUBSCRIBE", {"destination": "/topic/a", "durable": "true"}, "Missing Header"),
        ("NOTHING", {}, "Bad command"),
    ]
    for command, headers, message in cases:
        stomp.send(command, **headers)
        assert stomp.error()[0] == message, command
    stomp.call("BEGIN", transaction="t")


@pytest.mark.parametrize(
    ("command", "headers", "message"),
    [
        ("SUBSCRIBE", {"destination": "/amq/queue/missing", "id": "1"}, "not_found"),
        ("SUBSCRIBE", {"destination": "/exchange/missing/k", "id": "1"}, "not_found"),
        ("SEND", {"destination": "/exchange/missing/k"}, "not_found"),
    ],
)
def test_errors_that_end_the_connection(
    stomp: StompClient, command: str, headers: dict[str, str], message: str
) -> None:
    stomp.send(command, **headers)
    assert stomp.error()[0] == message
    assert stomp.is_ended()


def test_a_durable_subscription_has_the_same_queue_everywhere(
    broker: BrokerUnderTest, ch: ChannelUnderTest, port: int
) -> None:
    headers = {"destination": "/topic/durable.key", "id": "the id", "durable": "true", "auto-delete": "false"}
    name = "stomp-subscription-t6F9NQVejcf2HskLeDr8Zg"
    with StompClient(port) as client:
        client.call("SUBSCRIBE", **headers)
    waiting.until(lambda: ch.depth(name)[1] == 0)
    ch.publish("amq.topic", "durable.key", b"meanwhile")
    with StompClient(port) as client:
        client.send("SUBSCRIBE", **headers)
        assert client.take().body == b"meanwhile"
        client.call("UNSUBSCRIBE", id="the id", durable="true")
    ch.send(raw_client.Queue.Declare, queue=name, passive=True)
    ch.expect_close(404, f"no queue '{name}' in vhost '/'", cause=raw_client.Queue.Declare)


def test_replies_come_by_a_temporary_queue(broker: BrokerUnderTest, port: int) -> None:
    path = f"/queue/{broker.queue_name()}"
    with StompClient(port) as asks, StompClient(port) as answers:
        answers.call("SUBSCRIBE", id="0", destination=path)
        asks.send("SEND", b"?", destination=path, reply_to="/temp-queue/mine")
        reply_to = answers.take().headers["reply-to"]
        assert reply_to.startswith("/reply-queue/amq.gen-")
        answers.send("SEND", b"!", destination=reply_to)
        reply = asks.take()
        assert (reply.body, reply.headers["subscription"]) == (b"!", "/temp-queue/mine")


def test_a_transaction_is_done_at_its_commit(broker: BrokerUnderTest, ch: ChannelUnderTest, stomp: StompClient) -> None:
    path = f"/queue/{broker.queue_name()}"
    stomp.call("SUBSCRIBE", id="s", destination=path)
    for end, bodies in (("ABORT", [b"after"]), ("COMMIT", [b"before", b"after"])):
        stomp.send("BEGIN", transaction="t")
        stomp.send("SEND", b"before", destination=path, transaction="t")
        stomp.send(end, transaction="t")
        stomp.send("SEND", b"after", destination=path)
        assert [stomp.take().body for _ in bodies] == bodies


def test_who_consumes_a_queue_that_is_deleted_is_told(
    broker: BrokerUnderTest, ch: ChannelUnderTest, stomp: StompClient
) -> None:
    name = broker.queue_name()
    stomp.call("SUBSCRIBE", id="s", destination=f"/queue/{name}")
    ch.call(raw_client.Queue.Delete, queue=name)
    frame = stomp.take()
    assert (frame.command, frame.headers["message"]) == ("ERROR", "Server cancelled subscription")
    assert frame.headers["subscription"] == "s"


def test_properties_to_amqp_and_back(broker: BrokerUnderTest, ch: ChannelUnderTest, stomp: StompClient) -> None:
    name = broker.queue_name()
    says = {
        "content-type": "text/x", "content-encoding": "gzip", "correlation-id": "c", "reply-to": "/queue/r",
        "expiration": "60000", "amqp-message-id": "m", "type": "t", "user-id": "guest", "app-id": "a", "priority": "3",
        "timestamp": "5", "persistent": "true", "own": "text",
    }  # fmt: skip
    stomp.call("SEND", b"body", destination=f"/queue/{name}", **says)
    ch.consume(name)
    (message,) = ch.deliveries(1)
    assert message.headers["own"] == "text"
    assert {key: value for key, value in message.properties.items() if key != "headers"} == {
        "content_type": "text/x", "content_encoding": "gzip", "correlation_id": "c", "reply_to": "/queue/r",
        "expiration": "60000", "message_id": "m", "message_type": "t", "user_id": "guest", "app_id": "a",
        "priority": 3, "timestamp": message.properties["timestamp"], "delivery_mode": 2,
    }  # fmt: skip


def test_headers_of_amqp_that_a_client_of_stomp_may_not_read(
    broker: BrokerUnderTest, ch: ChannelUnderTest, stomp: StompClient
) -> None:
    name = broker.queue_name()
    stomp.call("SUBSCRIBE", id="s", destination=f"/queue/{name}")
    headers = {"message-id": "theirs", "ack": "theirs", "latin": T("S", b"\xe9"), "note": "n", "": "nameless"}
    ch.publish("", name, b"body", headers=headers)
    frame = stomp.take()
    said = set(frame.headers) - {"subscription", "destination", "message-id", "redelivered", "content-length"}
    assert said == ({"note"} if broker.differs("headers-that-stomp-cannot-say") else {"note", "ack", "latin", ""})
    assert frame.headers["message-id"].startswith("T_s@@")


@pytest.mark.parametrize(
    ("headers", "begins_at"),
    [
        ({"x_stream_offset": "first"}, 0),
        ({"x_stream_offset": "offset=1"}, 1),
        ({"x_stream_offset": "timestamp=1577836800"}, 0),
        ({"x_stream_offset": "last"}, 2),
        ({"x_stream_offset": "first", "x_stream_filter": "plum,pear"}, 2),
        ({"x_stream_offset": "first", "x_stream_filter": "pear", "x_stream_match_unfiltered": "true"}, 0),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else str(value),
)
def test_a_stream_is_read_from_a_place(
    broker: BrokerUnderTest, stomp: StompClient, headers: dict[str, str], begins_at: int
) -> None:
    if "x_stream_filter" in headers and broker.kind == "rabbitmq" and broker.version < (3, 13):
        pytest.skip("RabbitMQ 3.10 has no filters")
    path = f"/queue/{broker.queue_name()}"
    for body, value in ((b"0", ""), (b"1", "apple"), (b"2", "pear")):
        filtered = {"x_stream_filter_value": value} if value else {}
        stomp.call("SEND", body, destination=path, x_queue_type="stream", x_max_age="1h", **filtered)
    stomp.call("SUBSCRIBE", id="s", destination=path, ack="client", prefetch_count="1", **headers)
    frame = stomp.take()
    assert (frame.body, frame.headers["x-stream-offset"]) == (b"%d" % begins_at, str(begins_at))
    if begins_at == 1:
        stomp.send("ACK", id=frame.headers["ack"])
        assert stomp.take().body == b"2"


def test_an_error_names_the_receipt_of_its_frame(broker: BrokerUnderTest, stomp: StompClient) -> None:
    for command, headers in (
        ("SEND", {"destination": "nowhere/x"}),
        ("UNSUBSCRIBE", {"id": "7"}),
        ("COMMIT", {"transaction": "t"}),
        ("SUBSCRIBE", {"destination": "/amq/queue/missing", "id": "0"}),
    ):
        stomp.send(command, receipt="r", **headers)
        error = stomp.take()
        expected = "r" if broker.differs("stomp-error-receipt") else None
        assert (error.command, error.headers.get("receipt-id")) == ("ERROR", expected)
