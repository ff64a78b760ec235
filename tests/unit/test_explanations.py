"""What is told of mistakes that others have found: in our words, never in those of Python or OpenSSL."""

from __future__ import annotations

import errno
import json
import os
import re
import ssl
from pathlib import Path

import pytest

import amqp_broker
from amqp_broker.explanations import json_mistake, system_reason, wrong_client
from amqp_broker.network import tls

SOURCES = [path for path in sorted(Path(amqp_broker.__file__).parent.rglob("*.py")) if path.stem != "explanations"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "line 1, column 1: a value is missing, or a text stands without double quotes"),
        (b'{"a": high}', "line 1, column 7: a value is missing, or a text stands without double quotes"),
        (b"{'a': 1}", "line 1, column 2: a name in double quotes is missing, or there is a comma too many"),
        (b'{"a" 1}', "line 1, column 6: a colon is missing"),
        (b'{"a": 1 "b": 2}', "line 1, column 9: a comma or a closing bracket is missing"),
        (b'{"a": 1}\n}', "line 2, column 1: something follows behind the end"),
        (b'["a', "line 1, column 2: the closing quote of a text is missing"),
        (b'["a\n"]', "line 1, column 4: a text holds a line break or another control character"),
        (b'["\\x"]', "line 1, column 3: what follows a backslash is no escape"),
        (b'["\\ud"]', "line 1, column 4: what follows a backslash is no escape"),
        (b"\xff", "it is not in UTF-8"),
        (b"9" * 5000, "a number in it is too large, or none that JSON has"),
        (b"[" * 100_000, "it is nested too deeply"),
    ],
)
def test_a_mistake_in_json_is_told_with_its_place(text: bytes, told: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as refused:
        json.loads(text.decode("utf-8"))
    assert json_mistake(refused.value) == told  # type: ignore[arg-type]


def test_a_byte_order_mark_is_told() -> None:
    with pytest.raises(ValueError, match="BOM") as refused:
        json.loads("\ufeff{}")
    assert "byte order mark" in json_mistake(refused.value)


def test_what_the_system_refuses_is_told_without_its_number() -> None:
    assert system_reason(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a file")) == os.strerror(errno.ENOSPC)
    assert system_reason(OSError("as somebody said")) == "as somebody said"
    assert system_reason(OSError()) == "OSError"


def test_why_tls_failed_is_told_for_whoever_runs_the_broker() -> None:
    error = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)")
    error.reason = "TLSV1_ALERT_UNKNOWN_CA"
    assert tls._reason(error) == "the client does not trust the broker's certificate"
    error.reason = "SOMETHING_NEW"
    assert tls._reason(error) == "OpenSSL calls it SOMETHING_NEW"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_text_of_python_reaches_a_user_bare(source: Path) -> None:
    """What catches an error of the system or of a parser says it in our words: never ``{error}`` as it is."""
    text = source.read_text(encoding="utf-8")
    caught = re.finditer(r"except \(?(?:[\w., ]*)(?:OSError|SSLError|JSONDecodeError)[\w., ]*\)? as (\w+):", text)
    for one in caught:
        body = _block_behind(text, one.end())
        assert f"{{{one[1]}}}" not in body, f"{source}: {body}"
        assert f"(str({one[1]})" not in body, f"{source}: {body}"
        assert f"=str({one[1]})" not in body, f"{source}: {body}"


def _block_behind(text: str, at: int) -> str:
    """The lines of a block whose head ends here."""
    indent = len(text[text.rfind("\n", 0, at) + 1 :]) - len(text[text.rfind("\n", 0, at) + 1 :].lstrip())
    found = []
    for line in text[at:].splitlines()[1:]:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        found.append(line)
    return "\n".join(found)


@pytest.mark.parametrize(
    ("beginning", "told"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "a TLS client on a port without TLS"),
        (b"\x10\x0c\x00\x04MQ", "an MQTT client on a port for AMQP"),
        (b"\x10\x81\x02\x00\x06MQIsdp", "an MQTT client on a port for AMQP"),
        (b"CONNECT\n", "a STOMP client on a port for AMQP"),
        (b"STOMP\r\na", "a STOMP client on a port for AMQP"),
        (b"GET /api", "an HTTP client on a port for AMQP"),
        (b"SECRETPW", ""),
        (b"\x10", ""),
        (b"", ""),
    ],
)
def test_who_has_come_to_the_wrong_port_is_named(beginning: bytes, told: str) -> None:
    assert wrong_client(beginning, "AMQP") == told
