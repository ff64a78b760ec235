"""What a filter of messages finds, and what it does not."""

from __future__ import annotations

import json

import pytest

from amqp_broker.broker.message import Address, Message
from amqp_broker.broker.message_filter import (
    ANY_MESSAGE,
    JSON_BYTES_MAX,
    TEXT_BYTES_MAX,
    MessageFilter,
    UnknownProperty,
    is_at,
    is_like,
    make_filter,
)
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.hot import encode_address

DEATHS = [{"queue": "orders", "reason": "rejected", "count": 3}, {"queue": "retry", "reason": "expired", "count": 2}]
ORDER = {"order": {"id": 17, "paid": False, "items": [{"sku": "a-1"}, {"sku": "b-2"}], "note": None}}


def message(body: bytes = b"", **properties: object) -> Message:
    header = encode_content_header(len(body), Properties(**properties))  # type: ignore[arg-type]
    return Message(Address("shop", "orders.eu.new", encode_address("shop", "orders.eu.new")), header, body, True, 0)


ONE = message(
    json.dumps(ORDER).encode(), headers={"x-death": DEATHS, "a.b": 1, "tenant": "acme"}, message_id="m-1", priority=4
)


@pytest.mark.parametrize(
    "wanted",
    [
        ANY_MESSAGE,
        make_filter(exchange="shop"),
        make_filter(routing_key="orders.*"),
        make_filter(text="sku"),
        make_filter(headers={"tenant": "acme", "a.b": "1"}),
        make_filter(headers={"x-death.queue": "retry"}),
        make_filter(headers={"x-death.0.count": "3"}),
        make_filter(headers={"x-death": "*"}),
        make_filter(properties={"message_id": "m-*", "priority": "4"}),
        make_filter(json_values={"order.id": "17", "$.order.paid": "false", "order.items.sku": "b-2"}),
        make_filter(json_values={"order.note": "null"}),
    ],
)
def test_found(wanted: MessageFilter) -> None:
    assert wanted.finds(ONE)


@pytest.mark.parametrize(
    "wanted",
    [
        make_filter(exchange=""),
        make_filter(routing_key="orders"),
        make_filter(text="SKU"),
        make_filter(headers={"tenant": "acme", "a.b": "2"}),
        make_filter(headers={"x-death.queue": "elsewhere"}),
        make_filter(headers={"x-death.2.count": "3"}),
        make_filter(headers={"tenant.name": "acme"}),
        make_filter(properties={"correlation_id": "*"}),
        make_filter(json_values={"order.id": "1"}),
        make_filter(json_values={"order.items.2.sku": "*"}),
    ],
)
def test_not_found(wanted: MessageFilter) -> None:
    assert not wanted.finds(ONE)


def test_a_body_that_is_no_json_or_no_text_is_not_found() -> None:
    wanted = make_filter(json_values={"a": "*"})
    assert not any(wanted.finds(message(body)) for body in (b"", b"{", b"\xff", b"7", b"[" * 100_000))
    assert not make_filter(text="ä").finds(message(b"\xe4"))


def test_nobody_looks_into_a_body_that_is_too_large() -> None:
    large = message(b'{"a": 1, "b": "' + bytes(JSON_BYTES_MAX) + b'"}')
    wanted = make_filter(json_values={"a": "1"})
    assert not wanted.finds(large)
    assert wanted.is_body_too_large(large)
    assert not make_filter(text="a").is_body_too_large(large)
    assert make_filter(text="a").is_body_too_large(message(b"a" * (TEXT_BYTES_MAX + 1)))


def test_lists_in_lists_are_no_end() -> None:
    nested: object = "x"
    for _ in range(5000):
        nested = [nested]
    assert not is_at(nested, "a", "x")
    assert not is_at({"a": nested}, "a", "x")
    assert is_at({"a": [[["x"]]]}, "a", "x")
    assert not make_filter(json_values={"a": "x"}).finds(message(b"[" * 900 + b"1" + b"]" * 900))


@pytest.mark.parametrize(
    ("text", "wanted", "is_so"),
    [
        ("", "*", True),
        ("abc", "a*c", True),
        ("abc", "a*b", False),
        ("aXbXc", "a*X*c", True),
        ("a", "a*a", False),
        ("abab", "*ab*ab*", True),
        ("ab", "*ab*ab*", False),
        ("a*", "a", False),
    ],
)
def test_stars(text: str, wanted: str, is_so: bool) -> None:
    assert is_like(text, wanted) is is_so


def test_an_unknown_property_is_named() -> None:
    with pytest.raises(UnknownProperty, match=r"no property 'id'; there are app_id, .*message_id"):
        make_filter(properties={"id": "1"})
