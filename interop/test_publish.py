"""basic.publish: bodies, properties, mandatory, CC and BCC, what is refused, and publisher confirms."""

from __future__ import annotations

from typing import Any

import pytest

from interop.codec import PROPERTY_NAMES
from interop.raw_client import Basic, Channel, ChannelUnderTest, Client, Confirm, Connection, T, Tx
from interop.under_test import BrokerUnderTest

# Bodies and properties


@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 8176, 20000])
def test_body_of_any_size(broker: BrokerUnderTest, q: str, size: int) -> None:
    """Sizes around what fits in a frame of 4096 bytes."""
    ch = broker.channel(frame_max=4096)
    body = bytes(range(256)) * (size // 256 + 1)
    ch.declare(q)
    ch.publish("", q, body[:size])
    assert ch.get_one(q).body == body[:size]


def test_the_largest_message(broker: BrokerUnderTest, ch: ChannelUnderTest) -> None:
    """It is 16 MiB since 4.0. Before it is 128 MiB, which takes long to send: there as much as that is taken."""
    size = 16_777_216
    ch.publish("", "nowhere", bytes(size), mandatory=True)
    assert len(ch.take(Basic.Return).body) == size
    ch.publish("", "nowhere", bytes(size + 1), mandatory=True)
    if broker.version < (4, 0):
        assert len(ch.take(Basic.Return).body) == size + 1
    else:
        ch.expect_close(406, f"message size {size + 1} is larger than configured max size {size}", cause=Basic.Publish)


def test_bodies_are_split_by_the_receivers_frame_max(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    small = broker.channel(frame_max=4096)
    body = b"0123456789" * 30000
    ch.declare(q)
    ch.publish("", q, body)
    ch.depth(q)
    assert small.get_one(q).body == body


def test_all_properties_come_back(ch: ChannelUnderTest, q: str) -> None:
    properties: dict[str, Any] = {
        "content_type": "text/plain",
        "content_encoding": "gzip",
        "headers": {"a": T("I", 1)},
        "delivery_mode": 2,
        "priority": 7,
        "correlation_id": "correlation",
        "reply_to": "somewhere",
        "expiration": "60000",
        "message_id": "message",
        "timestamp": 1234567890123,
        "message_type": "type",
        "user_id": "guest",
        "app_id": "app",
        "cluster_id": "cluster",
    }
    assert set(properties) == set(PROPERTY_NAMES)
    ch.declare(q)
    ch.publish("", q, b"", **properties)
    assert ch.get_one(q).typed_properties == properties


def test_no_properties_come_back_as_none(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"")
    assert ch.get_one(q).typed_properties == {}


def test_empty_properties_are_kept(ch: ChannelUnderTest, q: str) -> None:
    properties: dict[str, Any] = {"content_type": "", "headers": {}, "priority": 0, "timestamp": 0}
    ch.declare(q)
    ch.publish("", q, b"", **properties)
    assert ch.get_one(q).typed_properties == properties


def test_types_of_header_values_are_kept(ch: ChannelUnderTest, q: str) -> None:
    headers = {
        "bool": T("t", True),
        "byte": T("b", -1),
        "unsigned byte": T("B", 255),
        "short": T("s", -2),
        "unsigned short": T("u", 65535),
        "int": T("I", -3),
        "unsigned int": T("i", 2**32 - 1),
        "long": T("l", -(2**63)),
        "float": T("f", 0.5),
        "double": T("d", 0.1),
        "decimal": T("D", (2, 314)),
        "text": T("S", "käse"),
        "not text": T("S", "\udcff"),
        "bytes": T("x", b"\0\xff"),
        "timestamp": T("T", 2**40),
        "void": T("V", None),
        "array": T("A", [T("I", 1), T("S", "x"), T("A", []), T("F", {})]),
        "table": T("F", {"inner": T("F", {"deep": T("t", False)})}),
        "": T("S", ""),
    }
    ch.declare(q)
    ch.publish("", q, b"", headers=headers)
    assert ch.get_one(q).typed_headers == headers


@pytest.mark.parametrize("delivery_mode", [0, 3, 255])
def test_delivery_mode_that_is_unknown(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, delivery_mode: int
) -> None:
    ch.declare(q)
    ch.publish("", q, b"", delivery_mode=delivery_mode)
    if broker.differs("unknown-delivery-mode"):
        ch.expect_close(406, f"invalid message: {{delivery_mode_unknown,{delivery_mode}}}", cause=Basic.Publish)
    else:
        ch.sync()


# mandatory and immediate


def test_mandatory_that_goes_nowhere_is_returned(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.declare_exchange(x)
    ch.publish(x, "key", b"body", mandatory=True, message_id="m", headers={"a": 1})
    returned = ch.expect(Basic.Return)
    assert (returned.reply_code, returned.reply_text) == (312, "NO_ROUTE")
    assert (returned.exchange, returned.routing_key, returned.body) == (x, "key", b"body")
    assert returned.properties == {"message_id": "m", "headers": {"a": 1}}


def test_what_goes_nowhere_is_dropped_without_mandatory(ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x)
    ch.publish(x, "key", b"body")
    ch.expect_nothing()


def test_return_comes_before_the_confirm(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.confirm()
    ch.publish("", "no such queue", b"", mandatory=True)
    assert ch.expect(Basic.Return).routing_key == "no such queue"
    assert ch.expect(Basic.Ack).delivery_tag == 1


def test_an_empty_body_is_returned_as_well(ch: ChannelUnderTest) -> None:
    ch.publish("", "no such queue", b"", mandatory=True)
    assert ch.expect(Basic.Return).body == b""


def test_immediate(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"", immediate=True)
    client.expect_connection_close(540, "immediate=true", cause=Basic.Publish)


# CC and BCC


def test_cc_and_bcc_are_routing_keys_too(broker: BrokerUnderTest, ch: ChannelUnderTest) -> None:
    first, second, third = (broker.queue_name(name) for name in ("first", "second", "third"))
    for queue in (first, second, third):
        ch.declare(queue)
    ch.publish("", first, b"body", headers={"CC": [second], "BCC": [third], "a": 1})
    for queue in (first, second, third):
        message = ch.get_one(queue)
        assert message.routing_key == first
        assert message.headers == {"CC": [second], "a": 1}


def test_bcc_alone_leaves_an_empty_table(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", "no such queue", b"body", headers={"BCC": [q]})
    message = ch.get_one(q)
    assert message.routing_key == "no such queue"
    assert message.typed_properties == {"headers": {}}


def test_one_copy_a_queue_whatever_the_keys(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"body", headers={"CC": [q, q], "BCC": [q]})
    assert ch.drain(q) == [b"body"]


def test_cc_counts_as_routed(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", "no such queue", b"body", mandatory=True, headers={"CC": [q]})
    ch.expect_nothing(q)


def test_cc_works_on_any_exchange(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.bind(q, "amq.topic", "a.*")
    ch.publish("amq.topic", "b", b"body", headers={"CC": ["a.b"]})
    assert ch.get_one(q).routing_key == "b"


def test_a_return_still_has_the_bcc_stripped(ch: ChannelUnderTest) -> None:
    ch.publish("", "nowhere", b"", mandatory=True, headers={"CC": ["nowhere 2"], "BCC": ["nowhere 3"]})
    assert ch.expect(Basic.Return).headers == {"CC": ["nowhere 2"]}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("CC", "text", '{unacceptable_type_in_header,"CC",longstr}'),
        ("BCC", T("I", 1), '{unacceptable_type_in_header,"BCC",signedint}'),
        ("CC", {"a": "b"}, '{unacceptable_type_in_header,"CC",table}'),
    ],
    ids=["text", "number", "table"],
)
def test_cc_of_a_wrong_type(ch: ChannelUnderTest, q: str, name: str, value: object, reason: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"", headers={name: value})
    ch.expect_close(406, f"invalid message: {reason}", cause=Basic.Publish)


def test_what_is_no_text_within_cc_is_skipped(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", "nowhere", b"body", headers={"CC": [1, True, q, T("V", None)]})
    assert ch.get_one(q).headers == {"CC": [1, True, q, None]}


# What is checked when it is published


def test_user_id_of_another(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"", user_id="bob")
    ch.expect_close(406, "user_id property set to 'bob' but authenticated user was 'guest'", cause=Basic.Publish)


def test_empty_user_id(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"", user_id="")
    ch.expect_close(406, "user_id property set to '' but authenticated user was 'guest'", cause=Basic.Publish)


@pytest.mark.parametrize(
    ("expiration", "reason"),
    [
        ("abc", "no_integer"),
        ("", "no_integer"),
        ("1.5", '{leftover_string,".5"}'),
        ("10 ", '{leftover_string," "}'),
        ("1s", '{leftover_string,"s"}'),
        ("-1", "{value_negative,-1}"),
        ("315360000001", "{value_too_large,315360000001}"),
    ],
)
def test_expiration_that_is_no_number_of_milliseconds(
    ch: ChannelUnderTest, q: str, expiration: str, reason: str
) -> None:
    ch.declare(q)
    ch.publish("", q, b"", expiration=expiration)
    ch.expect_close(406, f"invalid expiration '{expiration}': {reason}", cause=Basic.Publish)


@pytest.mark.parametrize("expiration", ["315360000000", "+60000", "0060000"])
def test_expiration_that_is_accepted(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, expiration: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"", expiration=expiration)
    expected = expiration if broker.differs("expiration-as-a-number") else str(int(expiration))
    assert ch.get_one(q).properties == {"expiration": expected}


def test_what_is_refused_is_not_queued(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"", user_id="bob")
    ch.take(Channel.Close)
    assert client.channel().depth(q) == (0, 0)


# Confirms


def test_confirms_count_from_1(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"before")
    ch.confirm()
    ch.publish("", q, b"first")
    ack = ch.expect(Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (1, False)
    ch.publish("", q, b"second")
    ack = ch.expect(Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (2, False)


def test_every_publish_is_confirmed(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.confirm()
    ch.publish_all(q, [b""] * 100)
    assert ch.await_confirms(100) == [(number, True) for number in range(1, 101)]


def test_persistent_messages_are_confirmed(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, durable=True)
    ch.confirm()
    ch.publish_all(q, [b""] * 20, delivery_mode=2)
    assert ch.await_confirms(20) == [(number, True) for number in range(1, 21)]
    assert ch.depth(q) == (20, 0)


def test_unroutable_messages_are_confirmed(ch: ChannelUnderTest) -> None:
    ch.confirm()
    ch.publish("", "no such queue", b"")
    assert ch.expect(Basic.Ack).delivery_tag == 1


def test_messages_to_several_queues_are_confirmed_once(broker: BrokerUnderTest, ch: ChannelUnderTest, x: str) -> None:
    ch.declare_exchange(x, "fanout")
    for name in ("a", "b", "c"):
        ch.declare(broker.queue_name(name))
        ch.bind(broker.queue_name(name), x)
    ch.confirm()
    ch.publish(x, "", b"")
    assert ch.expect(Basic.Ack).delivery_tag == 1
    ch.expect_nothing()


def test_a_refused_publish_has_no_confirm(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.declare(q)
    ch.confirm()
    ch.publish("", q, b"")
    assert ch.expect(Basic.Ack).delivery_tag == 1
    ch.publish(x, q, b"")
    ch.expect_close(404, f"no exchange '{x}' in vhost '/'")


def test_confirm_select_may_be_repeated(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.confirm()
    ch.publish("", q, b"")
    assert ch.expect(Basic.Ack).delivery_tag == 1
    ch.confirm()
    ch.publish("", q, b"")
    assert ch.expect(Basic.Ack).delivery_tag == 2


def test_confirm_select_without_waiting(ch: ChannelUnderTest) -> None:
    ch.send(Confirm.Select, nowait=True)
    ch.publish("", "no such queue", b"")
    assert ch.expect(Basic.Ack).delivery_tag == 1


def test_counting_starts_again_on_a_channel_that_is_opened_again(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.confirm()
    ch.publish("", q, b"")
    ch.expect(Basic.Ack)
    other = client.channel()
    other.confirm()
    other.publish("", q, b"")
    assert other.expect(Basic.Ack).delivery_tag == 1


def test_confirm_on_a_channel_with_transactions(ch: ChannelUnderTest) -> None:
    ch.call(Tx.Select)
    ch.send(Confirm.Select)
    ch.expect_close(406, "cannot switch from tx to confirm mode", cause=Confirm.Select)


def test_messages_published_through_several_channels_keep_their_own_order(
    client: Client, ch: ChannelUnderTest, q: str
) -> None:
    ch.declare(q)
    other = client.channel()
    for number in range(20):
        (ch if number % 2 else other).publish("", q, bytes([number]))
    ch.sync()
    other.sync()
    numbers = [body[0] for body in ch.drain(q)]
    assert [number for number in numbers if number % 2] == list(range(1, 20, 2))
    assert [number for number in numbers if number % 2 == 0] == list(range(0, 20, 2))


def test_routing_key_that_is_not_utf_8(ch: ChannelUnderTest, q: str, x: str) -> None:
    ch.declare_exchange(x, "fanout")
    ch.declare(q)
    ch.bind(q, x)
    ch.publish(x, b"\xff\xfe", b"body")
    assert ch.get_one(q).routing_key == "\udcff\udcfe"


def test_exchange_name_that_is_not_utf_8(broker: BrokerUnderTest, ch: ChannelUnderTest) -> None:
    ch.send(Basic.Publish, exchange=b"\xff", properties={}, body=b"")
    shown = "\udcff" if broker.differs("texts-of-4") else "\xff"
    ch.expect_close(404, f"no exchange '{shown}' in vhost '/'", cause=Basic.Publish)


def test_property_that_is_not_utf_8_comes_back(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"", message_id=b"\xff\xfe", headers={b"\xff": 1})
    message = ch.get_one(q)
    assert message.properties == {"message_id": "\udcff\udcfe", "headers": {"\udcff": 1}}


def test_headers_that_cannot_be_decoded(broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"", headers=b"\x01aQ")
    close = client.take(Connection.Close)
    if broker.differs("undecodable-properties"):
        assert (close.reply_code, close.class_id, close.method_id) == (501, 60, 40)
    else:
        assert (close.reply_code, close.reply_text, close.class_id, close.method_id) == (541, "INTERNAL_ERROR", 0, 0)


def test_empty_bcc_is_stripped(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"", headers={"BCC": [], "a": 1})
    assert ch.get_one(q).headers == {"a": 1}


def test_refusals_are_multiple(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    ch.call(Confirm.Select)
    ch.publish("", q, b"1")
    assert ch.expect(Basic.Ack).delivery_tag == 1
    for number in (2, 3):
        ch.publish("", q, b"")
        nack = ch.expect(Basic.Nack)
        assert (nack.delivery_tag, nack.multiple) == (number, True)
