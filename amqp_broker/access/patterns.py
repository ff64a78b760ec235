"""Regular expressions of administrators, matched in time that grows with the text and the pattern, never faster.

Permissions are patterns (RabbitMQ docs, "Access Control"), and a backtracking engine needs hours for some of them on a
name of forty letters: ``(a+)+$`` in a permission would stop the broker for everybody. So a pattern is read
(``pattern_syntax.py``) and made into an automaton (``pattern_automaton.py``); here is what holds the two together, and
remembers what was asked.
"""

from __future__ import annotations

from amqp_broker.access.pattern_automaton import Automaton
from amqp_broker.access.pattern_syntax import BadPattern as BadPattern
from amqp_broker.access.pattern_syntax import parse

PATTERN_BYTES_MAX = 1024
REMEMBERED_MAX = 1024


class Pattern:
    """A pattern, ready to be searched for.

    Args:
        source: as the administrator wrote it. An empty one stands for ``^$``, as in RabbitMQ.

    Raises:
        BadPattern: it cannot be used.
    """

    __slots__ = ("_automaton", "_remembered", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        encoded = source.encode("utf-8", "surrogateescape")
        if len(encoded) > PATTERN_BYTES_MAX:
            raise BadPattern(f"it is longer than {PATTERN_BYTES_MAX} bytes")
        self._automaton = Automaton(parse(encoded or b"^$"), backwards=False)
        self._remembered: dict[str, bool] = {}

    def matches(self, text: str) -> bool:
        """Whether the pattern matches somewhere in a text."""
        found = self._remembered.get(text)
        if found is None:
            found = bool(self._automaton.run(text.encode("utf-8", "surrogateescape"), stop_at_first=True))
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[text] = found
        return found

    def __repr__(self) -> str:
        return f"Pattern({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)
