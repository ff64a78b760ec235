"""Authentication mechanisms: from a client's response to a user name and a password.

PLAIN (RFC 4616) and AMQPLAIN (a field table with LOGIN and PASSWORD, from AMQP 0-8). Holds no users.
"""

from __future__ import annotations

from typing import NamedTuple

from amqp_broker.wire.table import decode_table

MECHANISMS = ("PLAIN", "AMQPLAIN")
EXTERNAL = "EXTERNAL"  # who it is, TLS has found out; the response says nothing (RFC 4422, appendix A)


class Credentials(NamedTuple):
    """The user name that a client gives as its own, and the proof."""

    name: str
    password: bytes


class BadResponse(ValueError):
    """The response is not one of this mechanism; the text says why."""


def read_response(mechanism: str, response: bytes) -> Credentials:
    """Read the response of ``connection.start-ok``.

    Raises:
        BadResponse: it is malformed.
    """
    return _read_plain(response) if mechanism == "PLAIN" else _read_amqplain(response)


def _read_plain(response: bytes) -> Credentials:
    parts = response.split(b"\0")
    if len(parts) != 3 or parts[0]:  # an identity to act as is not known here
        raise BadResponse(f"response {response[:1]!r}... invalid")
    return Credentials(parts[1].decode("utf-8", "surrogateescape"), parts[2])


def _read_amqplain(response: bytes) -> Credentials:
    # The table comes without its own length: the response's length is it.
    try:
        table, _ = decode_table(len(response).to_bytes(4, "big") + response, 0)
    except ValueError as error:
        raise BadResponse("AMQPLAIN auth info is not a table") from error
    login, password = table.get("LOGIN"), table.get("PASSWORD")
    if not isinstance(login, str) or not isinstance(password, str):
        raise BadResponse("AMQPLAIN auth info misses LOGIN or PASSWORD fields")
    return Credentials(login, password.encode("utf-8", "surrogateescape"))
