"""Values as Erlang prints them (``~p``): RabbitMQ's texts show wrong values that way, and clients match on them.

Two values that print alike are one and the same term in Erlang, whatever their types in a field table were: the
comparison of arguments rests on that. Strings and byte arrays are both binaries there. Holds no rule about arguments.
"""

from __future__ import annotations

import decimal
import math

from amqp_broker.wire.table import Decimal, FieldValue, type_name

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\b": "\\b", "\f": "\\f"}
_ESCAPES["\x1b"] = "\\e"
EXACT_INTEGER_MAX = 2**53  # beyond it Erlang shows an exponent always


def erlang_term(value: FieldValue) -> str:
    """A field's value: ``5``, ``1.0e22``, ``true``, ``undefined``, ``<<"text">>``, ``[{signedint,5}]``."""
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str | bytes):
        return f"<<{_characters(_bytes(value), '{}')}>>"
    if isinstance(value, Decimal):
        return f"{{{value.scale},{value.unscaled}}}"
    if isinstance(value, dict):
        fields = (f"{{{erlang_term(name)},{type_name(item)},{erlang_term(item)}}}" for name, item in value.items())
        return f"[{','.join(fields)}]"
    return f"[{','.join(f'{{{type_name(item)},{erlang_term(item)}}}' for item in value)}]"


def erlang_json(value: object) -> str:
    """A value out of JSON, as RabbitMQ keeps it: an object is a list of pairs, nothing is ``null``."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return f"[{','.join(f'{{{erlang_json(key)},{erlang_json(one)}}}' for key, one in value.items())}]"
    if isinstance(value, list):
        return f"[{','.join(erlang_json(one) for one in value)}]"
    return erlang_term(value) if isinstance(value, bool | int | float | str) else erlang_string(str(value))


def erlang_string(text: str) -> str:
    """A text that is a list of characters there: quoted and escaped, or as numbers where it cannot be printed."""
    return _characters(_bytes(text), "[{}]")


def bare(value: FieldValue) -> str:
    """A value as texts show it between quotes of their own: a string as it is, all else as a term."""
    return _bytes(value).decode("utf-8", "surrogateescape") if isinstance(value, str | bytes) else erlang_term(value)


def _bytes(value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a character, from JSON
        return value.encode("utf-8", "replace")


def _characters(data: bytes, unprintable: str) -> str:
    """Each byte is a character of Latin-1; the text is put together from bytes again, so UTF-8 comes out whole."""
    characters = data.decode("latin-1")
    if not data or not all(" " <= one <= "~" or one >= "\xa0" or one in _ESCAPES for one in characters):
        return unprintable.format(",".join(map(str, data)))
    escaped = "".join(_ESCAPES.get(one, one) for one in characters)
    return f'"{escaped.encode("latin-1").decode("utf-8", "surrogateescape")}"'


def _float(value: float) -> str:
    """The shortest digits that read back as this number, with an exponent only where that is shorter."""
    if not math.isfinite(value):
        return str(float(value))
    sign, numbers, exponent = decimal.Decimal(repr(float(value))).as_tuple()
    digits = "".join(map(str, numbers)).rstrip("0") or "0"
    place = len(numbers) + int(exponent)  # so many digits stand before the point
    shown = "0.0" if not value else _with_point(digits, place, abs(value) < EXACT_INTEGER_MAX)
    return f"-{shown}" if sign else shown


def _with_point(digits: str, place: int, may_be_plain: bool) -> str:
    exponent = str(place - 1)
    cost = len(exponent) + 1 + (2 if len(digits) == 1 else 1)
    if 0 < place < len(digits) and may_be_plain:
        return f"{digits[:place]}.{digits[place:]}"
    if place >= len(digits) and place - len(digits) + 2 <= cost and may_be_plain:
        return f"{digits}{'0' * (place - len(digits))}.0"
    if place == 0 or (place < 0 and 2 - place <= cost):
        return f"0.{'0' * -place}{digits}"
    return f"{digits[0]}.{digits[1:] or '0'}e{exponent}"
