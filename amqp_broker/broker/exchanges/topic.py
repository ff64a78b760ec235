"""The topic exchange: words between dots; ``*`` stands for one word, ``#`` for any number of them, none included.

The patterns are a trie of words, so that a key is compared with many patterns at once. The walk keeps the set of
nodes that the words so far may have reached, which bounds it by the trie's size: a pattern of many ``#`` cannot make
it explode. A pattern with many words behind a ``#`` may still be in as many places at once: such a one is no part of
the trie, its places are the bits of a number.

What a key is to be read as each destination says itself (``readings.py``); there is a trie for each way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

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
WORDS_BEHIND_ANY_MAX: Final = 8  # of a pattern in the trie


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


class _WidePattern:
    """A pattern with many words behind a ``#``, compared with a key by itself: in a step for each word, wherever it is.

    The bit of a place is set once so many words of the pattern have been found, its ``#`` not counted.
    """

    __slots__ = ("_any_words", "_end", "_one_word", "_words", "destinations")

    def __init__(self, words: list[str]) -> None:
        self.destinations = Destinations()
        self._any_words = 0  # places where any word may come
        self._one_word = 0  # places behind a ``*``
        self._words: dict[str, int] = {}  # places behind a word, or a ``*``
        place = 1
        for word in words:
            if word == ANY_WORDS:
                self._any_words |= place
                continue
            place <<= 1
            if word == ONE_WORD:
                self._one_word |= place
            else:
                self._words[word] = self._words.get(word, 0) | place
        self._end = place
        for word in self._words:
            self._words[word] |= self._one_word

    def fits(self, levels: list[str]) -> bool:
        """Whether the levels lead to its end; as ``_Patterns.reached``."""
        places = 1
        for level in levels:
            whole = 0
            if WORDS_SEPARATOR in level:
                whole = (places << 1) & self._one_word | places & self._any_words
            for word in level.split(WORDS_SEPARATOR):
                places = (places << 1) & self._words.get(word, self._one_word) | places & self._any_words
            places |= whole
            if not places:
                return False
        return bool(places & self._end)


class _Patterns:
    """The patterns of all destinations that read in the same way."""

    def __init__(self) -> None:
        self._root = _Node()
        self._wide: dict[str, _WidePattern] = {}

    def add(self, binding: Binding) -> None:
        """Grow the pattern's branch."""
        pattern = binding.routing_key
        words = words_of(pattern)
        if _is_wide(words):
            if pattern not in self._wide:
                self._wide[pattern] = _WidePattern(words)
            self._wide[pattern].destinations.add(binding.destination)
            return
        node = self._root
        for word in words:
            if word not in node.children:
                node.children[word] = _Node(word)
            node = node.children[word]
        node.destinations.add(binding.destination)

    def remove(self, binding: Binding) -> None:
        """Take the destination off, and cut what the branch no longer needs."""
        pattern = binding.routing_key
        words = words_of(pattern)
        if _is_wide(words):
            self._wide[pattern].destinations.remove(binding.destination)
            if not self._wide[pattern].destinations:
                del self._wide[pattern]
            return
        node = self._root
        path: list[tuple[_Node, str]] = []
        for word in words:
            path.append((node, word))
            node = node.children[word]
        node.destinations.remove(binding.destination)
        for parent, word in reversed(path):
            if not parent.children[word].is_empty:
                return
            del parent.children[word]

    def reached(self, levels: list[str]) -> Iterator[Destinations]:
        """Where all the levels lead to.

        A pattern does not tell which of its dots are within a level, so there may be some too many where a level has
        several words: a subscription looks at what it gets (MQTT 5.0, 4.7.1.3).
        """
        for node in _reached(self._root, levels):
            yield node.destinations
        for pattern in self._wide.values():
            if pattern.fits(levels):
                yield pattern.destinations


class TopicMatcher(Matcher):
    """Destinations by pattern (AMQP 0-9-1, 3.1.3.3)."""

    has_topic_permissions = True

    def __init__(self, arguments: Table) -> None:
        super().__init__(arguments)
        self._patterns: dict[Reading, _Patterns] = {}

    def add(self, binding: Binding) -> None:
        """Put it to those that are read in the same way."""
        reading = binding.destination.reading
        if reading not in self._patterns:
            self._patterns[reading] = _Patterns()
        self._patterns[reading].add(binding)

    def remove(self, binding: Binding) -> None:
        """Take it away from there."""
        self._patterns[binding.destination.reading].remove(binding)

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        """All whose pattern fits what they read."""
        for reading, patterns in self._patterns.items():
            for levels in reading.read(message.routing_keys, message.headers):
                for destinations in patterns.reached(levels):
                    yield from destinations

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        """The first word that does not fit, where there is one."""
        problem = ""
        for routing_key in message.routing_keys:
            problem = _misfit(words_of(binding.routing_key), words_of(routing_key))
            if not problem:
                return Verdict(True, f"the key '{routing_key}' fits the pattern")
        patterns = _Patterns()
        patterns.add(binding)
        for levels in binding.destination.reading.read(message.routing_keys, message.headers):
            if any(patterns.reached(levels)):
                return Verdict(True, f"the topic '{'/'.join(levels)}' fits the pattern level by level")
        return Verdict(False, problem)


def fits(pattern: str, key: str) -> bool:
    """Whether a routing key fits a pattern, for who has a single one."""
    return not _misfit(words_of(pattern), words_of(key))


def _is_wide(words: list[str]) -> bool:
    return ANY_WORDS in words and len(words) - words.index(ANY_WORDS) > WORDS_BEHIND_ANY_MAX


def _reached(root: _Node, levels: list[str]) -> Iterable[_Node]:
    """The nodes that all the levels lead to."""
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
