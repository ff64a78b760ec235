"""JSON that stands on a command line of rabbitmqctl, and JSON that is shown in a cell."""

from __future__ import annotations

import json
from typing import Any

from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed


def read_json(text: str) -> Any:
    """A value from the command line.

    Raises:
        Failed: it is no JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failed(Code.UNAVAILABLE, "JSON decoding error. Reason: badarg") from error


def compact(value: Any) -> str:
    """A value in a cell."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
