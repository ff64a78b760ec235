"""Mistakes other brokers made, each a test by name."""

from __future__ import annotations

from interop.raw_client import ChannelUnderTest

FEATURE = "traps"


def test_topic_hash_at_the_end_matches_zero_words(ch: ChannelUnderTest, q: str, x: str) -> None:
    """LavinMQ #1608: `a.#` did not match `a`."""
    ch.declare_exchange(x, "topic")
    ch.declare(q)
    ch.bind(q, x, "a.#")
    ch.publish(x, "a", b"zero words")
    assert ch.get_one(q).body == b"zero words"
