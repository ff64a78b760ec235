"""The connection: protocol header, start, tune, open, close, heartbeats, and what is wrong with a frame."""

from __future__ import annotations

import struct
import time
from itertools import pairwise

import pytest

from interop.codec import encode_content_header, encode_method, encode_table
from interop.raw_client import (
    BODY,
    END_TIMEOUT_S,
    HEADER,
    METHOD,
    NO_CAUSE,
    Basic,
    Channel,
    Client,
    Connection,
    Queue,
    T,
)
from interop.under_test import BrokerUnderTest
from interop.waiting import until

CAPABILITIES = {
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
}


def to_tune(broker: BrokerUnderTest) -> Client:
    """A connection that has received connection.tune."""
    client = broker.socket()
    client.begin()
    client.send_start_ok()
    client.expect_tune()
    return client


# Protocol header


@pytest.mark.parametrize(
    "header",
    [b"AMQP\x00\x00\x08\x00", b"AMQP\x00\x00\x09\x00", b"HTTP/1.1"],
    ids=["0-8", "0-9", "no amqp"],
)
def test_wrong_protocol_header_is_answered_with_the_right_one(broker: BrokerUnderTest, header: bytes) -> None:
    client = broker.socket()
    client.send_header(header)
    if broker.differs("protocols-of-4"):
        client.expect_bytes(b"AMQP\x00\x00\x09\x01")
        client.expect_end()


def test_header_of_0_9_is_taken_as_0_9_1(broker: BrokerUnderTest) -> None:
    client = broker.socket()
    client.send_header(b"AMQP\x01\x01\x00\x09")
    start = client.expect(Connection.Start)
    assert (start.version_major, start.version_minor) == (0, 9)


@pytest.mark.parametrize("version", [b"\x08\x00", b"\x09\x01"], ids=["8-0", "9-1"])
def test_header_of_0_8(broker: BrokerUnderTest, version: bytes) -> None:
    client = broker.socket()
    client.send_header(b"AMQP\x01\x01" + version)
    if broker.differs("amqp-0-8"):
        client.expect_bytes(b"AMQP\x00\x00\x09\x01")
        client.expect_end()
    elif broker.version < (4, 0):
        start = client.expect(Connection.Start)
        assert (start.version_major, start.version_minor) == (8, 0)


# connection.start


def test_start(broker: BrokerUnderTest) -> None:
    start = broker.socket().begin()
    assert (start.version_major, start.version_minor) == (0, 9)
    anonymous = [] if broker.differs("protocols-of-4") else ["ANONYMOUS"]
    # RabbitMQ's order changes from node to node.
    assert sorted(start.mechanisms.split()) == sorted(["AMQPLAIN", "PLAIN", *anonymous])
    assert start.locales == "en_US"


def test_server_properties(broker: BrokerUnderTest) -> None:
    """kombu, and so Celery, choose their code by product and version; aiormq indexes the capabilities."""
    start = broker.socket().begin()
    properties = start.typed["server_properties"]
    assert properties["product"] == T("S", "RabbitMQ")
    assert properties["version"].value.startswith(f"{broker.choice.series}.")
    assert {name: properties[name].tag for name in ("platform", "copyright", "information", "cluster_name")} == {
        "platform": "S",
        "copyright": "S",
        "information": "S",
        "cluster_name": "S",
    }


def test_capabilities_of_the_server(broker: BrokerUnderTest) -> None:
    capabilities = broker.socket().begin().typed["server_properties"]["capabilities"]
    assert capabilities == T("F", dict.fromkeys(CAPABILITIES, T("t", True)))


# Authentication


def test_login_with_amqplain(broker: BrokerUnderTest) -> None:
    broker.connect(mechanism="AMQPLAIN").channel().sync()


def test_wrong_password_with_the_capability_is_told(broker: BrokerUnderTest) -> None:
    client = broker.socket()
    client.begin()
    client.send_start_ok(password="wrong", capabilities={"authentication_failure_close": True})
    client.expect_connection_close(
        403,
        "Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
        cause=NO_CAUSE,
        then="stay",
    )


