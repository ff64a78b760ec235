"""The forms of rabbitmqctl's output: tables with tabs, with lines, JSON and CSV. Erlang's terms are not among them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from amqp_broker.cli.rabbitmqctl.outcome import Report, Result, Table

TABLES = ("arguments", "client_properties")  # columns that JSON shows with the types of all that is in them
TYPES = {str: "longstr", bool: "bool", float: "double"}
FORMATTERS = ("table", "pretty_table", "json", "csv")


def print_result(result: Result, formatter: str, *, has_header: bool) -> None:
    """Print what a command found.

    Args:
        formatter: one of ``FORMATTERS``.
        has_header: whether tables may have a line of column names.
    """
    for line in _lines(result, formatter, has_header):
        print(line)


def _lines(result: Result, formatter: str, has_header: bool) -> Iterator[str]:
    if isinstance(result, Table):
        yield from _table_lines(result, formatter, has_header and result.has_header)
    elif isinstance(result, Report):
        if formatter == "json":
            yield json.dumps(result.value or {"message": "\n".join(result.lines)}, separators=(",", ":"))
        else:
            yield from result.lines


def _table_lines(table: Table, formatter: str, has_header: bool) -> Iterator[str]:
    if formatter == "json":
        yield from _json_lines(table)
    elif formatter == "csv":
        yield from _csv_lines(table, has_header)
    elif formatter == "pretty_table":
        yield from _drawn_lines(table)
    elif table.rows:
        if has_header:
            yield "\t".join(table.columns)
        for row in table.rows:
            yield "\t".join(cell(row[name]) for name in table.columns)


def _json_lines(table: Table) -> Iterator[str]:
    if not table.rows:
        yield "[\n]" if table.is_stream else "[]"
        return
    yield "["
    for number, row in enumerate(table.rows):
        value = {name: _json_value(name, row[name]) for name in table.columns}
        yield ("," if number else "") + json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    yield "]"


def _json_value(column: str, value: Any) -> Any:
    if value is None:
        return ""
    return _typed_table(value) if column in TABLES and isinstance(value, dict) else value


def _typed_table(table: Mapping[str, Any]) -> list[list[Any]]:
    """A table of arguments as Erlang has it: each name with the type of its value, and the value, by name."""
    return [[name, *_typed(value)] for name, value in sorted(table.items())]


def _typed(value: Any) -> list[Any]:
    """A value behind its type. The width of a number is not told: it is that which the number needs."""
    if isinstance(value, dict):
        return ["table", _typed_table(value)]
    if isinstance(value, list):
        return ["array", list(map(_typed, value))]
    if value is None:
        return ["void", "undefined"]
    if isinstance(value, int) and not isinstance(value, bool):
        return ["signedint" if -(2**31) <= value < 2**31 else "long", value]
    return [TYPES[type(value)], value]


def _csv_lines(table: Table, has_header: bool) -> Iterator[str]:
    if has_header:
        yield ",".join(map(_quoted, table.columns))
    for row in table.rows:
        yield ",".join(_quoted(cell(row[name])) for name in table.columns)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _drawn_lines(table: Table) -> Iterator[str]:
    cells = [[cell(row[name]) for name in table.columns] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *cells, strict=True)]
    marks = "┌┬┐├┼┤└┴┘─│"
    try:
        marks.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        marks = "+++++++++-|"
    yield _ruler(widths, marks[0:3], marks[9])
    for number, line in enumerate([list(table.columns), *cells]):
        if number:
            yield _ruler(widths, marks[3:6], marks[9])
        padded = (f" {text.ljust(width)} " for text, width in zip(line, widths, strict=True))
        yield f"{marks[10]}{marks[10].join(padded)}{marks[10]}"
    yield _ruler(widths, marks[6:9], marks[9])


def _ruler(widths: Sequence[int], ends: str, line: str) -> str:
    return ends[0] + ends[1].join(line * (width + 2) for width in widths) + ends[2]


def cell(value: Any) -> str:
    """A value as it stands in a table: arguments as Erlang's terms, names in brackets, control characters escaped."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value if value.isprintable() else json.dumps(value, ensure_ascii=False)[1:-1]
    if isinstance(value, dict):
        return _term(value)
    if isinstance(value, list):
        return f"[{', '.join(map(cell, value))}]"
    return str(value)


def _term(value: Any) -> str:
    if isinstance(value, dict):
        return f"[{','.join(f'{{{json.dumps(name)},{_term(one)}}}' for name, one in value.items())}]"
    if isinstance(value, list):
        return f"[{','.join(map(_term, value))}]"
    return "undefined" if value is None else json.dumps(value, ensure_ascii=False)
