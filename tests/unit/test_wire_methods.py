"""Particular methods: ids, bits, names that pamqp refuses, and what is refused here."""

from __future__ import annotations

import pytest

from amqp_broker.errors import AmqpError, ReplyCode
from amqp_broker.wire.errors import UnknownMethod, WireError
from amqp_broker.wire.methods import (
    METHOD_CLASSES,
    Access,
    Basic,
    Channel,
    Connection,
    Exchange,
    Queue,
    arguments_of,
    build,
    class_and_method_id,
    decode_method,
    encode_method,
    undecodable,
)
from amqp_broker.wire.table import Byte, type_name


def test_the_catalogue_holds_every_method_of_the_protocol() -> None:
    methods_of = {
        10: {10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 60, 61, 70, 71},
        20: {10, 11, 20, 21, 40, 41},
        30: {10, 11},
        40: {10, 11, 20, 21, 30, 31, 40, 51},
        50: {10, 11, 20, 21, 30, 31, 40, 41, 50, 51},
        60: {10, 11, 20, 21, 30, 31, 40, 50, 60, 70, 71, 72, 80, 90, 100, 110, 111, 120},
        85: {10, 11},
        90: {10, 11, 20, 21, 30, 31},
    }
    expected = {(class_id, method_id) for class_id, ids in methods_of.items() for method_id in ids}
    assert {class_and_method_id(one) for one in METHOD_CLASSES.values()} == expected


def test_a_queue_declare_byte_by_byte() -> None:
    payload = b"\x00\x32\x00\x0a\x00\x00\x01q\x0b\x00\x00\x00\x04\x01ab\x05"
    declare = decode_method(payload)
    assert isinstance(declare, Queue.Declare)
    assert declare.queue == "q"
    assert (declare.passive, declare.durable, declare.exclusive, declare.auto_delete, declare.nowait) == (
        True,
        True,
        False,
        True,
        False,
    )
    assert arguments_of(declare) == {"a": 5}
    assert type_name(arguments_of(declare)["a"]) == "byte"
    assert encode_method(declare) == payload


def test_a_name_may_be_any_utf8() -> None:
    name = "очередь/λ\n\x00" + "x" * 200
    ok = build(Queue.DeclareOk, queue=name, message_count=2, consumer_count=1)
    decoded = decode_method(encode_method(ok))
    assert isinstance(decoded, Queue.DeclareOk)
    assert (decoded.queue, decoded.message_count, decoded.consumer_count) == (name, 2, 1)


def test_a_name_that_is_not_utf8_is_a_frame_error() -> None:
    payload = encode_method(build(Queue.Declare, queue="a\udcff"))
    with pytest.raises(AmqpError) as caught:
        decode_method(payload)
    assert caught.value.reply_text == "FRAME_ERROR - Malformed UTF-8 in shortstr"


def test_a_publish_may_name_anything() -> None:
    publish = decode_method(encode_method(build(Basic.Publish, exchange="a\udcff")))
    assert isinstance(publish, Basic.Publish)
    assert publish.exchange == "a\udcff"


def test_what_build_is_not_given_is_zero_empty_or_false() -> None:
    declare = build(Exchange.Declare, exchange="x")
    assert (declare.ticket, declare.exchange_type, declare.durable, declare.arguments) == (0, "", False, {})
    assert build(Exchange.Declare).arguments is not declare.arguments
    nack = build(Basic.Nack)
    assert nack.requeue is False


def test_build_knows_the_fields_of_a_method() -> None:
    with pytest.raises(TypeError, match=r"Queue\.DeclareOk has no field consumers"):
        build(Queue.DeclareOk, queue="q", consumers=1)


def test_a_method_that_pamqp_made_is_encoded() -> None:
    close = Channel.Close(404, "NOT_FOUND - no queue 'q'", 50, 10)
    assert encode_method(close) == b"\x00\x14\x00\x28\x01\x94\x18NOT_FOUND - no queue 'q'\x00\x32\x00\x0a"


def test_an_access_ticket() -> None:
    request = decode_method(b"\x00\x1e\x00\x0a\x05/data\x1e")
    assert isinstance(request, Access.Request)
    assert request.realm == "/data"
    assert not request.exclusive
    assert request.passive
    assert request.active
    assert request.write
    assert request.read
    assert encode_method(build(Access.RequestOk, ticket=1)) == b"\x00\x1e\x00\x0b\x00\x01"


def test_an_unknown_method_is_named_by_its_ids() -> None:
    with pytest.raises(UnknownMethod) as caught:
        decode_method(b"\x00\x3c\x00\x63rest")
    assert (caught.value.class_id, caught.value.method_id) == (60, 99)


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x00\x0a\x00", b"\x00\x0a\x00\x1e\x00", b"\x00\x5a\x00\x0a\x00"])
def test_too_short_or_too_long_a_method_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        decode_method(payload)


@pytest.mark.parametrize(
    "method",
    [
        build(Connection.Tune, channel_max=2**16),
        build(Connection.Tune, channel_max=-1),
        build(Connection.Tune, channel_max=None),
        build(Connection.Tune, channel_max="1"),
        build(Queue.DeclareOk, queue="x" * 256),
        build(Queue.DeclareOk, queue=None),
        build(Queue.Declare, arguments=None),
        build(Queue.Declare, arguments={"a": Byte(300)}),
        Channel.Close.__new__(Channel.Close),
    ],
)
def test_a_method_without_fitting_values_is_not_encoded(method: Channel.Close) -> None:
    with pytest.raises(WireError):
        encode_method(method)


def test_the_error_of_a_method_that_cannot_be_read() -> None:
    error = undecodable(b"\x00\x32\x00\x0a\x00\x00\x09ab")
    assert error.code is ReplyCode.FRAME_ERROR
    assert error.explanation == "cannot decode <<0,0,9,97,98>>"
    assert len(undecodable(bytes(5000)).reply_text) == 255