def test_wrong_password_by_amqplain_names_that_mechanism(broker: BrokerUnderTest) -> None:
    client = broker.socket()
    client.begin()
    client.send_start_ok(user="nobody", mechanism="AMQPLAIN")
    client.expect_connection_close(
        403,
        "Login was refused using authentication mechanism AMQPLAIN. For details see the broker logfile.",
        cause=NO_CAUSE,
        then="stay",
    )


def test_wrong_password_without_the_capability_is_silence(broker: BrokerUnderTest) -> None:
    client = broker.socket()
    client.begin()
    client.send_start_ok(password="wrong", capabilities={})
    client.nothing_within(0.2)


def test_the_socket_of_a_refused_login_ends_after_the_goodbye(broker: BrokerUnderTest) -> None:
    client = broker.socket()
    client.begin()
    client.send_start_ok(password="wrong")
    client.take(Connection.Close)
    client.send(Connection.CloseOk)
    client.expect_end()


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "EXTERNAL", "plain", ""])
def test_mechanism_that_is_not_offered_is_silence(broker: BrokerUnderTest, mechanism: str) -> None:
    client = broker.socket()
    client.begin()
    client.send_start_ok(mechanism=mechanism)
    client.nothing_within(0.1)


def test_malformed_plain_response_is_silence(broker: BrokerUnderTest) -> None:
    client = broker.socket()
    client.begin()
    client.send_start_ok(response=b"guest guest")
    client.nothing_within(0.1)


def test_plain_response_with_an_authorisation_identity_is_refused(broker: BrokerUnderTest) -> None:
    client = broker.socket()
    client.begin()
    client.send_start_ok(response=b"guest\0guest\0guest")
    client.nothing_within(0.1)


def test_client_properties_may_hold_anything(broker: BrokerUnderTest) -> None:
    client = broker.connect(
        client_properties={
            "capabilities": {"basic.nack": False, "unknown": T("V", None)},
            "list": [1, T("D", (2, 314)), T("x", b"\0\xff")],
            "connection_name": "a name",
        }
    )
    client.channel().sync()


def test_client_properties_without_capabilities(broker: BrokerUnderTest) -> None:
    broker.connect(client_properties={}).channel().sync()


# connection.tune


def test_tune(broker: BrokerUnderTest) -> None:
    tune = to_tune(broker).tune
    assert tune is not None
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"channel_max": 2048}, "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)"),
        ({"channel_max": 0}, "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"),
        ({"frame_max": 131073}, "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"),
        ({"frame_max": 0}, "negotiated frame_max = 0 (no limit) is higher than the maximum allowed value (131072)"),
        ({"frame_max": 4095}, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
    ],
    ids=["channels above", "channels unlimited", "frame above", "frame unlimited", "frame below"],
)
def test_tune_ok_outside_the_limits(broker: BrokerUnderTest, asked: dict[str, int], text: str) -> None:
    client = to_tune(broker)
    client.send_tune_ok(**asked)
    if broker.differs("tune-refusal"):
        client.expect_connection_close(530, text, cause=Connection.Tune)
    else:
        client.nothing_within(0.1)


def test_smallest_frames_are_accepted_and_kept_to(broker: BrokerUnderTest, q: str) -> None:
    """The client checks that no frame it gets is over frame_max."""
    ch = broker.connect(frame_max=4096, channel_max=1).channel()
    body = bytes(range(256)) * 64
    ch.declare(q)
    ch.publish("", q, body)
    assert ch.get_one(q).body == body


def test_channel_max_limits_the_count_and_not_the_number(broker: BrokerUnderTest) -> None:
    client = broker.connect(channel_max=2)
    client.channel(1)
    client.channel(5000)
    client.channel(7, opened=False).send(Channel.Open)
    client.expect_connection_close(
        530, "number of channels opened (2) has reached the negotiated channel_max (2)", cause=NO_CAUSE
    )


