"""The topic exchange's trie against a matcher that is too simple to be wrong."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.topology import Topology

WORDS = st.sampled_from(["a", "b", "", "#", "*", "quick"])
KEYS = st.lists(WORDS, max_size=6).map(".".join)


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


@given(st.lists(KEYS, min_size=1, max_size=12, unique=True), KEYS)
def test_matches_what_the_definition_matches(patterns: list[str], key: str) -> None:
    topology = Topology()
    topology.exchange("x", "topic")
    for pattern in patterns:
        topology.queue(f"q{pattern}")
        topology.bind("x", f"q{pattern}", pattern)
    expected = sorted(f"q{pattern}" for pattern in patterns if fits(words_of(pattern), words_of(key)))
    assert topology.route("x", key) == expected


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["q1", "q2"]), KEYS), max_size=30), KEYS)
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
    for pattern in ("a.b.c", "a.#", "a.b", "*.#.c"):
        topology.bind("x", "q", pattern)
    for pattern in ("a.b", "a.#", "a.b.c", "*.#.c"):
        topology.unbind("x", "q", pattern)
    matcher = topology.virtual_host.exchange("x").matcher
    (root,) = matcher._roots.values()  # type: ignore[attr-defined]
    assert root.is_empty


def test_a_pattern_of_many_wildcards_does_not_explode() -> None:
    topology = Topology()
    topology.exchange("x", "topic")
    topology.queue("q")
    topology.bind("x", "q", ".".join(["#", "a"] * 60))
    began_s = time.perf_counter()
    assert topology.route("x", ".".join(["a"] * 120 + ["b"])) == []
    assert time.perf_counter() - began_s < 2  # it would be longer than the universe is old
