"""MQTT's topics: which are well formed, which match, and the routing keys that they become."""

from __future__ import annotations

import pytest

from amqp_broker.protocols.mqtt.topics import (
    SharedFilter,
    is_topic_filter,
    is_topic_name,
    matches,
    routing_key_of,
    shared_filter,
    topic_of,
)


@pytest.mark.parametrize(
    ("topic_filter", "is_right"),
    [
        ("a/b", True),
        ("+", True),
        ("#", True),
        ("a/+/b/#", True),
        ("/", True),
        ("", False),
        ("a#", False),
        ("#/a", False),
        ("a+/b", False),
        ("a/+b", False),
    ],
)
def test_filters_that_are_well_formed(topic_filter: str, is_right: bool) -> None:
    assert is_topic_filter(topic_filter) is is_right


@pytest.mark.parametrize(
    ("topic", "is_right"), [("a", True), ("/a//b", True), ("", False), ("a/+", False), ("#", False)]
)
def test_names_have_no_wildcards(topic: str, is_right: bool) -> None:
    assert is_topic_name(topic) is is_right


@pytest.mark.parametrize(
    ("topic_filter", "topic", "is_match"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),  # MQTT 5.0, 4.7.1.2
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "a/b", True),
        ("sport/+", "sport", False),  # 4.7.1.3
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/x", False),  # 4.7.2
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/x", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("a/b", "a/b/c", False),
    ],
)
def test_what_matches(topic_filter: str, topic: str, is_match: bool) -> None:
    assert matches(topic_filter, topic) is is_match


def test_a_topic_becomes_a_routing_key_as_with_rabbitmq() -> None:
    assert routing_key_of("x/.dot/*") == "x..dot.*"
    assert routing_key_of("a/+/#") == "a.*.#"
    assert topic_of("a.b.c") == "a/b/c"


def test_shared_filters() -> None:
    assert shared_filter("a/b") is None
    assert shared_filter("$share/workers/jobs/+") == SharedFilter("workers", "jobs/+")


@pytest.mark.parametrize(
    "topic_filter", ["$share/", "$share/a", "$share/a/", "$share/a+/b", "$share//b", "$share/a/b#"]
)
def test_shared_filters_that_are_none(topic_filter: str) -> None:
    with pytest.raises(ValueError, match="no shared subscription"):
        shared_filter(topic_filter)
