"""The headers exchange: all and any, with and without ``x-`` names, and what counts as equal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.errors import AmqpError
from amqp_broker.wire.table import Byte, FieldValue, Float32, RepeatedName, Short, Table, Timestamp, UnsignedShort
from tests.support.topology import Topology


def matches(pattern: Table, headers: Table | None) -> bool:
    """Whether a binding with these arguments lets a message with these headers through."""
    topology = Topology()
    topology.exchange("x", "headers")
    topology.queue("q")
    topology.bind("x", "q", "ignored", pattern)
    return topology.route("x", "another key", headers=headers) == ["q"]


@pytest.mark.parametrize(
    ("pattern", "headers", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"x-match": "all", "a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
        ({"x-match": "any", "a": 1, "b": 2}, {"a": 2, "b": 1}, False),
        ({}, {"a": 1}, True),
        ({}, None, True),
        ({"x-match": "all"}, {}, True),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"x-match": "all-with-x"}, {}, True),
        ({"x-match": "any-with-x"}, {}, False),
        ({"x-match": "all", "x-a": 1}, {}, True),
        ({"x-match": "any", "x-a": 1}, {"x-a": 1}, False),
        ({"x-match": "all-with-x", "x-a": 1}, {}, False),
        ({"x-match": "all-with-x", "x-a": 1, "b": 2}, {"x-a": 1, "b": 2}, True),
        ({"x-match": "any-with-x", "x-a": 1, "b": 2}, {"x-a": 1}, True),
    ],
)
def test_kinds(pattern: Table, headers: Table | None, expected: bool) -> None:
    assert matches(pattern, headers) is expected


def repeating(*values: FieldValue, **others: FieldValue) -> Table:
    """A table with several fields that are called a."""
    return {**others, "a": values[0], **{RepeatedName("a"): value for value in values[1:]}}


@pytest.mark.parametrize(
    ("pattern", "headers", "expected"),
    [
        ({"a": 1}, repeating(1, 2), True),
        ({"a": 2}, repeating(1, 2), False),
        (repeating(1, 2), {"a": 1}, False),
        (repeating(1, 2), repeating(1, 2), True),
        (repeating(1, 2), repeating(2, 1), False),
        (repeating(1, 2), repeating(1, 2, 3), True),
        (repeating(1, 2, **{"x-match": "any"}), {"a": 1}, True),
        (repeating(1, 2, **{"x-match": "any"}), {"a": 2}, False),
        (repeating(1, 2, **{"x-match": "any"}), repeating(3, 2), True),
        ({"x-match": "any", RepeatedName("x-match"): "all", "a": 1, "b": 2}, {"a": 1}, True),
    ],
)
def test_names_that_repeat_are_compared_in_their_order(pattern: Table, headers: Table, expected: bool) -> None:
    assert matches(pattern, headers) is expected


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        (1, Short(1), True),
        (Byte(1), UnsignedShort(1), True),
        (1, 2, False),
        (1, True, False),
        (True, True, True),
        (False, True, False),
        (True, "true", False),
        ("1", 1, False),
        ("a", "a", True),
        ("a", "A", False),
        ("", "", True),
        (None, "anything", True),
        (None, None, True),
        ("a", None, False),
        (1.5, Float32(1.5), True),
        ([1, "a"], [1, "a"], True),
        ([1, "a"], ["a", 1], False),
        ({"b": 1}, {"b": 1}, True),
        ({"b": 1}, {"b": 2}, False),
        (Timestamp(5), Timestamp(5), True),
    ],
)
def test_what_counts_as_equal(wanted: FieldValue, found: FieldValue, expected: bool) -> None:
    assert matches({"a": wanted}, {"a": found}) is expected
    assert matches({"x-match": "any", "a": wanted}, {"a": found, "b": 1}) is expected


def test_presence_is_not_absence() -> None:
    assert not matches({"a": None}, {"b": 1})


@pytest.mark.parametrize("kind", ["some", "", "ALL", 1, True, None])
def test_an_x_match_that_means_nothing(kind: FieldValue) -> None:
    with pytest.raises(AmqpError, match="Invalid x-match") as raised:
        matches({"x-match": kind, "a": 1}, {"a": 1})
    assert raised.value.code == 406


def test_bindings_that_differ_in_their_arguments_are_two() -> None:
    topology = Topology()
    topology.exchange("x", "headers")
    topology.queue("q")
    topology.bind("x", "q", "", {"a": 1})
    topology.bind("x", "q", "", {"a": 2})
    assert topology.route("x", headers={"a": 1}) == topology.route("x", headers={"a": 2}) == ["q"]
    topology.unbind("x", "q", "", {"a": 1})
    assert topology.route("x", headers={"a": 1}) == []
    assert topology.route("x", headers={"a": 2}) == ["q"]


VALUES = st.sampled_from([None, True, False, 1, 1.0, 2, "a", b"a", [1], {"b": 1}])
PATTERNS = st.builds(
    lambda kind, wanted: {"x-match": kind, **wanted},
    st.sampled_from(["all", "any"]),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, max_size=3),
)


@given(st.lists(PATTERNS, max_size=8), st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES), st.data())
def test_many_bindings_together_match_as_each_alone(patterns: list[Table], headers: Table, data: st.DataObject) -> None:
    topology = Topology()
    topology.exchange("x", "headers")
    kept = [data.draw(st.booleans()) for _ in patterns]
    for number, pattern in enumerate(patterns):
        topology.queue(f"q{number}")
        topology.bind("x", f"q{number}", "", pattern)
    for number, pattern in enumerate(patterns):
        if not kept[number]:
            topology.unbind("x", f"q{number}", "", pattern)
    expected = [f"q{number}" for number in range(len(patterns)) if kept[number] and matches(patterns[number], headers)]
    assert sorted(topology.route("x", headers=headers)) == expected
