"""JSON that stands on a command line of rabbitmqctl, and JSON that is shown in a cell."""

from __future__ import annotations

import json
import re
from typing import Any

from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed

UNITS = {
    "": 1, "k": 2**10, "kib": 2**10, "m": 2**20, "mib": 2**20, "g": 2**30, "gib": 2**30,
    "kb": 10**3, "mb": 10**6, "gb": 10**9,
}  # fmt: skip


def read_json(text: str) -> Any:
    """A value from the command line.

    Raises:
        Failed: it is no JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failed(Code.UNAVAILABLE, "JSON decoding error. Reason: badarg") from error


def size_bytes(text: str) -> int | None:
    """A size with its unit, as 5GB or 512MiB; None where it is none."""
    found = re.fullmatch(r"([0-9]{1,15})([A-Za-z]*)", text)
    unit = UNITS.get(found[2].lower()) if found is not None else None
    return None if found is None or unit is None else int(found[1]) * unit


def compact(value: Any) -> str:
    """A value in a cell."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
