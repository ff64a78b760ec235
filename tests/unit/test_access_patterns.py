"""Administrators' patterns: what they match, compared with Python's own engine, and that none of them takes long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.access.pattern_automaton import STATES_MAX
from amqp_broker.access.patterns import BadPattern, Pattern
from tests.support.examples import examples

ATOMS = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", r"\w", r"\D", "ab", "^", "$", r"\b", r"\B", "[a-c]", r"\.", r"\Z", "(?i:A)", "é"]
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]}|{parts[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{1,2}", "{2}", "{2,}", "*?", "{,3}"])).map(
            lambda parts: f"(?:{parts[0]}){parts[1]}"
        ),
        inner.map(lambda part: f"(?={part})"),
        inner.map(lambda part: f"(?!{part})"),
    )


PATTERNS = st.recursive(ATOMS, _larger, max_leaves=8)


@given(PATTERNS, st.text("abcA1.é\n", min_size=1, max_size=10))
@settings(max_examples=examples(1000), deadline=None)
def test_matches_what_pythons_engine_matches(source: str, text: str) -> None:
    # No empty texts, where Python's \B differs. Python's \Z is the very end, PCRE's may stand before a last line
    # break; to PCRE {,3} is no repetition.
    theirs = re.compile(source.replace(r"\Z", "$").replace("{,3}", r"\{,3}").encode())
    assert Pattern(source).matches(text) is bool(theirs.search(text.encode()))


@pytest.mark.parametrize(
    ("source", "matching", "other"),
    [
        ("", "", "q"),
        (".*", "anything", None),
        ("^orders", "orders.new", "my.orders"),
        ("orders$", "my.orders", "orders.new"),
        ("^(?!amq\\.)", "mine", "amq.direct"),
        ("(?<=my)q", "myq", "yourq"),
        ("(?<!my)q", "yourq", "myq"),
        ("(?i)GUEST", "guest", "gast"),
        ("^[[:alpha:]]+$", "abc", "abc1"),
        ("^\\x41[\\]\\-]$", "A]", "A[]"),
        ("^(?P<name>a)(?<other>b)$", "ab", "a"),
        ("^.{3}$", "abc", "ab"),
        ("^é$", "é", "e"),
        ("^..$", "é", "e"),  # byte by byte, as in RabbitMQ
        ("a{", "a{", "a"),
    ],
)
def test_examples(source: str, matching: str, other: str | None) -> None:
    pattern = Pattern(source)
    assert pattern.matches(matching)
    assert other is None or not pattern.matches(other)


@pytest.mark.parametrize(
    "source",
    [
        "(", ")", "[", "[[:no:]]", "*", "a**+", "(?", "(?P<a", "(?>a)", r"(a)\1", r"\k<a>", "a++", "a{2,1}", "a{1001}",
        "(?R)", "(?(1)a)", "(?m)a", r"\p{L}", "\\", "[b-a]", "((a{99}){99})", "a" * 1025, "(" * 51 + ")" * 51,
        r"\x4",
    ],
)  # fmt: skip
def test_refused(source: str) -> None:
    with pytest.raises(BadPattern):
        Pattern(source)


@pytest.mark.parametrize(
    "source",
    [
        "(a+)+$", "(a|a)*$b", "^(.*?,){11}P", "(?!(a+)+$)^((?!x).)*y$", ".*" * 400 + "x", "(){1000}{1000}{1000}",
        "(a*)*b", "(a|aa)+$", "(.*)*(.*)*(.*)*c$", "(.*a){20}$", "(.*a){300}", "(a?){255}a{255}",
        "(a|b|ab)*" * 100 + "c", "^(([a-z])+.)+[A-Z]([a-z])+$", "((((((((((a?)?)?)?)?)?)?)?)?)?)*" * 20,
        "(|a)*" * 150, "(?i)(a|A|\u212a|k)*$",
        "(?=.*a)" * 100, "(?=a*)*" * 100 + "b", "(?=(?=(?=(?=.*a)*)*)*)*c", "(?!(?!(?!(?!(a+)+$))))", "(?<=(a+)+)b",
        "(?<=.{0,200})c", "(?<!.*a)" * 30 + "$", "(?:(?=a*)a)*c" * 10, r"(\w+\s?)*$",
    ],
)  # fmt: skip
def test_work_is_bounded_by_pattern_and_text(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a backtracking engine needs for ever: here no state is looked at twice at one position."""
    pattern = Pattern(source)
    steps = 0
    follow = type(pattern._automaton)._follow

    def counted(automaton: object, numbers: list[int], *rest: object) -> object:
        nonlocal steps
        steps += len(numbers)
        return follow(automaton, numbers, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(type(pattern._automaton), "_follow", counted)
    text = "a" * 254 + "b"
    pattern.matches(text)
    assert steps <= (len(text) + 1) * (STATES_MAX + 1) * 2


@pytest.mark.parametrize("sign", ["*", "{1}"])
def test_repetitions_of_repetitions_are_refused_when_they_are_too_many(sign: str) -> None:
    assert Pattern("a" + 5 * sign).matches("a")
    with pytest.raises(BadPattern):
        Pattern("a" + 300 * sign)


def test_as_many_groups_as_may_be_with_repetitions_between_them() -> None:
    assert Pattern(50 * "(?:" + "a" + 50 * "){1}").matches("a")
    with pytest.raises(BadPattern, match="nested deeper than 200"):
        Pattern(50 * "(?:" + "a" + 50 * "){1}{1}{1}{1}")
