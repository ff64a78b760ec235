"""Numbers with their rates and, where the query asks for them, samples of how they were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import bad_request
from amqp_broker.management.samples import RANGE_SAMPLES_MAX, Key

Range = tuple[int, int]  # how far back, and the step, in seconds

LENGTHS_RANGE = "lengths"
MESSAGES_RANGE = "msg_rates"
BYTES_RANGE = "data_rates"
NODE_RANGE = "node_stats"
NO_RANGE = ""


def range_of(call: Call, kind: str) -> Range | None:
    """The samples that the query asks for; both the age and the step are needed.

    Raises:
        HttpError: 400, they are too many.
    """
    age, step = (_number(call.request.query.get(f"{kind}_{which}")) for which in ("age", "incr"))
    if age is None or step is None or age < 0 or step < 1:
        return None
    if age // step > RANGE_SAMPLES_MAX:
        raise bad_request(f"Invalid range parameters: age {age}, incr {step}")
    return age, step


def check_ranges(call: Call) -> None:
    """Refuse too many samples before an answer is begun.

    Raises:
        HttpError: 400.
    """
    for kind in (LENGTHS_RANGE, MESSAGES_RANGE, BYTES_RANGE, NODE_RANGE):
        range_of(call, kind)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else None


def with_rates(call: Call, key: Key, values: Mapping[str, int], kind: str = NO_RANGE) -> dict[str, Any]:
    """Each number, followed by its details.

    Args:
        key: whose numbers they are.
        kind: which samples may be asked for, one of the constants above.
    """
    samples = call.management.samples
    asked = range_of(call, kind) if kind else None
    past = samples.past(key, *asked) if asked is not None else None
    found: dict[str, Any] = {}
    for (name, value), rate in zip(values.items(), samples.rates(key, values), strict=True):
        found[name] = value
        details: dict[str, object] = {"rate": rate}
        if past is not None:
            details |= past.history(name, value)
        found[f"{name}_details"] = details
    return found


def zero_rates(names: Iterable[str]) -> dict[str, Any]:
    """Numbers of which there are none here."""
    found: dict[str, Any] = {}
    for name in names:
        found |= {name: 0, f"{name}_details": {"rate": 0.0}}
    return found
