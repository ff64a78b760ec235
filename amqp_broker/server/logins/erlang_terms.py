"""Reads terms of Erlang as they stand in a configuration: atoms, strings, integers, tuples and lists.

RabbitMQ's queries to a directory are such terms, and whoever has them should not have to translate them. Holds nothing
of what they mean (``ldap_queries.py``).
"""

from __future__ import annotations

import re
from typing import Any, Final

NESTING_MAX: Final = 100

_TOKEN = re.compile(
    r"""(?:\s|%[^\n]*)*(?:
      (?P<mark>[{}\[\],.])
    | (?P<atom>[a-z][\w@]*)
    | '(?P<quoted>(?:[^'\\]|\\.)*)'
    | (?:<<\s*)?"(?P<text>(?:[^"\\]|\\.)*)"(?:\s*>>)?
    | (?P<integer>-?\d+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_BLANK = re.compile(r"\A(?:\s|%[^\n]*)*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "s": " "}
_CLOSING = {"{": "}", "[": "]"}


class BadTerm(ValueError):
    """A text is no term; what is said names the place."""


class Atom(str):
    """A name: it is compared as a text, and told from one by its type."""

    __slots__ = ()


def read_term(text: str) -> Any:
    """The one term in a text: ``Atom``, ``str``, ``int``, or a tuple or list of such.

    Raises:
        BadTerm: it is no term, or more than one.
    """
    reader = _Reader(text)
    term = reader.term(0)
    reader.end()
    return term


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def _bad(self, problem: str) -> BadTerm:
        rest = _BLANK.sub("", self._text[self._position :], count=1)[:20]
        return BadTerm(f"{problem} at {rest!r}" if rest else f"{problem} at its end")

    def _next(self) -> re.Match[str]:
        found = _TOKEN.match(self._text, self._position)
        if found is None:
            raise self._bad("is no term of Erlang")
        self._position = found.end()
        return found

    def _take(self, mark: str) -> bool:
        found = _TOKEN.match(self._text, self._position)
        if found is None or found["mark"] != mark:
            return False
        self._position = found.end()
        return True

    def term(self, depth: int) -> Any:
        if depth > NESTING_MAX:
            raise self._bad(f"has more than {NESTING_MAX} terms in each other")
        before = self._position
        found = self._next()
        if found["mark"] is not None and found["mark"] in _CLOSING:
            closing = _CLOSING[found["mark"]]
            parts = self._parts(closing, depth + 1)
            return tuple(parts) if closing == "}" else parts
        if found["atom"] is not None:
            return Atom(found["atom"])
        if found["quoted"] is not None:
            return Atom(_unescaped(found["quoted"]))
        if found["text"] is not None:
            return _unescaped(found["text"])
        if found["integer"] is not None:
            return int(found["integer"])
        self._position = before
        raise self._bad("has something else than a term")

    def _parts(self, closing: str, depth: int) -> list[Any]:
        parts: list[Any] = []
        if self._take(closing):
            return parts
        while True:
            parts.append(self.term(depth))
            if self._take(closing):
                return parts
            if not self._take(","):
                raise self._bad(f"lacks a comma or {closing!r}")

    def end(self) -> None:
        self._take(".")
        if _BLANK.sub("", self._text[self._position :]):
            raise self._bad("goes on after its end")


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text, flags=re.DOTALL)
