"""Explanations of mistakes that the system and Python's libraries have found, in words for who made them.

Holds the words, and what has OpenSSL raise some where it would ask. Who tells them says of what, and the way out.
"""

from __future__ import annotations

import json

# What Python's parser of JSON says begins with one of these. The first that fits counts.
_JSON_MISTAKES = {
    "Expecting value": "a value is missing, or a text stands without double quotes",
    "Expecting property name": "a name in double quotes is missing, or there is a comma too many",
    "Illegal trailing comma": "there is a comma too many",
    "Expecting ',' delimiter": "a comma or a closing bracket is missing",
    "Expecting ':' delimiter": "a colon is missing",
    "Extra data": "something follows behind the end",
    "Unterminated string": "the closing quote of a text is missing",
    "Invalid control character": "a text holds a line break or another control character",
    "Invalid": "what follows a backslash is no escape",
    "Unexpected UTF-8 BOM": "it begins with a byte order mark: save it as UTF-8 without one",
}

# What a client of a protocol sends first begins with one of these.
_BEGINNINGS = {
    "a TLS client": (b"\x16\x03",),
    "an AMQP client": (b"AMQP",),
    "a STOMP client": (b"CONNECT\n", b"CONNECT\r\n", b"STOMP\n", b"STOMP\r\n"),
    "an HTTP client": (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS "),
}
_MQTT_CONNECT = b"\x10"  # one to four bytes behind it are a length, then the protocol's name has its own in two


def system_reason(error: OSError) -> str:
    """Why the system has refused something, without its number and without the name of the file."""
    return error.strerror or str(error) or type(error).__name__


class HasPassword(OSError):
    """A key that can be used only by somebody who knows its password."""


def no_password() -> str:
    """Refuses to say the password of a key, for which OpenSSL would ask on the terminal, and wait.

    Raises:
        HasPassword: the text says the way out.
    """
    raise HasPassword("the key has a password: take it off, nobody is here to type it")


def json_mistake(error: ValueError | RecursionError) -> str:
    """What is wrong with a text that was to be JSON, and where.

    Args:
        error: as ``json.loads`` raises it, or the decoding of the bytes before it.
    """
    if isinstance(error, json.JSONDecodeError):
        found = (text for beginning, text in _JSON_MISTAKES.items() if error.msg.startswith(beginning))
        return f"line {error.lineno}, column {error.colno}: {next(found, 'it is not understood from here on')}"
    if isinstance(error, UnicodeError):
        return "it is not in UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "a number in it is too large, or none that JSON has"


def wrong_client(beginning: bytes, spoken: str) -> str:
    """Who has come to the wrong port, as far as it can be told: "an MQTT client on a port for AMQP".

    Args:
        beginning: the first bytes that the client has sent, which are not what is spoken there.
        spoken: the protocol of the port.

    Returns:
        Words for a log; empty where it cannot be told.
    """
    who = next((name for name, beginnings in _BEGINNINGS.items() if beginning.startswith(beginnings)), "")
    if beginning.startswith(_MQTT_CONNECT) and b"MQ" in beginning[4:9]:
        who = "an MQTT client"
    if who == "a TLS client":
        return f"{who} on a port without TLS"
    return f"{who} on a port for {spoken}" if who else ""
