"""The topic exchange: words between dots; ``*`` stands for one word, ``#`` for any number of them, none included.

The patterns are a trie of words, so that a key is compared with many patterns at once. The walk keeps the set of
nodes that the words so far may have reached, which bounds it by the trie's size: a pattern of many ``#`` cannot make
it explode.

What a key is to be read as each destination says itself (``readings.py``); there is a trie for each way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.destinations import Destinations
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher, Verdict
from amqp_broker.broker.exchanges.readings import WORDS_SEPARATOR, Reading, words_of
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.base import Queue

ONE_WORD = "*"
ANY_WORDS = "#"


class _Node:
    """One word of some patterns; ``destinations`` are those of the patterns that end here.

    A node for ``#`` keeps every further word to itself: once reached, it stays reached.
    """

    __slots__ = ("children", "destinations", "keeps_words")

    def __init__(self, word: str = "") -> None:
        self.children: dict[str, _Node] = {}
        self.destinations = Destinations()
        self.keeps_words = word == ANY_WORDS

    @property
    def is_empty(self) -> bool:
        return not self.children and not self.destinations


class TopicMatcher(Matcher):
    """Destinations by pattern (AMQP 0-9-1, 3.1.3.3)."""

    has_topic_permissions = True

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._roots: dict[Reading, _Node] = {}

    def add(self, binding: Binding) -> None:
        """Grow the pattern's branch."""
        reading = binding.destination.reading
        if reading not in self._roots:
            self._roots[reading] = _Node()
        _grow(self._roots[reading], binding)

    def remove(self, binding: Binding) -> None:
        """Take the destination off, and cut what the branch no longer needs."""
        node = self._roots[binding.destination.reading]
        path: list[tuple[_Node, str]] = []
        for word in words_of(binding.routing_key):
            path.append((node, word))
            node = node.children[word]
        node.destinations.remove(binding.destination)
        for parent, word in reversed(path):
            if not parent.children[word].is_empty:
                return
            del parent.children[word]

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        """All whose pattern fits what they read."""
        for reading, root in self._roots.items():
            for levels in reading.read(message.routing_keys, message.headers):
                for node in _reached(root, levels):
                    yield from node.destinations

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        """The first word that does not fit, where there is one."""
        problem = ""
        for routing_key in message.routing_keys:
            problem = _misfit(words_of(binding.routing_key), words_of(routing_key))
            if not problem:
                return Verdict(True, f"the key '{routing_key}' fits the pattern")
        root = _Node()
        _grow(root, binding)
        for levels in binding.destination.reading.read(message.routing_keys, message.headers):
            if any(node.destinations for node in _reached(root, levels)):
                return Verdict(True, f"the topic '{'/'.join(levels)}' fits the pattern level by level")
        return Verdict(False, problem)


def fits(pattern: str, key: str) -> bool:
    """Whether a routing key fits a pattern, for who has a single one."""
    return not _misfit(words_of(pattern), words_of(key))


def _grow(root: _Node, binding: Binding) -> None:
    node = root
    for word in words_of(binding.routing_key):
        if word not in node.children:
            node.children[word] = _Node(word)
        node = node.children[word]
    node.destinations.add(binding.destination)


def _reached(root: _Node, levels: list[str]) -> Iterable[_Node]:
    """The nodes that all the levels lead to.

    A pattern does not tell which of its dots are within a level, so there may be some too many where a level has
    several words: a subscription looks at what it gets (MQTT 5.0, 4.7.1.3).
    """
    reached: dict[_Node, None] = {}
    _reach(reached, root)
    for level in levels:
        if WORDS_SEPARATOR not in level:
            reached = _further(reached, (level, ONE_WORD))
            continue
        whole = _further(reached, (ONE_WORD,))
        for word in level.split(WORDS_SEPARATOR):
            reached = _further(reached, (word,))
        reached.update(whole)
    return reached


def _misfit(pattern: list[str], words: list[str]) -> str:
    """Why the words of a key do not fit a pattern; empty where they do.

    What is told is how far the pattern gets: it is walked as the trie is, a set of places at a time.
    """
    reached = _skip_any(pattern, {0})
    for place, word in enumerate(words):
        before = reached
        further = {at for at in before if at < len(pattern) and pattern[at] == ANY_WORDS}
        further |= {at + 1 for at in before if at < len(pattern) and pattern[at] in (word, ONE_WORD)}
        reached = _skip_any(pattern, further)
        if not reached:
            wanted = sorted({pattern[at] for at in before if at < len(pattern)})
            if not wanted:
                return f"the pattern ends before word {place + 1} of the key, '{word}'"
            return f"word {place + 1} of the key is '{word}', the pattern wants '{wanted[-1]}' there"
    if len(pattern) in reached:
        return ""
    return f"the key ends where the pattern wants '{pattern[max(reached)]}'"


def _skip_any(pattern: list[str], places: set[int]) -> set[int]:
    """These places in a pattern, and those behind a ``#``, which may stand for no word."""
    found: set[int] = set()
    for place in places:
        found.add(place)
        while place < len(pattern) and pattern[place] == ANY_WORDS:
            place += 1
            found.add(place)
    return found


def _reach(reached: dict[_Node, None], node: _Node) -> None:
    """The words so far lead to this node, and, since ``#`` may stand for no word, to the chain of ``#`` below it."""
    while node not in reached:
        reached[node] = None
        below = node.children.get(ANY_WORDS)
        if below is None:
            return
        node = below


def _further(before: dict[_Node, None], patterns: tuple[str, ...]) -> dict[_Node, None]:
    """Where what one of these stands for in a pattern leads to."""
    reached: dict[_Node, None] = {}
    for node in before:
        if node.keeps_words:
            _reach(reached, node)
        for pattern in patterns:
            child = node.children.get(pattern)
            if child is not None and not child.keeps_words:
                _reach(reached, child)
    return reached
