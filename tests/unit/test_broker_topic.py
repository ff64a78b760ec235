"""The topic exchange's trie against a matcher that is too simple to be wrong."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.broker.exchanges.matcher import Envelope
from tests.support.topology import Topology

IS_COMPILED = os.environ.get("AMQP_BROKER_UNDER_TEST") == "compiled"

WORDS = st.sampled_from(["a", "b", "", "#", "*", "quick"])
KEYS = st.lists(WORDS, max_size=6).map(".".join)
ALIKE = st.sampled_from(["a", "a", "*"])
LONG_KEYS = st.lists(ALIKE, min_size=7, max_size=14).map(".".join)
WIDE_PATTERNS = st.builds("{}#.{}.{}".format, st.sampled_from(["", "a.", "b.#.*."]), LONG_KEYS, KEYS)


def fits(pattern: list[str], words: list[str]) -> bool:
    """The definition, word for word."""
    if not pattern:
        return not words
    first, rest = pattern[0], pattern[1:]
    if first == "#":
        return any(fits(rest, words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and first in ("*", words[0]) and fits(rest, words[1:])


def words_of(key: str) -> list[str]:
    """An empty key has no words; else there is one more than there are dots."""
    return key.split(".") if key else []


@given(st.lists(KEYS | WIDE_PATTERNS, min_size=1, max_size=12, unique=True), KEYS | LONG_KEYS)
def test_matches_what_the_definition_matches(patterns: list[str], key: str) -> None:
    topology = Topology()
    topology.exchange("x", "topic")
    for pattern in patterns:
        topology.queue(f"q{pattern}")
        topology.bind("x", f"q{pattern}", pattern)
    expected = sorted(f"q{pattern}" for pattern in patterns if fits(words_of(pattern), words_of(key)))
    assert topology.route("x", key) == expected


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["q1", "q2"]), KEYS | WIDE_PATTERNS), max_size=30), KEYS)
def test_after_binding_and_unbinding_in_any_order(steps: list[tuple[bool, str, str]], key: str) -> None:
    topology = Topology()
    topology.exchange("x", "topic")
    bound: set[tuple[str, str]] = set()
    for name in ("q1", "q2"):
        topology.queue(name)
    for is_bind, queue, pattern in steps:
        if is_bind:
            topology.bind("x", queue, pattern)
            bound.add((queue, pattern))
        else:
            topology.unbind("x", queue, pattern)
            bound.discard((queue, pattern))
    expected = {queue for queue, pattern in bound if fits(words_of(pattern), words_of(key))}
    assert topology.route("x", key) == sorted(expected)
    topology.broker.check_invariants()


@pytest.mark.parametrize(
    ("pattern", "key", "does_match"),
    [
        ("a.#", "a", True),
        ("#.a", "a", True),
        ("a.#.b", "a.b", True),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("*", "", False),
        ("", "", True),
        ("", "a", False),
        ("*.*", "a", False),
        ("a.*", "a.", True),
        ("*", "a.b", False),
        ("#.#.#", "", True),
        ("*.#", "", False),
        ("*.#.*", "a", False),
        ("*.#.*", "a.b", True),
        ("a..b", "a..b", True),
        ("a.*.b", "a..b", True),
        ("a.b", "a..b", False),
        ("A", "a", False),
        ("*.orange.*", "quick.orange.rabbit", True),
        ("*.orange.*", "quick.orange.new.rabbit", False),
        ("*.*.1.#", "0.1.1.0.orders", True),
    ],
)
def test_examples(pattern: str, key: str, does_match: bool) -> None:
    topology = Topology()
    topology.exchange("x", "topic")
    topology.queue("q")
    topology.bind("x", "q", pattern)
    assert topology.route("x", key) == (["q"] if does_match else [])


def test_the_trie_keeps_nothing_of_what_was_unbound() -> None:
    topology = Topology()
    topology.exchange("x", "topic")
    topology.queue("q")
    for pattern in ("a.b.c", "a.#", "a.b", "*.#.c", "#" + 9 * ".a"):
        topology.bind("x", "q", pattern)
    for pattern in ("a.b", "#" + 9 * ".a", "a.#", "a.b.c", "*.#.c"):
        topology.unbind("x", "q", pattern)
    matcher = topology.virtual_host.exchange("x").matcher
    (patterns,) = matcher._patterns.values()  # type: ignore[attr-defined]
    assert not patterns._wide
    assert patterns._root.is_empty


@pytest.mark.skipif(IS_COMPILED, reason="calls are seen in sources that are interpreted")
def test_many_patterns_in_many_places_take_a_step_for_each_word() -> None:
    """However many places of a pattern a key may have reached: a step for each place would be 60 times as many."""
    topology = Topology()
    topology.exchange("x", "topic")
    topology.queue("q")
    for number in range(8):
        topology.bind("x", "q", "#." + "*." * number + ".".join(["#", "a"] * 60))
    matcher = topology.virtual_host.exchange("x").matcher
    message = Envelope((".".join(["a"] * 120 + ["b"]),))
    steps = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        assert list(matcher.match(message)) == []
    finally:
        sys.setprofile(None)
    assert steps < 8 * 121 * 3
