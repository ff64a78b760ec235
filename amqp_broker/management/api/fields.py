"""The fields of a request's JSON object: which are needed, and of which kind they are, refused in RabbitMQ's words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from amqp_broker.management.http.messages import bad_request
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.table import Table, encode_table

SHORT_BYTES_MAX = 255
NO_GARBAGE_COLLECTION = {  # of Erlang processes; none here
    "fullsweep_after": 0,
    "max_heap_size": 0,
    "min_bin_vheap_size": 0,
    "min_heap_size": 0,
    "minor_gcs": 0,
}


def need(body: Mapping[str, Any], *names: str, separator: str = ",") -> None:
    """See that some fields are there.

    Raises:
        HttpError: 400.
    """
    missing = [f"{{key_missing,{name}}}" for name in names if name not in body]
    if missing:
        raise bad_request(f"[{separator.join(missing)}]")


def boolean(body: Mapping[str, Any], name: str, default: bool = False) -> bool:
    """A flag, which may be written as a text.

    Raises:
        HttpError: 400.
    """
    value = body.get(name, default)
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise bad_request(["not_boolean", value])
    return value


def text(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A text.

    Raises:
        HttpError: 400.
    """
    value = body.get(name, default)
    if not isinstance(value, str):
        raise bad_request(["not_string", name])
    return value


def whole(body: Mapping[str, Any], name: str) -> int:
    """A whole number, which may be written as a text.

    Raises:
        HttpError: 400.
    """
    value = body[name]
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and value.isascii() and len(value) < 20:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise bad_request(["not_int", name])
    return value


def table(body: Mapping[str, Any], name: str = "arguments") -> Table:
    """Arguments or headers; an empty list is an empty table, as it is in Erlang.

    Raises:
        HttpError: 400.
    """
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise bad_request(f"{name} must be an object")
    try:
        encode_table(value)
    except (WireError, RecursionError) as error:
        raise bad_request(f"{name} cannot be had: {error}") from error
    return value


def short(name: str) -> str:
    """A name or a routing key, which AMQP lets have 255 bytes.

    Raises:
        HttpError: 400.
    """
    if len(name.encode("utf-8", "surrogateescape")) > SHORT_BYTES_MAX:
        raise bad_request(f"a name or a routing key has at most {SHORT_BYTES_MAX} bytes")
    return name


def query_flag(query: Mapping[str, str], name: str) -> bool:
    """A flag of the query; one without a value is set."""
    return query.get(name) in ("true", "")


def names(value: object) -> tuple[str, ...]:
    """Tags: a list of them, or one text with commas between.

    Raises:
        HttpError: 400.
    """
    if isinstance(value, str):
        return tuple(dict.fromkeys(tag.strip() for tag in value.split(",") if tag.strip()))
    if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
        return tuple(dict.fromkeys(tag.strip() for tag in value if tag.strip()))
    raise bad_request("tags must be a text or a list of texts")


def iso_time(since_1970_ms: int) -> str:
    """A moment, as RabbitMQ writes one."""
    return datetime.fromtimestamp(since_1970_ms / 1000, UTC).isoformat(timespec="milliseconds")
