"""Tables: as wide as the terminal, with names that stay apart when they are shortened."""

from __future__ import annotations

import io
import json
import sys

import pytest

from amqp_broker.cli.tables import Column, shortened, show


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_numbers_to_the_right_and_the_rest_to_the_left(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"name": "q", "count": 5, "has": True, "not": None},
        {"name": "queue", "count": 1000, "has": False, "not": ""},
    ]
    show(rows, ("name", Column("many", "count", is_number=True), "has", "not"), False)
    assert lines(capsys) == ["name   many  has  not", "q         5  yes  -", "queue  1000  no   -"]


def test_an_empty_list_is_a_line_of_titles(capsys: pytest.CaptureFixture[str]) -> None:
    show([], ("name", "tags"), False)
    show([], ("name", "tags"), True)
    assert lines(capsys) == ["name  tags", "[]"]


@pytest.mark.parametrize("columns", [24, 40, 80])
def test_a_table_is_no_wider_than_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [{"vhost": "/", "name": f"{number}" + "n" * 100, "count": number} for number in range(12)]
    show(rows, ("vhost", "name", Column("count", is_number=True)), False)
    shown = lines(capsys)
    assert max(map(len, shown)) == columns
    assert len(set(shown)) == 13
    assert all(line.split()[2] == str(number) for number, line in enumerate(shown[1:]))


def test_what_is_whole_or_a_number_is_never_shortened(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    show(
        [{"peer": "127.0.0.1:50000", "n": 10**12}], (Column("peer", is_whole=True), Column("n", is_number=True)), False
    )
    assert lines(capsys)[1] == "127.0.0.1:50000  1000000000000"


def test_into_a_pipe_everything_is_written(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    show([{"name": "n" * 300}], ("name",), False)
    assert lines(capsys)[1] == "n" * 300


@pytest.mark.parametrize(
    ("names", "width", "expected"),
    [
        (["short", "a-long-name-of-a-queue"], 9, ["short", "a-lo…ueue"]),
        (["orders.1.queue-of-it", "orders.2.queue-of-it"], 10, ["orders.1.…", "orders.2.…"]),
        (["queue-of-orders.1", "queue-of-orders.2"], 10, ["queue…rs.1", "queue…rs.2"]),
        (
            ["all-begin-so-1-and-end-so-too", "all-begin-so-2-and-end-so-too"],
            12,
            ["…egin-so-1-…", "…egin-so-2-…"],
        ),
    ],
)
def test_shortened_names_stay_apart(names: list[str], width: int, expected: list[str]) -> None:
    found = shortened(names, width)
    assert all(len(name) <= width for name in found)
    assert found == expected


def test_a_terminal_without_the_ellipsis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert shortened(["a-long-name-of-a-queue"], 9) == ["a-lo..eue"]


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2J", "tab\t", "\udcff"])
def test_names_of_clients_stay_in_their_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    show([{"name": name}], ("name",), False)
    _, shown = lines(capsys)
    assert shown.isprintable()
    assert json.loads(f'"{shown}"') == name


def test_arguments_are_written_as_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        [{"arguments": {"x-max-length": 5, "x-overflow": "drop-head"}, "tags": ["a", "b"]}],
        ("arguments", "tags"),
        False,
    )
    assert lines(capsys)[1] == "x-max-length=5 x-overflow=drop-head  a b"
