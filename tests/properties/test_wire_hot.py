"""The hand-packed codec, against pamqp's and against the codec of all methods."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, cast

import pamqp.body
import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.errors import AmqpError, ReplyCode
from amqp_broker.wire import hot
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.frames import BODY, HEADER, METHOD, FrameSplitter, encode_frame
from amqp_broker.wire.methods import Basic, Method, build, decode_method, encode_method
from amqp_broker.wire.strings import encode_shortstr
from tests.properties.wire_strategies import ANY_NAMES, PAMQP_NAMES, PROPERTIES, UINT16, UINT32, UINT64, UTF8_NAMES

CHANNELS = UINT16
TAGS = UINT64
BITS = st.booleans()


def frame_of(channel: int, method_class: type[Method], **fields: Any) -> bytes:
    return encode_frame(METHOD, channel, encode_method(build(method_class, **fields)))


@given(ANY_NAMES, ANY_NAMES, BITS, BITS, UINT16)
def test_publish_is_read_and_its_address_is_its_middle(
    exchange: str, routing_key: str, mandatory: bool, immediate: bool, ticket: int
) -> None:
    method = build(
        Basic.Publish,
        ticket=ticket,
        exchange=exchange,
        routing_key=routing_key,
        mandatory=mandatory,
        immediate=immediate,
    )
    payload = encode_method(method)
    assert payload.startswith(hot.PUBLISH)
    assert hot.decode_publish(payload) == (exchange, routing_key, mandatory, immediate)
    assert payload[6:-1] == hot.encode_address(exchange, routing_key)


@given(PAMQP_NAMES, PAMQP_NAMES, BITS, BITS)
def test_publish_written_by_pamqp_is_read(exchange: str, routing_key: str, mandatory: bool, immediate: bool) -> None:
    frame = pamqp.frame.marshal(Basic.Publish(0, exchange, routing_key, mandatory, immediate), 1)
    assert hot.decode_publish(frame[7:-1]) == (exchange, routing_key, mandatory, immediate)


@given(CHANNELS, ANY_NAMES, TAGS, BITS, ANY_NAMES, ANY_NAMES)
def test_deliver(
    channel: int, consumer_tag: str, delivery_tag: int, redelivered: bool, exchange: str, routing_key: str
) -> None:
    address = hot.encode_address(exchange, routing_key)
    assert hot.encode_deliver(channel, encode_shortstr(consumer_tag), delivery_tag, redelivered, address) == frame_of(
        channel,
        Basic.Deliver,
        consumer_tag=consumer_tag,
        delivery_tag=delivery_tag,
        redelivered=redelivered,
        exchange=exchange,
        routing_key=routing_key,
    )


@given(CHANNELS, PAMQP_NAMES, st.integers(0, 2**63 - 1), BITS, PAMQP_NAMES, PAMQP_NAMES)
def test_deliver_is_what_pamqp_writes(
    channel: int, consumer_tag: str, delivery_tag: int, redelivered: bool, exchange: str, routing_key: str
) -> None:
    method = Basic.Deliver(consumer_tag, delivery_tag, redelivered, exchange, routing_key)
    address = hot.encode_address(exchange, routing_key)
    frame = hot.encode_deliver(channel, encode_shortstr(consumer_tag), delivery_tag, redelivered, address)
    assert frame == pamqp.frame.marshal(method, channel)


@given(CHANNELS, TAGS, BITS, ANY_NAMES, ANY_NAMES, UINT32)
def test_get_ok(
    channel: int, delivery_tag: int, redelivered: bool, exchange: str, routing_key: str, message_count: int
) -> None:
    address = hot.encode_address(exchange, routing_key)
    assert hot.encode_get_ok(channel, delivery_tag, redelivered, address, message_count) == frame_of(
        channel,
        Basic.GetOk,
        delivery_tag=delivery_tag,
        redelivered=redelivered,
        exchange=exchange,
        routing_key=routing_key,
        message_count=message_count,
    )


@pytest.mark.parametrize("channel", [1, 65535])
def test_get_empty(channel: int) -> None:
    assert hot.encode_get_empty(channel) == frame_of(channel, Basic.GetEmpty)


@given(CHANNELS, st.sampled_from(ReplyCode), ANY_NAMES, ANY_NAMES, ANY_NAMES)
def test_return(channel: int, reply_code: int, reply_text: str, exchange: str, routing_key: str) -> None:
    address = hot.encode_address(exchange, routing_key)
    assert hot.encode_return(channel, reply_code, reply_text, address) == frame_of(
        channel,
        Basic.Return,
        reply_code=reply_code,
        reply_text=reply_text,
        exchange=exchange,
        routing_key=routing_key,
    )


@given(UTF8_NAMES, BITS, UINT16)
def test_get_is_read(queue: str, no_ack: bool, ticket: int) -> None:
    payload = encode_method(build(Basic.Get, ticket=ticket, queue=queue, no_ack=no_ack))
    assert payload.startswith(hot.GET)
    assert hot.decode_get(payload) == (queue, no_ack)


@given(st.binary(max_size=20))
def test_get_is_refused_as_any_other_method_is(rest: bytes) -> None:
    payload = hot.GET + rest

    def outcome(decode: Callable[[bytes], object]) -> object:
        try:
            return decode(payload)
        except (WireError, AmqpError) as error:
            return type(error)

    def decode_generally(payload: bytes) -> tuple[str, bool]:
        method = cast(Basic.Get, decode_method(payload))
        return method.queue, method.no_ack

    assert outcome(hot.decode_get) == outcome(decode_generally)


@given(CHANNELS, TAGS, BITS, BITS)
def test_acknowledgements(channel: int, delivery_tag: int, multiple: bool, requeue: bool) -> None:
    ack = frame_of(channel, Basic.Ack, delivery_tag=delivery_tag, multiple=multiple)
    assert hot.encode_ack(channel, delivery_tag, multiple) == ack
    assert ack[7:11] == hot.ACK
    assert hot.decode_ack(ack[7:-1]) == (delivery_tag, multiple)

    nack = frame_of(channel, Basic.Nack, delivery_tag=delivery_tag, multiple=multiple, requeue=requeue)
    assert hot.encode_nack(channel, delivery_tag, multiple, requeue) == nack
    assert nack[7:11] == hot.NACK
    assert hot.decode_nack(nack[7:-1]) == (delivery_tag, multiple, requeue)

    reject = frame_of(channel, Basic.Reject, delivery_tag=delivery_tag, requeue=requeue)
    assert reject[7:11] == hot.REJECT
    assert hot.decode_reject(reject[7:-1]) == (delivery_tag, requeue)


@given(CHANNELS, PROPERTIES, st.binary(max_size=100), st.integers(9, 40) | st.just(0))
def test_content_is_a_header_and_as_many_full_frames_as_needed(
    channel: int, properties: Properties, body: bytes, frame_size_bytes_max: int
) -> None:
    header_payload = encode_content_header(len(body), properties)
    content = hot.encode_content(channel, header_payload, body, frame_size_bytes_max)
    header, *bodies = FrameSplitter(0).split(content)
    assert header == (HEADER, channel, header_payload)
    assert all((kind, number) == (BODY, channel) for kind, number, _ in bodies)
    payloads = [payload for _, _, payload in bodies]
    assert b"".join(payloads) == body
    if frame_size_bytes_max == 0:
        assert len(payloads) == bool(body)
    else:
        assert all(len(payload) == frame_size_bytes_max - 8 for payload in payloads[:-1])
        assert all(0 < len(payload) <= frame_size_bytes_max - 8 for payload in payloads)


@given(CHANNELS, st.binary(min_size=1, max_size=100))
def test_content_in_one_frame_is_what_pamqp_writes(channel: int, body: bytes) -> None:
    header_payload = encode_content_header(len(body), Properties())
    content = hot.encode_content(channel, header_payload, body, 131072)
    header_frame = encode_frame(HEADER, channel, header_payload)
    assert content == header_frame + pamqp.frame.marshal(pamqp.body.ContentBody(body), channel)


TAG_NAMES = [b"\x01a", b"\x02bb"]
ADDRESSES = [hot.encode_address("", "q"), hot.encode_address("logs", "q")]
BODIES = [b"", b"x", b"y", b"xx", bytes(40), bytes(41)]
HEADER_PAYLOADS = [
    encode_content_header(1, Properties(message_id=name)) for name in ("1", "2", 255 * "3", 255 * "4")
] + [encode_content_header(1, Properties(app_id=255 * "x", message_id=255 * "x"))]


@given(
    CHANNELS,
    st.sampled_from([0, 48]),
    st.lists(
        st.tuples(
            st.sampled_from(TAG_NAMES),
            TAGS,
            BITS,
            st.sampled_from(ADDRESSES),
            st.sampled_from(HEADER_PAYLOADS),
            st.sampled_from(BODIES),
        ),
        max_size=9,
    ),
)
def test_a_delivery_is_encoded_the_same_whatever_was_before_it(
    channel: int, frame_size_bytes_max: int, deliveries: list[tuple[bytes, int, bool, bytes, bytes, bytes]]
) -> None:
    encoder = hot.DeliveryEncoder(channel, frame_size_bytes_max)
    for consumer_tag, delivery_tag, redelivered, address, header, body in deliveries:
        method = hot.encode_deliver(channel, consumer_tag, delivery_tag, redelivered, address)
        content = hot.encode_content(channel, header, body, frame_size_bytes_max)
        encoded = encoder.encode(consumer_tag, delivery_tag, redelivered, address, header, body)
        assert encoded == method + content


READERS = {
    hot.PUBLISH: hot.decode_publish,
    hot.ACK: hot.decode_ack,
    hot.NACK: hot.decode_nack,
    hot.REJECT: hot.decode_reject,
}


@given(st.sampled_from(list(READERS)), st.binary(max_size=40))
def test_garbage_is_read_or_a_wire_error(ids: bytes, garbage: bytes) -> None:
    with contextlib.suppress(WireError):
        READERS[ids](ids + garbage)
    with contextlib.suppress(WireError):
        READERS[ids](garbage)


@given(ANY_NAMES, ANY_NAMES, st.data())
def test_a_publish_cut_short_or_too_long_is_refused(exchange: str, routing_key: str, data: st.DataObject) -> None:
    payload = encode_method(build(Basic.Publish, exchange=exchange, routing_key=routing_key))
    with pytest.raises(WireError):
        hot.decode_publish(payload[: data.draw(st.integers(0, len(payload) - 1))])
    with pytest.raises(WireError):
        hot.decode_publish(payload + data.draw(st.binary(min_size=1, max_size=3)))
