"""Values of AMQP's tables as they can be written in JSON."""

from __future__ import annotations

import math

from amqp_broker.wire.table import Decimal, FieldValue, RepeatedName, Table


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
