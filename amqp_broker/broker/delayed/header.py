"""The header ``x-delay``: how long a message asks to be held back, and how that is noted once it was.

The well-known plugin's rules (rabbitmq_delayed_message_exchange, rabbit_delayed_message_utils.erl): a number of
milliseconds, of any integer type, as text, or with a fraction that is cut off; whatever else it is means no delay.
Numbers beyond 32 bits are taken, which the plugin does not.
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import isfinite
from typing import Final

from amqp_broker.wire.content import body_size, decode_properties, encode_content_header
from amqp_broker.wire.table import FieldValue, Table, Timestamp

DELAY_HEADER: Final = "x-delay"
DELAY_MS_MAX: Final = 2**62  # some hundred million years; more would not fit into 64 bits with a date
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,100}")


def delay_ms_of(headers: Table) -> int:
    """The milliseconds that a message with these headers is to be held back; 0 for none."""
    if DELAY_HEADER not in headers:
        return 0
    return max(0, min(_number(headers[DELAY_HEADER]), DELAY_MS_MAX))


def _number(value: FieldValue) -> int:
    if isinstance(value, bool | Timestamp):  # first: compiled, what is known to be an int is neither any more
        return 0
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        text = value.strip()
        return int(text) if _NUMBER.fullmatch(text) else 0
    if isinstance(value, float):
        return int(value) if isfinite(value) else 0
    if isinstance(value, int):
        return int(value)
    return 0


def with_delay_over(header: bytes, delay_ms: int) -> bytes:
    """The content header of a message that was held back: its delay is negative now, so nobody holds it back again."""
    properties = decode_properties(header)
    headers = {**(properties.headers or {}), DELAY_HEADER: -delay_ms}
    return encode_content_header(body_size(header), replace(properties, headers=headers))