def test_a_closed_channel_no_longer_counts(broker: BrokerUnderTest) -> None:
    client = broker.connect(channel_max=1)
    client.channel(1).call(Channel.Close, reply_code=200, reply_text="done")
    client.channel(2).sync()


# connection.open


def test_virtual_host_that_is_not_there(broker: BrokerUnderTest) -> None:
    client = to_tune(broker)
    client.send_tune_ok()
    client.send(Connection.Open, virtual_host="no such host")
    client.expect_connection_close(530, "vhost no such host not found", cause=Connection.Open)


def test_virtual_host_with_an_empty_name(broker: BrokerUnderTest) -> None:
    client = to_tune(broker)
    client.send_tune_ok()
    client.send(Connection.Open, virtual_host="")
    client.expect_connection_close(530, "vhost  not found", cause=Connection.Open)


def test_open_ok(client: Client) -> None:
    assert client.transcript[-1] == ("<", 0, "Connection.OpenOk", {"known_hosts": ""})


# Methods in a wrong state


@pytest.mark.parametrize("method", [Connection.Open, Connection.StartOk, Connection.TuneOk, Connection.SecureOk])
def test_handshake_method_on_an_open_connection(client: Client, method: type[Connection.Open]) -> None:
    client.send(method)
    client.expect_connection_close(504, "unexpected method in connection state running", cause=method)


@pytest.mark.parametrize("method", [Queue.Declare, Channel.Open, Basic.Ack, Connection.CloseOk])
def test_method_of_a_channel_on_channel_0(client: Client, method: type[Queue.Declare]) -> None:
    client.send(method)
    client.expect_connection_close(504, "unexpected method in connection state running", cause=method)


def test_method_before_the_connection_is_open_is_silence(broker: BrokerUnderTest) -> None:
    client = to_tune(broker)
    client.send(Connection.Open, virtual_host="/")
    client.nothing_within(0.1)


def test_channel_before_the_connection_is_open_is_silence(broker: BrokerUnderTest) -> None:
    client = to_tune(broker)
    client.send(Channel.Open, channel=1)
    client.nothing_within(0.1)


# connection.close


def test_close(client: Client) -> None:
    client.channel()
    client.channel()
    client.call(Connection.Close, reply_code=200, reply_text="bye")


def test_what_was_published_before_close_is_kept(broker: BrokerUnderTest, client: Client, q: str) -> None:
    ch = client.channel()
    ch.declare(q)
    ch.publish("", q, b"last words")
    client.call(Connection.Close, reply_code=200, reply_text="bye")
    assert broker.channel().get_one(q).body == b"last words"


def test_close_needs_no_reply_code(client: Client) -> None:
    client.call(Connection.Close, reply_code=0, reply_text="", class_id=10, method_id=99)


def test_methods_after_a_connection_error_are_ignored(broker: BrokerUnderTest, client: Client, q: str) -> None:
    ch = client.channel()
    client.send(Connection.Open)
    ch.send(Queue.Declare, queue=q)
    client.expect_connection_close(504, "unexpected method in connection state running")
    other = broker.channel()
    other.send(Queue.Declare, queue=q, passive=True)
    other.expect_close(404, f"no queue '{q}' in vhost '/'")


def test_close_that_crosses_the_brokers_close_is_answered(client: Client) -> None:
    client.send(Connection.Open)
    client.take(Connection.Close)
    client.call(Connection.Close, reply_code=200, reply_text="bye")
    client.send(Connection.CloseOk)
    client.expect_end()


