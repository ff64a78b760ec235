"""How Erlang prints a value: each case was printed by Erlang/OTP 25."""

from __future__ import annotations

import pytest

from amqp_broker.broker.erlang_text import bare, erlang_string, erlang_term
from amqp_broker.wire.table import Byte, Decimal, FieldValue, SignedInt, Timestamp, UnsignedInt


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (None, "undefined"),
        (True, "true"),
        (False, "false"),
        (SignedInt(-5), "-5"),
        (Timestamp(5), "5"),
        ("text", '<<"text">>'),
        (b"text", '<<"text">>'),
        ("", "<<>>"),
        (b"\x00\x7f", "<<0,127>>"),
        ("käse", '<<"käse">>'),
        ("a\nb", '<<"a\\nb">>'),
        (Decimal(1, 50), "{1,50}"),
        ([], "[]"),
        ({}, "[]"),
        ([UnsignedInt(1), "a"], '[{unsignedint,1},{longstr,<<"a">>}]'),
        ({"k": Byte(1)}, '[{<<"k">>,byte,1}]'),
    ],
)
def test_terms(value: FieldValue, printed: str) -> None:
    assert erlang_term(value) == printed


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (5.0, "5.0"),
        (-2.5, "-2.5"),
        (0.001, "0.001"),
        (1e-4, "0.0001"),
        (0.00012, "1.2e-4"),
        (1e5, "1.0e5"),
        (123456.0, "123456.0"),
        (1.5e10, "1.5e10"),
        (1e22, "1.0e22"),
        (123456789012.0, "123456789012.0"),
        (9007199254740991.0, "9007199254740991.0"),
        (9007199254740992.0, "9.007199254740992e15"),
        (5e-324, "5.0e-324"),
    ],
)
def test_floats(value: float, printed: str) -> None:
    assert erlang_term(value) == printed


@pytest.mark.parametrize(
    ("text", "printed"),
    [("", "[]"), ("plain", '"plain"'), ('"\\', '"\\"\\\\"'), ("\x01", "[1]"), ("ÿ", '"ÿ"')],
)
def test_strings(text: str, printed: str) -> None:
    assert erlang_string(text) == printed


def test_bare() -> None:
    assert [bare("text"), bare(b"text"), bare(5), bare(None)] == ["text", "text", "5", "undefined"]
