"""Values of AMQP's tables as they can be written in JSON, and JSON of others, read so that it can be written again."""

from __future__ import annotations

import json
import math

from amqp_broker.wire.table import Decimal, FieldValue, RepeatedName, Table


def read_json(text: str | bytes | bytearray) -> object:
    """Read JSON as ``json.loads`` does, but for numbers that could not be written as JSON again.

    Raises:
        ValueError, RecursionError: as ``json.loads``, and where a number is ``NaN``, ``Infinity``, or like ``1e999``.
    """
    return json.loads(text, parse_constant=no_number, parse_float=finite)


def no_number(text: str) -> float:
    """Refuse what JSON's grammar has no word for (``json.JSONDecoder`` takes it)."""
    raise ValueError(f"{text} is no number of JSON")


def finite(text: str) -> float:
    """Read a number with a fraction or an exponent; one that is too large to be a number here is refused."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def json_ready_table(table: Table) -> dict[str, object]:
    """Arguments or properties as they can be written in JSON; of several of one name the first."""
    return {name: json_ready(value) for name, value in table.items() if not isinstance(name, RepeatedName)}


def json_ready(value: FieldValue) -> object:
    """A value of a table as it can be written in JSON: bytes as text, a decimal as a number."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, Decimal):
        return value.unscaled / 10**value.scale
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return json_ready_table(value)
    if isinstance(value, list):
        return [json_ready(one) for one in value]
    return value