def test_each_close_is_answered_and_the_socket_is_left_to_the_client(client: Client) -> None:
    with client.in_one_write():
        for _ in range(3):
            client.send(Connection.Close, reply_code=200, reply_text="bye")
        client.send_frame(BODY, 0, b"stray")
        client.send_frame(METHOD, 1, encode_method(Queue.Declare, {"queue": "late"}))
    for _ in range(3):
        client.expect(Connection.CloseOk)
    client.nothing_within(0.3)
    assert not client.ended
    client.send(Connection.Close, reply_code=200, reply_text="bye")
    client.expect(Connection.CloseOk)


@pytest.mark.parametrize("who", ["client", "broker"])
def test_the_end_after_a_close_takes_no_longer_than_the_heartbeat(broker: BrokerUnderTest, who: str) -> None:
    client = broker.connect(heartbeat=1)
    if who == "client":
        client.call(Connection.Close, reply_code=200, reply_text="bye")
    else:
        client.channel().send(Channel.Flow, active=False)
        client.take(Connection.Close)
    client.expect_end(within_s=END_TIMEOUT_S)


# connection.update-secret


def test_update_secret(client: Client) -> None:
    client.call(Connection.UpdateSecret, new_secret="secret", reason="it was due")
    client.channel().sync()


# Heartbeats


def test_heartbeats_and_what_happens_without_them(broker: BrokerUnderTest) -> None:
    """The broker sends them at half the interval or so, and hangs up on a client that is silent for two of them."""
    client = broker.connect(heartbeat=1)
    client.expect_end()
    assert ("<", 0, "Heartbeat", None) in client.transcript
    assert not [entry for entry in client.transcript if entry[2] == "Connection.Close"]


def test_heartbeats_come_twice_in_each_interval(broker: BrokerUnderTest) -> None:
    """Once in each, they would be two seconds apart. A busy machine is late with some of them, and early with none."""
    begun_s = time.monotonic()
    client = broker.connect(heartbeat=2)
    came_s: list[float] = []

    def five_have_come() -> bool:
        client.send_heartbeat()  # who is silent is given up
        client.nothing_within(0.05)
        count = client.transcript.count(("<", 0, "Heartbeat", None))
        came_s.extend([time.monotonic()] * (count - len(came_s)))
        return count >= 5

    until(five_have_come)
    assert came_s[4] - begun_s > 4.9
    assert min(later - earlier for earlier, later in pairwise(came_s)) < 1.5


def test_heartbeats_are_accepted_where_none_were_agreed(client: Client) -> None:
    client.send_heartbeat()
    client.channel().sync()


def test_heartbeat_on_another_channel(client: Client) -> None:
    client.channel()
    client.send_heartbeat(channel=1)
    client.expect_connection_close(505, "type 8, all octets = <<>>", cause=NO_CAUSE)


# Frames


def test_unknown_frame_type(client: Client) -> None:
    client.send_frame(9, 0, b"")
    client.expect_connection_close(501, "type 9, all octets = <<>>: unknown_frame", cause=NO_CAUSE)


def test_unknown_frame_type_with_text_on_a_channel(client: Client) -> None:
    client.channel()
    client.send_frame(200, 1, b"hello")
    client.expect_connection_close(501, 'type 200, all octets = <<"hello">>: unknown_frame', cause=NO_CAUSE)


def test_long_payloads_are_shown_in_part(client: Client) -> None:
    client.send_frame(9, 0, bytes(range(20)))
    client.expect_connection_close(
        501,
        "type 9, first 16 octets = <<0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15>>: unknown_frame",
        cause=NO_CAUSE,
    )


@pytest.mark.parametrize(("kind", "name"), [(HEADER, "2"), (BODY, "3")], ids=["header", "body"])
def test_content_on_channel_0(client: Client, kind: int, name: str) -> None:
    payload = struct.pack(">HHQH", 60, 0, 1, 0)
    client.send_frame(kind, 0, payload)
    client.expect_connection_close(505, f"type {name}, all octets = <<0,60,0,0,0,0,0,0,0,0,0,1,0,0>>", cause=NO_CAUSE)


