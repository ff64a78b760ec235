"""STOMP's conversation in memory: CONNECT, destinations, acknowledgements, receipts, transactions, heart-beats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from amqp_broker.access.client import Peer
from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.access.patterns import Pattern
from amqp_broker.access.users import Permission
from amqp_broker.broker.alarms import Resource
from amqp_broker.broker.message import digest_of
from amqp_broker.protocols.stomp.frames import FrameSplitter
from amqp_broker.protocols.stomp.publishing import TARGETS_MAX
from amqp_broker.wire.content import Properties, decode_properties, encode_content_header
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker
from tests.support.stomp_client import StompClient, frame_bytes

FAR_AWAY = Peer.at("192.0.2.1", 50_000, "192.0.2.2", 61613)


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(stomp_port=0)


def connected(broker: MemoryBroker, version: str = "1.2", *, in_bytes: bool = False, **headers: str) -> StompClient:
    client = StompClient(broker, in_bytes=in_bytes)
    assert client.connect(version, **headers).headers["version"] == version
    return client


# --- CONNECT


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("in_bytes", [False, True])
def test_a_message_goes_from_sender_to_subscriber_in_every_version(
    broker: MemoryBroker, version: str, in_bytes: bool
) -> None:
    client = connected(broker, version, in_bytes=in_bytes)
    client.send("SUBSCRIBE", id="0", destination="/queue/a")
    client.send("SEND", b"one", destination="/queue/a", note="x:y\\z")
    (message,) = client.read()
    session = client.connection.session_id
    assert (message.command, message.body) == ("MESSAGE", b"one")
    assert list(message.headers.items()) == [
        ("subscription", "0"),
        ("destination", "/queue/a"),
        ("message-id", f"T_0@@{session}@@1"),
        ("redelivered", "false"),
        ("note", "x:y\\z"),
        ("content-length", "3"),
    ]


def test_connected_says_what_was_agreed_on(broker: MemoryBroker) -> None:
    answer = StompClient(broker).connect("1.0,1.1,1.2,7", heart_beat="500,2500")
    assert answer.command == "CONNECTED"
    assert list(answer.headers) == ["server", "session", "heart-beat", "version"]
    assert answer.headers["heart-beat"] == "2000,1000"
    assert answer.headers["version"] == "1.2"
    assert answer.headers["server"].startswith("RabbitMQ/3.")


def test_a_client_that_names_no_version_speaks_1_0(broker: MemoryBroker) -> None:
    client = StompClient(broker)
    client.send("CONNECT", login="guest", passcode="guest")
    assert client.take().headers["version"] == "1.0"


def test_credentials_in_connect_are_not_escaped(broker: MemoryBroker) -> None:
    broker.administration.add_user("back\\slash", "pass\\word")
    broker.administration.set_permission("back\\slash", "/", ".*", ".*", ".*")
    client = StompClient(broker)
    client.write(b"CONNECT\naccept-version:1.2\nhost:/\nlogin:back\\slash\npasscode:pass\\word\n\n\0")
    assert client.take().command == "CONNECTED"


def test_who_may_not_come_in_is_told_so_and_sent_away(broker: MemoryBroker) -> None:
    broker.administration.add_virtual_host("other")
    cases = (
        ({"passcode": "wrong"}, "Access refused for user 'guest'"),
        ({"login": "nobody"}, "Access refused for user 'nobody'"),
        ({"host": "nowhere"}, "Virtual host 'nowhere' access denied"),
        ({"host": "other"}, "Virtual host 'other' access denied"),
        ({"heart-beat": "often"}, "heart-beat takes two numbers of milliseconds, not 'often'"),
    )
    for headers, detail in cases:
        client = StompClient(broker)
        answer = client.connect("1.2", **headers)
        assert (answer.command, answer.headers["message"], answer.body.decode()) == ("ERROR", "Bad CONNECT", detail)
        assert client.is_closed
    from_afar = StompClient(broker, peer=FAR_AWAY)
    assert from_afar.connect().body == b"non-loopback access denied"
    assert len(broker.open_connections) == 0


def test_who_leaves_a_name_or_password_out_is_not_the_administrator_of_the_settings() -> None:
    broker = MemoryBroker(default_user="shop", default_password="secret")
    for headers in ({}, {"login": "shop"}):
        client = StompClient(broker)
        client.send("CONNECT", accept_version="1.2", host="/", **headers)
        assert client.take().command == "ERROR"


def test_an_unknown_version_and_anything_before_connect_are_refused(broker: MemoryBroker) -> None:
    client = StompClient(broker)
    answer = client.connect("9.9")
    assert (answer.headers["message"], answer.body) == ("Version mismatch", b"Supported versions are 1.0,1.1,1.2\n")
    assert client.is_closed
    client = StompClient(broker)
    client.send("SEND", b"x", destination="/queue/a")
    assert client.error() == ("Illegal command", "You must log in using CONNECT first")
    assert client.is_closed


def test_a_second_connect_ends_the_connection(broker: MemoryBroker) -> None:
    client = connected(broker)
    assert client.connect().headers["message"] == "Illegal command"
    assert client.is_closed


def test_who_never_connects_is_sent_away(broker: MemoryBroker) -> None:
    client = StompClient(broker)
    broker.advance(broker.settings.handshake_timeout_ms)
    assert client.is_closed


@pytest.mark.parametrize(
    "data",
    [
        b"SEND\nno colon\n\n\0",
        b"SEND\na:\\x\n\n\0",
        b"SEND\na:\\\n\n\0",
        b"SEND\ndestination:/queue/a\n\0",
        b"SEND\ncontent-length:x\n\n\0",
        b"SEND\ncontent-length:1\n\nab\0",
        b"\x16\x03\x01\x00\xa5\x01\x00",
    ],
)
def test_what_is_no_frame_ends_the_connection_without_a_word(broker: MemoryBroker, data: bytes) -> None:
    client = connected(broker)
    client.write(data)
    assert (client.read(), client.is_closed) == ([], True)
    assert len(broker.open_connections) == 0


def test_a_client_of_another_protocol_is_named(broker: MemoryBroker) -> None:
    client = StompClient(broker)
    client.write(b"GET / HTTP/1.1\r\n\r\n")
    assert (client.read(), client.is_closed) == ([], True)
    assert "an HTTP client on a port for STOMP" in client.connection.close_reason


def test_what_is_too_large_is_refused_before_it_is_gathered() -> None:
    broker = MemoryBroker(stomp_port=0, message_size_bytes_max=1_000)
    for data, receipt in (
        (frame_bytes("SEND", bytes(1_001), destination="/queue/a", content_length="1001", receipt="r"), "r"),
        (frame_bytes("SEND", b"x" * 1_001, destination="/queue/a", receipt="r")[:-1], "r"),
        (b"SEND\nreceipt:r\na:" + b"x" * 70_000, None),  # it may not be all of it
    ):
        client = connected(broker)
        client.write(data)
        error = client.take()
        assert (error.command, error.headers["message"]) == ("ERROR", "Frame too large")
        assert error.headers.get("receipt-id") == receipt
        assert client.is_closed


# --- destinations


def test_each_kind_of_destination_leads_where_rabbitmqs_does(broker: MemoryBroker) -> None:
    client = connected(broker)
    paths = ("/queue/a%2Fb", "plain", "/topic/x.y", "/exchange/amq.fanout", "/exchange/amq.direct/k")
    for number, path in enumerate(paths):
        client.send("SUBSCRIBE", id=str(number), destination=path)
    said = ("/queue/a%2Fb", "/queue/plain", "/topic/x.y", "/exchange/amq.fanout", "/exchange/amq.direct/k")
    for number, (path, seen) in enumerate(zip(paths, said, strict=True)):
        client.send("SEND", b"m", destination=path)
        (message,) = client.read()
        assert (message.headers["subscription"], message.headers["destination"]) == (str(number), seen)
    assert broker.queue("a/b").durable
    assert not broker.queue("a/b").auto_delete
    own = [queue for name, queue in broker.virtual_host.queues.items() if name.startswith("stomp-subscription-")]
    assert [(queue.durable, queue.auto_delete, queue.owner) for queue in own] == [(False, True, None)] * 3


def test_amq_queue_declares_nothing(broker: MemoryBroker) -> None:
    client = connected(broker)
    client.send("SEND", b"lost", destination="/amq/queue/there", receipt="r")
    assert client.take().headers["receipt-id"] == "r"
    assert "there" not in broker.virtual_host.queues
    Client(broker).open().channel().declare("there")
    client.send("SEND", b"kept", destination="/amq/queue/there")
    client.send("SUBSCRIBE", id="0", destination="/amq/queue/there")
    assert client.bodies() == [b"kept"]
    client.send("SUBSCRIBE", id="1", destination="/amq/queue/missing")
    assert client.error() == ("not_found", "NOT_FOUND - no queue 'missing' in vhost '/'")
    assert client.is_closed


@pytest.mark.parametrize(
    ("path", "message", "detail"),
    [
        ("/queue", "Invalid destination", "'' is not a valid queue destination\n"),
        ("/queue/a/b", "Invalid destination", "'/a/b' is not a valid queue destination\n"),
        ("/topic/", "Invalid destination", "'/' is not a valid topic destination\n"),
        ("/exchange//k", "Invalid destination", "'//k' is not a valid exchange destination\n"),
        ("/exchange/a/b/c", "Invalid destination", "'/a/b/c' is not a valid exchange destination\n"),
        ("/temp-queue/a", "Invalid destination", "'/temp-queue/a' is not a valid destination for 'SEND'\n"),
        ("", "Invalid destination", "Destination cannot be blank"),
        ("/foo/bar", "Unknown destination", "'/foo/bar' is not a valid destination.\nValid destination types are: "
         "/temp-queue, /exchange, /topic, /queue, /amq/queue, /reply-queue/.\n"),
    ],
)  # fmt: skip
def test_a_wrong_destination_is_told_and_the_connection_goes_on(
    broker: MemoryBroker, path: str, message: str, detail: str
) -> None:
    client = connected(broker)
    client.send("SEND", b"x", destination=path)
    assert client.error() == (message, detail)
    client.send("SEND", b"x", destination="/queue/a", receipt="r")
    assert client.take().command == "RECEIPT"


def test_an_unknown_exchange_ends_the_connection(broker: MemoryBroker) -> None:
    for command in ("SEND", "SUBSCRIBE"):
        client = connected(broker)
        client.send(command, destination="/exchange/nowhere/k", id="0")
        assert client.error() == ("not_found", "NOT_FOUND - no exchange 'nowhere' in vhost '/'")
        assert client.is_closed


def test_headers_shape_the_queue_that_is_declared(broker: MemoryBroker) -> None:
    client = connected(broker)
    client.send(
        "SUBSCRIBE", id="0", destination="/queue/shaped", durable="false", x_message_ttl="60000", x_max_length="10",
        x_dead_letter_exchange="dlx", x_max_priority="6", x_expires="70000",
    )  # fmt: skip
    queue = broker.queue("shaped")
    assert (queue.durable, queue.auto_delete, queue.owner) == (False, True, client.connection.client)
    assert queue.table == {
        "x-dead-letter-exchange": "dlx", "x-expires": 70000, "x-max-length": 10, "x-max-priority": 6,
        "x-message-ttl": 60000,
    }  # fmt: skip


def test_permissions_hold(broker: MemoryBroker) -> None:
    broker.administration.add_user("u", "p")
    broker.administration.set_permission("u", "/", "^stomp-.*", "^stomp-.*", "^$")
    for command, headers, refused in (
        ("SEND", {"destination": "/queue/a"}, "queue 'a'"),
        ("SEND", {"destination": "/topic/a"}, "exchange 'amq.topic'"),
        ("SUBSCRIBE", {"destination": "/topic/a", "id": "1"}, "exchange 'amq.topic'"),
    ):
        client = connected(broker, login="u", passcode="p")
        client.send(command, **headers)
        message, detail = client.error()
        assert (message, client.is_closed) == ("access_refused", True)
        assert refused in detail
    assert not broker.virtual_host.queues


# --- what a message says


def test_headers_become_properties_and_come_back(broker: MemoryBroker) -> None:
    client = connected(broker)
    channel = Client(broker).open().channel()
    channel.declare("q", durable=True)
    says = {
        "content-type": "text/x", "content-encoding": "gzip", "correlation-id": "c", "reply-to": "/queue/r",
        "expiration": "60000", "amqp-message-id": "m", "type": "t", "user-id": "guest", "app-id": "a", "priority": "3",
        "timestamp": "5", "persistent": "true", "own": "text",
    }  # fmt: skip
    client.send("SEND", b"body", destination="/queue/q", receipt="r", **says)
    assert client.take().headers["receipt-id"] == "r"
    (message,) = list(broker.queue("q").messages())
    assert decode_properties(message.header) == Properties(
        content_type="text/x", content_encoding="gzip", headers={"own": "text"}, delivery_mode=2, priority=3,
        correlation_id="c", reply_to="/queue/r", expiration="60000", message_id="m", timestamp=5, type="t",
        user_id="guest", app_id="a",
    )  # fmt: skip
    client.send("SUBSCRIBE", id="0", destination="/queue/q")
    headers = client.take().headers
    assert {name: headers[name] for name in says} == says
    assert list(headers)[4:-1] == [
        "own", "app-id", "user-id", "type", "timestamp", "amqp-message-id", "expiration", "reply-to", "correlation-id",
        "priority", "persistent", "content-encoding", "content-type",
    ]  # fmt: skip


def test_what_cannot_be_a_property_is_refused(broker: MemoryBroker) -> None:
    client = connected(broker)
    for headers, message, closes in (
        ({"priority": "high"}, "Invalid header", False),
        ({"priority": "300"}, "Invalid header", False),
        ({"message-id": "1"}, "Invalid header", False),
        ({"type": "x" * 300}, "Invalid header", False),
        ({"user-id": "somebody"}, "precondition_failed", True),
    ):
        client.send("SEND", b"x", destination="/queue/q", **headers)
        assert client.error()[0] == message
        assert client.is_closed == closes
    assert broker.queue("q").ready_count == 0


def test_a_message_of_amqp_is_told_as_far_as_text_can(broker: MemoryBroker) -> None:
    client = connected(broker)
    client.send("SUBSCRIBE", id="0", destination="/queue/q")
    channel = Client(broker).open().channel()
    headers = {"text": "a\nb", "number": -5, "truth": True, "list": [1], "nul": "\0", "x:y": "z"}
    channel.publish("", "q", b"", headers=headers, delivery_mode=1, reply_to="amq.gen-x")
    (message,) = client.read()
    own = {name: value for name, value in message.headers.items() if name in headers}
    assert own == {"text": "a\nb", "number": "-5", "truth": "true", "x:y": "z"}
    assert list(message.headers.items())[-2:] == [("reply-to", "/reply-queue/amq.gen-x"), ("persistent", "1")]


# --- acknowledgements


def three(broker: MemoryBroker, mode: str, version: str = "1.2", **headers: str) -> tuple[StompClient, list[str]]:
    """A client that has got three messages, and their ids."""
    client = connected(broker, version)
    client.send("SUBSCRIBE", id="s", destination="/queue/q", ack=mode, **headers)
    for body in (b"1", b"2", b"3"):
        client.send("SEND", body, destination="/queue/q")
    name = "ack" if version == "1.2" else "message-id"
    return client, [frame.headers[name] for frame in client.read()]


def left(client: StompClient) -> list[bytes]:
    """What is in the queue when a client has gone."""
    broker = client.broker
    assert isinstance(broker, MemoryBroker)
    client.drop()
    broker.check_invariants()
    return [message.body for message in broker.queue("q").messages()]


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_client_acknowledges_all_before_and_individual_one(broker: MemoryBroker, version: str) -> None:
    name = "id" if version == "1.2" else "message-id"
    client, ids = three(broker, "client", version)
    client.send("ACK", **{name: ids[1]}, subscription="s", receipt="r")
    assert client.take().headers == {"receipt-id": "r"}
    assert left(client) == [b"3"]
    broker.queue("q").purge()
    client, ids = three(broker, "client-individual", version)
    client.send("ACK", **{name: ids[1]})
    assert left(client) == [b"1", b"3"]


def test_client_acknowledges_no_other_subscriptions_messages(broker: MemoryBroker) -> None:
    client = connected(broker)
    client.send("SUBSCRIBE", id="other", destination="/queue/o", ack="client")
    client.send("SUBSCRIBE", id="s", destination="/queue/q", ack="client")
    client.send("SEND", b"o", destination="/queue/o")
    client.send("SEND", b"q", destination="/queue/q")
    client.send("ACK", id=client.read()[1].headers["ack"])
    assert left(client) == []
    assert [message.body for message in broker.queue("o").messages()] == [b"o"]


def test_without_an_acknowledgement_mode_all_is_done_with_at_once(broker: MemoryBroker) -> None:
    client = connected(broker)
    client.send("SUBSCRIBE", id="s", destination="/queue/q")
    client.send("SEND", b"1", destination="/queue/q")
    assert client.bodies() == [b"1"]
    assert left(client) == []


def test_nack_requeues_unless_told_not_to(broker: MemoryBroker) -> None:
    client, ids = three(broker, "client-individual", x_dead_letter_exchange="amq.fanout")
    dead = connected(broker)
    dead.send("SUBSCRIBE", id="d", destination="/exchange/amq.fanout")
    client.send("NACK", id=ids[0])
    (again,) = client.read()
    assert (again.body, again.headers["redelivered"]) == (b"1", "true")
    client.send("NACK", id=ids[1], requeue="false")
    assert dead.bodies() == [b"2"]
    dead.drop()
    assert left(client) == [b"1", b"3"]


def test_a_delivery_can_be_acknowledged_after_unsubscribe(broker: MemoryBroker) -> None:
    client, ids = three(broker, "client-individual")
    client.send("UNSUBSCRIBE", id="s", receipt="u")
    client.send("SUBSCRIBE", id="s", destination="/queue/elsewhere", ack="client-individual")
    client.send("ACK", id=ids[0], receipt="r")
    assert [frame.headers["receipt-id"] for frame in client.read()] == ["u", "r"]
    assert left(client) == [b"2", b"3"]


def test_an_acknowledgement_of_nothing_is_told(broker: MemoryBroker) -> None:
    client, ids = three(broker, "client")
    cases: tuple[tuple[dict[str, str], str, str], ...] = (
        ({}, "Missing header", '"ACK" must include the "id" header\n'),
        ({"id": "x"}, "Invalid header", '"ACK" must include a valid "id" header\n'),
        ({"id": "T_no@@x@@1"}, "Subscription not found", "There is no current subscription with tag 'T_no'."),
        ({"id": "T_s@@x@@99"}, "precondition_failed", "PRECONDITION_FAILED - unknown delivery tag 99"),
    )
    for headers, message, detail in cases:
        client.send("ACK", **headers)
        assert client.error() == (message, detail)
    assert client.is_closed
    assert ids[2].endswith("@@3")


def test_prefetch_count_limits_what_is_on_the_way(broker: MemoryBroker) -> None:
    client, ids = three(broker, "client", prefetch_count="2")
    assert len(ids) == 2
    client.send("ACK", id=ids[0])
    assert client.bodies() == [b"3"]


def test_a_subscriber_that_does_not_read_holds_its_queue_back() -> None:
    broker = MemoryBroker(stomp_port=0, outbound_high_water_bytes=4_096)
    client = connected(broker)
    client.send("SUBSCRIBE", id="s", destination="/queue/q")
    other = connected(broker)
    for _ in range(10):
        other.send("SEND", b"x" * 2_000, destination="/queue/q")
    assert broker.queue("q").ready_count > 5
    bodies = client.bodies()
    while some := client.bodies():
        bodies += some
    assert len(bodies) == 10


# --- streams


def stream_of(broker: MemoryBroker, *bodies: bytes) -> StompClient:
    """A client that has filled the stream `s`, an entry a second; those that begin with o have that as filter value."""
    client = connected(broker)
    for body in bodies:
        filtered = {"x_stream_filter_value": "o"} if body.startswith(b"o") else {}
        client.send("SEND", body, destination="/queue/s", x_queue_type="stream", x_max_age="1h", **filtered)
        broker.advance(1_000)
    assert broker.queue("s").traits().shown_as == "stream"
    return client


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, []),
        ({"x_stream_offset": "next"}, []),
        ({"x_stream_offset": "first"}, [b"a", b"o1", b"b", b"o2"]),
        ({"x_stream_offset": "last"}, [b"o2"]),
        ({"x_stream_offset": "offset=2"}, [b"b", b"o2"]),
        ({"x_stream_offset": "2s"}, [b"b", b"o2"]),
        ({"x_stream_offset": "first", "x_stream_filter": "o"}, [b"o1", b"o2"]),
        ({"x_stream_offset": "first", "x_stream_filter": "x,o"}, [b"o1", b"o2"]),
        (
            {"x_stream_offset": "first", "x_stream_filter": "x", "x_stream_match_unfiltered": "true"},
            [b"a", b"b"],
        ),
    ],
)
def test_a_stream_is_read_from_any_place(broker: MemoryBroker, headers: dict[str, str], wanted: list[bytes]) -> None:
    client = stream_of(broker, b"a", b"o1", b"b", b"o2")
    client.send("SUBSCRIBE", id="0", destination="/queue/s", ack="client", prefetch_count="10", **headers)
    assert client.bodies() == wanted


def test_a_stream_is_read_from_a_time_on(broker: MemoryBroker) -> None:
    client = stream_of(broker, b"a", b"b", b"c")
    at_s = (broker.clock.wall_ms() - 2_000) // 1000
    client.send(
        "SUBSCRIBE",
        id="0",
        destination="/queue/s",
        ack="client",
        prefetch_count="10",
        x_stream_offset=f"timestamp={at_s}",
    )
    assert [(one.body, one.headers["x-stream-offset"]) for one in client.read()] == [(b"b", "1"), (b"c", "2")]


@pytest.mark.parametrize("offset", ["timestamp=soon", "offset=-1", "timestamp=" + "9" * 5_000, "sometime"])
def test_a_place_in_a_stream_that_there_is_not(broker: MemoryBroker, offset: str) -> None:
    client = stream_of(broker, b"a")
    client.send("SUBSCRIBE", id="0", destination="/queue/s", ack="client", prefetch_count="10", x_stream_offset=offset)
    assert client.error()[0] == "precondition_failed"


# --- UNSUBSCRIBE


def test_unsubscribe_by_id_or_destination(broker: MemoryBroker) -> None:
    client = connected(broker, "1.0")
    client.send("SUBSCRIBE", destination="/topic/a")
    client.send("SEND", b"1", destination="/topic/a")
    (message,) = client.read()
    assert "subscription" not in message.headers
    client.send("UNSUBSCRIBE", destination="/topic/a", receipt="r")
    client.send("SEND", b"2", destination="/topic/a")
    assert [frame.command for frame in client.read()] == ["RECEIPT"]
    assert not broker.virtual_host.queues
    client.send("UNSUBSCRIBE", id="nope")
    assert client.error() == (
        "No subscription found",
        "UNSUBSCRIBE must refer to an existing subscription.\nSubscription to \"id='nope'\" not found.\n",
    )
    client.send("UNSUBSCRIBE")
    assert client.error()[0] == "Missing destination or id"


def test_a_subscription_of_a_name_that_is_taken_ends_the_connection(broker: MemoryBroker) -> None:
    client = connected(broker)
    client.send("SUBSCRIBE", id="1", destination="/topic/a")
    client.send("SUBSCRIBE", id="1", destination="/topic/b")
    assert client.error() == (
        "Duplicated subscription identifier", "A subscription identified by 'T_1' already exists.",
    )  # fmt: skip
    assert client.is_closed
    assert not broker.virtual_host.queues


def test_a_durable_subscription_waits_for_its_client(broker: MemoryBroker) -> None:
    headers = {"id": "3", "destination": "/topic/d", "durable": "true", "auto-delete": "false"}
    client = connected(broker)
    client.send("SUBSCRIBE", **headers)
    assert list(broker.virtual_host.queues) == ["stomp-subscription-Sbknd4rrjXcfvrqOY7dWSw"]  # as RabbitMQ calls it
    client.drop()
    sender = connected(broker)
    sender.send("SEND", b"meanwhile", destination="/topic/d")
    client = connected(broker)
    client.send("SUBSCRIBE", **headers)
    assert client.bodies() == [b"meanwhile"]
    client.send("UNSUBSCRIBE", id="3", durable="true")
    assert not broker.virtual_host.queues
    client.send("SUBSCRIBE", destination="/topic/d", persistent="true")
    assert client.error() == ("Missing Header", "Header 'id' is required for durable subscriptions")


def test_a_queue_of_a_name_of_ones_own_is_left_alone_when_the_subscription_fails(broker: MemoryBroker) -> None:
    Client(broker).open().channel().declare("mine", auto_delete=True)
    client = connected(broker)
    client.send("SUBSCRIBE", id="1", destination="/topic/a", x_queue_name="mine", x_priority="300000000000000000000")
    assert client.read()[0].command == "ERROR"
    assert "mine" in broker.virtual_host.queues
    guest = broker.users.get("guest")
    assert guest is not None
    before = guest.permissions["/"]
    guest.permissions["/"] = Permission(Pattern(".*"), Pattern(".*"), Pattern("amq[.]topic"))
    for name in ("mine", "mi\nne"):  # AMQP drops line breaks from names
        connected(broker).send("SUBSCRIBE", id="1", destination="/topic/a", x_queue_name=name, auto_delete="true")
        assert "mine" in broker.virtual_host.queues
    guest.permissions["/"] = before
    client = connected(broker)
    client.send("SUBSCRIBE", id="1", destination="/topic/a", x_queue_name="mine")
    client.send("SEND", b"x", destination="/topic/a")
    assert client.bodies() == [b"x"]


def test_who_consumes_a_queue_that_is_deleted_is_told(broker: MemoryBroker) -> None:
    client = connected(broker)
    client.send("SUBSCRIBE", id="1", destination="/queue/q")
    broker.virtual_host.remove_queue(broker.queue("q"))
    broker.settle()
    frame = client.take()
    assert (frame.headers["message"], frame.headers["subscription"]) == ("Server cancelled subscription", "1")
    client.send("SUBSCRIBE", id="1", destination="/queue/q")
    client.send("SEND", b"x", destination="/queue/q")
    assert client.bodies() == [b"x"]


# --- replies


def test_replies_come_by_a_temporary_queue(broker: MemoryBroker) -> None:
    asks, answers = connected(broker), connected(broker)
    answers.send("SUBSCRIBE", id="0", destination="/queue/requests")
    asks.send("SEND", b"?", destination="/queue/requests", reply_to="/temp-queue/mine")
    asks.send("SEND", b"??", destination="/queue/requests", reply_to="/temp-queue/mine")
    first, second = answers.read()
    assert first.headers["reply-to"].startswith("/reply-queue/amq.gen-")
    assert first.headers["reply-to"] == second.headers["reply-to"]
    answers.send("SEND", b"!", destination=first.headers["reply-to"])
    (reply,) = asks.read()
    assert (reply.body, reply.headers["subscription"]) == (b"!", "/temp-queue/mine")
    asks.drop()
    assert list(broker.virtual_host.queues) == ["requests"]


def test_temporary_queues_are_nobodys_to_subscribe_to(broker: MemoryBroker) -> None:
    client = connected(broker)
    client.send("SUBSCRIBE", id="0", destination="/temp-queue/x")
    assert client.error() == ("Invalid destination", "'/temp-queue/x' is not a valid destination for 'SUBSCRIBE'\n")
    client.send("SUBSCRIBE", id="/temp-queue/x", destination="/queue/x")
    assert client.error()[0] == "Invalid destination"


# --- receipts and transactions


def test_a_full_queues_refusal_is_told_with_the_receipt(broker: MemoryBroker) -> None:
    client = connected(broker)
    channel = Client(broker).open().channel()
    channel.declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    for receipt in ("a", "b", "c"):
        client.send("SEND", b"x", destination="/amq/queue/full", receipt=receipt)
    answers = [(frame.command, frame.headers["receipt-id"]) for frame in client.read()]
    assert answers[:2] == [("RECEIPT", "a"), ("ERROR", "b")]


@pytest.mark.parametrize(
    ("command", "headers"),
    [
        ("SEND", {"destination": "nowhere/x"}),
        ("SEND", {}),
        ("SEND", {"destination": "/exchange/missing"}),
        ("SEND", {"destination": "/topic/a", "user_id": "somebody"}),
        ("SEND", {"destination": "/topic/a", "priority": "high"}),
        ("SEND", {"destination": "/topic/a", "transaction": "t"}),
        ("SUBSCRIBE", {"destination": "/amq/queue/missing", "id": "0"}),
        ("SUBSCRIBE", {"id": "0"}),
        ("SUBSCRIBE", {"destination": "/queue/a", "ack": "never"}),
        ("UNSUBSCRIBE", {"id": "7"}),
        ("ACK", {"id": "T_0@@session@@7"}),
        ("NACK", {}),
        ("BEGIN", {}),
        ("COMMIT", {"transaction": "t"}),
        ("ABORT", {"transaction": "t"}),
        ("CONNECT", {}),
        ("HELLO", {}),
    ],
)
def test_an_error_names_the_receipt_of_its_frame(broker: MemoryBroker, command: str, headers: dict[str, str]) -> None:
    client = connected(broker)
    client.send(command, receipt="r", **headers)
    (error,) = client.read()
    assert (error.command, error.headers["receipt-id"]) == ("ERROR", "r")
    client = connected(broker)
    client.send(command, **headers)
    (error,) = client.read()
    assert "receipt-id" not in error.headers


@pytest.mark.parametrize(("of_commit", "said"), [({"receipt": "commit"}, "commit"), ({}, "second")])
def test_the_error_of_a_commit_names_its_receipt_or_that_of_the_frame_that_cannot_be_done(
    broker: MemoryBroker, of_commit: dict[str, str], said: str
) -> None:
    client = connected(broker)
    client.send("BEGIN", transaction="t")
    client.send("SEND", destination="/queue/a", transaction="t", receipt="first")
    client.send("SEND", destination="/topic/a", priority="high", transaction="t", receipt="second")
    client.send("COMMIT", transaction="t", **of_commit)
    assert [(frame.command, frame.headers["receipt-id"]) for frame in client.read()] == [("ERROR", said)]
    assert "a" not in broker.virtual_host.queues or broker.queue("a").ready_count == 0


def test_nothing_follows_an_error_that_ends_the_connection_and_what_came_before_is_answered(
    broker: MemoryBroker,
) -> None:
    client = connected(broker)
    frames = [("SEND", "/topic/a"), ("SEND", "/topic/a"), ("SEND", "/exchange/missing"), ("SEND", "/topic/a")]
    client.write(
        b"".join(
            frame_bytes(command, destination=path, receipt=str(number)) for number, (command, path) in enumerate(frames)
        )
    )
    heard = [(frame.command, frame.headers["receipt-id"]) for frame in client.read()]
    assert heard == [("RECEIPT", "0"), ("RECEIPT", "1"), ("ERROR", "2")]
    assert client.is_closed


def test_what_a_transaction_holds_is_done_at_its_commit(broker: MemoryBroker) -> None:
    client, ids = three(broker, "client-individual")
    client.send("BEGIN", transaction="t", receipt="begun")
    client.send("SEND", b"4", destination="/queue/other", transaction="t", receipt="sent")
    client.send("ACK", id=ids[0], transaction="t")
    client.send("NACK", id=ids[1], transaction="t", requeue="false")
    assert [frame.headers["receipt-id"] for frame in client.read()] == ["begun"]
    assert broker.queue("q").unacknowledged_count == 3
    client.send("COMMIT", transaction="t", receipt="done")
    assert [frame.headers["receipt-id"] for frame in client.read()] == ["sent", "done"]
    assert [message.body for message in broker.queue("other").messages()] == [b"4"]
    assert left(client) == [b"3"]


def test_a_transaction_may_acknowledge_a_delivery_more_than_once(broker: MemoryBroker) -> None:
    client, ids = three(broker, "client")
    client.send("BEGIN", transaction="t")
    for number in (1, 0, 1):
        client.send("ACK", id=ids[number], transaction="t")
    client.send("COMMIT", transaction="t", receipt="r")
    assert client.take().headers == {"receipt-id": "r"}
    assert left(client) == [b"3"]


class SlowJudge:
    """Allows everything, and must be asked for each topic first."""

    def __init__(self) -> None:
        self.question_count = 0
        self.waiting: list[tuple[str, Callable[[], None]]] = []
        self.decided: set[str] = set()

    def may_enter(self, virtual_host: str) -> bool:
        return True

    def may_access(self, virtual_host: str, kind: str, name: str, permission: str) -> bool:
        return True

    def may_use_topic(
        self, virtual_host: str, exchange: str, routing_key: str, permission: str, client_id: str | None
    ) -> bool:
        self.question_count += 1
        if routing_key not in self.decided:
            raise NotDecidedYet(lambda go_on: self.waiting.append((routing_key, go_on)))
        return True

    def decide(self) -> None:
        routing_key, go_on = self.waiting.pop()
        self.decided = {routing_key}  # and what was decided before is not remembered
        go_on()


def test_a_commit_that_must_ask_for_each_message_goes_on_where_it_was(broker: MemoryBroker) -> None:
    client = connected(broker)
    judge = SlowJudge()
    client.connection.client.user.judge = judge
    count = 2 * TARGETS_MAX
    client.send("BEGIN", transaction="t")
    for number in range(count):
        client.send("SEND", b"m", transaction="t", destination=f"/topic/{number}", receipt=str(number))
    client.send("COMMIT", transaction="t", receipt="done")
    for _ in range(count):
        broker.handle(judge.decide)
    assert [client.take().headers["receipt-id"] for _ in range(count + 1)] == [*map(str, range(count)), "done"]
    assert judge.question_count == 2 * count


def test_a_commit_is_not_confirmed_where_a_full_queue_refuses_a_message(broker: MemoryBroker) -> None:
    client = connected(broker)
    channel = Client(broker).open().channel()
    channel.declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.declare("other")
    for transaction in ("s", "t"):
        client.send("BEGIN", transaction=transaction)
        for queue in ("full", "full", "other"):
            client.send("SEND", b"m", destination=f"/amq/queue/{queue}", transaction=transaction)
    client.send("COMMIT", transaction="s", receipt="done")
    assert [(frame.command, frame.headers["receipt-id"]) for frame in client.read()] == [("ERROR", "done")]
    client.send("COMMIT", transaction="t")
    assert client.read() == []
    assert (channel.message_count("full"), channel.message_count("other")) == (1, 2)
    assert not client.is_closed


def test_an_aborted_transaction_never_was(broker: MemoryBroker) -> None:
    client, ids = three(broker, "client")
    client.send("BEGIN", transaction="t")
    client.send("SEND", b"4", destination="/queue/q", transaction="t")
    client.send("ACK", id=ids[2], transaction="t")
    client.send("ABORT", transaction="t")
    client.send("COMMIT", transaction="t")
    assert client.error() == ("Bad transaction", 'Invalid transaction identifier: "t"\n')
    assert left(client) == [b"1", b"2", b"3"]


def test_a_transaction_with_a_mistake_in_it_does_nothing(broker: MemoryBroker) -> None:
    client, ids = three(broker, "client-individual")
    client.send("BEGIN", transaction="t")
    client.send("SEND", b"4", destination="/queue/q", transaction="t")
    client.send("ACK", id=ids[0], transaction="t")
    client.send("SEND", b"5", destination="/exchange/nowhere", transaction="t")
    client.send("COMMIT", transaction="t", receipt="r")
    assert client.error()[0] == "not_found"
    assert client.is_closed
    assert left(client) == [b"1", b"2", b"3"]


def test_transactions_need_their_names(broker: MemoryBroker) -> None:
    client = connected(broker)
    for command in ("BEGIN", "COMMIT", "ABORT"):
        client.send(command)
        assert client.error() == ("Missing transaction", f"\"{command}\" must include a 'transaction' header\n")
    client.send("SEND", b"x", destination="/queue/q", transaction="never begun")
    assert client.error()[0] == "Bad transaction"
    client.send("NOTHING")
    assert client.error() == ("Bad command", 'Could not interpret command "NOTHING"\n')


# --- heart-beats, the end


def test_heart_beats_go_both_ways(broker: MemoryBroker) -> None:
    client = connected(broker, heart_beat="1000,1000")
    assert b"".join(client.connection.take_output()) == b""
    broker.advance(500)
    assert b"".join(client.connection.take_output()) == b"\n"
    client.connection.output_sent(1)
    broker.advance(1_400)
    client.write(b"\n")
    broker.advance(1_900)
    assert not client.is_closed
    broker.advance(200)
    assert client.is_closed
    assert client.connection.close_reason == "missed heart-beats from client, timeout: 2s"


def test_disconnect_is_answered_when_all_before_it_is_kept(broker: MemoryBroker) -> None:
    client = connected(broker)
    client.send("SEND", b"x", destination="/queue/q", persistent="true", receipt="1")
    client.send("DISCONNECT", receipt="2")
    assert [frame.headers["receipt-id"] for frame in client.read()] == ["1", "2"]
    assert client.is_closed
    client = connected(broker)
    client.send("DISCONNECT")
    assert (client.read(), client.is_closed) == ([], True)


def test_a_broker_that_ends_says_so(broker: MemoryBroker) -> None:
    client = connected(broker)
    client.connection.shut_down("the broker is shut down")
    assert client.error() == ("connection_forced", "CONNECTION_FORCED - the broker is shut down")
    assert client.is_closed


def test_it_describes_itself(broker: MemoryBroker) -> None:
    client, _ = three(broker, "client")
    info = client.connection.inspect()
    assert (info["protocol"], info["user"], info["vhost"]) == ("STOMP 1.2", "guest", "/")
    assert info["client_properties"] == {"product": "STOMP client"}
    channel = client.connection.inspect_channel()
    assert (channel["consumer_count"], channel["messages_unacknowledged"]) == (1, 3)


def test_who_was_not_read_is_heard_before_it_is_given_up(broker: MemoryBroker) -> None:
    client = connected(broker, heart_beat="1000,1000")
    broker.alarms.set(Resource.MEMORY, True)
    client.send("SEND", b"x", destination="/queue/q")
    broker.advance(60_000)
    broker.alarms.set(Resource.MEMORY, False)
    broker.advance(1_900)
    assert not client.is_closed
    broker.advance(1_100)
    assert client.is_closed


def test_an_alarm_holds_back_who_sends(broker: MemoryBroker) -> None:
    broker.alarms.set(Resource.MEMORY, True)
    client = connected(broker)
    client.send("SEND", b"1", destination="/queue/q")
    client.send("SEND", b"2", destination="/queue/q")
    assert client.connection.is_reading_paused
    broker.alarms.set(Resource.MEMORY, False)
    assert not client.connection.is_reading_paused


def test_what_a_frame_costs_does_not_depend_on_those_behind_it() -> None:
    looked_at = 0

    class Watched(bytes):
        """Bytes that count how far they are searched."""

        def find(self, *arguments: Any) -> int:
            nonlocal looked_at
            found = super().find(*arguments)
            start = arguments[1] if len(arguments) > 1 else 0
            end = arguments[2] if len(arguments) > 2 else len(self)
            looked_at += (found if found >= 0 else end) - start
            return found

    data = b"SEND\ndestination:/queue/a\n\nbody\0" * 200 + b"SEND\r\ndestination:/queue/a\r\n\r\nbody\0" * 200
    assert len(list(FrameSplitter(1_000).split(Watched(data)))) == 400
    assert looked_at < 4 * len(data)


@pytest.mark.parametrize(
    "frames",
    [
        [frame_bytes("SUBSCRIBE", id=str(number), destination="/topic/a") for number in range(500)],
        [frame_bytes("SEND", destination=f"/queue/{number}") for number in range(500)],
        [frame_bytes("NOTHING")] * 500,
    ],
    ids=["subscriptions", "declarations", "mistakes"],
)
def test_who_asks_for_much_waits_for_its_turn(broker: MemoryBroker, frames: list[bytes]) -> None:
    client = connected(broker)
    with broker.holding_works():
        client.write(b"".join(frames))
        assert client.connection.is_reading_paused
    assert not client.connection.is_reading_paused


def test_a_frame_in_very_many_pieces_is_put_together() -> None:
    splitter = FrameSplitter(1_000)
    data = b"SEND\n" + b"a:b\n" * 500
    for one in data:
        assert not list(splitter.split(bytes((one,))))
    (frame,) = splitter.split(b"\nbody\0")
    assert (frame.command, frame.headers, frame.body) == ("SEND", {"a": "b"}, b"body")
    assert splitter.missing_bytes == 0


def test_a_header_of_a_message_does_not_say_what_its_frame_says(broker: MemoryBroker) -> None:
    client = connected(broker)
    client.send("SUBSCRIBE", id="0", destination="/queue/a")
    channel = Client(broker).open().channel()
    theirs = ("ack", "content-length", "destination", "message-id", "redelivered", "subscription")
    channel.publish("", "a", b"whole", headers={**dict.fromkeys(theirs, "1"), "note": "n"})
    (message,) = client.read()
    assert message.body == b"whole"
    assert dict(message.headers) == {
        "subscription": "0",
        "destination": "/queue/a",
        "message-id": f"T_0@@{client.connection.session_id}@@1",
        "redelivered": "false",
        "note": "n",
        "content-length": "5",
    }


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_what_amqp_says_and_stomp_cannot_is_left_out_and_harms_nobody(broker: MemoryBroker, version: str) -> None:
    """An AMQP client's names and texts may be any bytes; a client of STOMP reads UTF-8, and may end where it cannot."""
    client = connected(broker, version)
    client.send("SUBSCRIBE", id="0", destination="/topic/#")
    bad, nul = "t\udcff", "t\0"

    def publish(routing_key: str, **fields: Any) -> None:
        header = encode_content_header(1, Properties(**fields))
        exchange = broker.virtual_host.exchanges["amq.topic"]
        ingress = broker.virtual_host.ingress
        broker.handle(lambda: ingress.publish(exchange, routing_key, header, b"m", digest_of(header)))

    for text in (bad, nul):
        publish("a", headers={"own": text})
        publish("a", headers={text: "value"})
        texts = ("content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "type", "user_id")
        publish("a", **dict.fromkeys((*texts, "app_id"), text))
    publish("a", headers={"": "nameless", "bytes": b"\xff", "table": {"a": 1}, "nothing": None})
    publish("a.\udcff/\0\n")
    *plain, last = client.read()
    allowed = {"subscription", "destination", "message-id", "redelivered", "content-length"}
    assert [(one.body, one.headers["destination"], set(one.headers) - allowed) for one in plain] == [
        (b"m", "/topic/a", set())
    ] * 7
    assert last.headers["destination"] == "/topic/a.%FF%2F%00%0A"
    assert not client.is_closed