def test_wrong_frame_end(client: Client) -> None:
    client.send_frame(METHOD, 0, encode_method(Connection.CloseOk, {}), end=b"\x00")
    client.expect_connection_close(
        501, "type 1, all octets = <<0,10,0,51>>: {invalid_frame_end_marker,0}", cause=NO_CAUSE, then="stay"
    )


def test_frame_over_frame_max(broker: BrokerUnderTest) -> None:
    client = broker.connect(frame_max=4096)
    client.send_bytes(struct.pack(">BHI", METHOD, 0, 4097))
    client.expect_connection_close(
        501, "type 1, all octets = <<>>: {frame_too_large,4097,4088}", cause=NO_CAUSE, then="stay"
    )


def test_frame_may_be_8_bytes_over_frame_max(broker: BrokerUnderTest, q: str) -> None:
    client = broker.connect(frame_max=4096)
    ch = client.channel()
    ch.declare(q)
    body = b"x" * 4096
    client.frame_max_bytes = 4104
    ch.publish("", q, body)
    client.frame_max_bytes = 4096
    assert ch.get_one(q).body == body


def test_unknown_method_ends_the_connection_without_a_word(client: Client) -> None:
    client.channel()
    client.send_frame(METHOD, 1, struct.pack(">HH", 99, 1))
    client.expect_end()


def test_unknown_method_of_a_known_class_ends_the_connection_without_a_word(client: Client) -> None:
    client.channel()
    client.send_frame(METHOD, 1, struct.pack(">HH", 60, 999))
    client.expect_end()


def test_method_that_is_cut_short(client: Client) -> None:
    client.channel()
    client.send_frame(METHOD, 1, encode_method(Queue.Declare, {"queue": "q"})[:-4])
    client.expect_connection_close(501, "cannot decode <<0,0,1,113,0>>", cause=Queue.Declare)


def test_method_with_bytes_after_it(client: Client) -> None:
    client.channel()
    client.send_frame(METHOD, 1, encode_method(Basic.Qos, {}) + b"!")
    client.expect_connection_close(501, "cannot decode <<0,0,0,0,0,0,0,33>>", cause=Basic.Qos)


def test_name_that_is_not_utf_8(client: Client) -> None:
    ch = client.channel()
    ch.send(Queue.Declare, queue=b"\xff\xfe")
    client.expect_connection_close(501, "Malformed UTF-8 in shortstr", cause=NO_CAUSE)


def test_table_with_an_unknown_tag(client: Client) -> None:
    ch = client.channel()
    ch.send(Queue.Declare, queue="q", arguments=b"\x01a" + b"Q\0")
    client.expect_end()


def test_table_in_client_properties_is_cut_short(broker: BrokerUnderTest) -> None:
    client = broker.socket()
    client.begin()
    client.send_start_ok(client_properties=encode_table({"a": "b"})[4:-1])  # type: ignore[arg-type]
    client.nothing_within(0.1)


def test_table_name_that_is_not_utf_8_is_accepted(client: Client) -> None:
    ch = client.channel()
    ch.send(Queue.Declare, queue="", exclusive=True, arguments={b"\xff\xfe": 1})
    assert ch.next().name == "Queue.DeclareOk"


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_frames_may_come_in_pieces(client: Client, q: str, count: int) -> None:
    """A declare, a publish and a get, cut anywhere."""
    ch = client.channel()
    payloads = [
        (METHOD, encode_method(Queue.Declare, {"queue": q})),
        (METHOD, encode_method(Basic.Publish, {"routing_key": q})),
        (HEADER, encode_content_header(4, {"message_id": "m"})),
        (BODY, b"body"),
        (METHOD, encode_method(Basic.Get, {"queue": q, "no_ack": True})),
    ]
    raw = b"".join(struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce" for kind, payload in payloads)
    for start in range(0, len(raw), count):
        client.send_bytes(raw[start : start + count])
    ch.expect(Queue.DeclareOk)
    assert ch.expect(Basic.GetOk).body == b"body"
