"""Frames of STOMP 1.0, 1.1 and 1.2 as npm's ``@stomp/stompjs`` has them: each reads what the other writes.

Where the library differs it is not asked:

- it escapes values in 1.2 alone, and names never; here both are escaped in every version, as with RabbitMQ, but for
  CONNECT and CONNECTED, so that in 1.0 and 1.1 it shows colons, backslashes and line ends of values as escapes;
- it takes blanks at the ends of names and values away, and a byte order mark;
- it undoes the escapes in a wrong order: a backslash before an ``r``, ``n`` or ``c`` is none any more;
- it loses a header of the name ``__proto__``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.protocols.stomp.frames import Frame, FrameSplitter, encode_frame
from tests.support.memory_broker import MemoryBroker
from tests.support.node_codecs import NodeCodecs, missing
from tests.support.stomp_client import StompClient

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

VERSIONS = ("1.0", "1.1", "1.2")
ESCAPED = ":\\\r\n"
FROM_CLIENT = ("CONNECT", "SUBSCRIBE", "UNSUBSCRIBE", "ACK", "NACK", "BEGIN", "COMMIT", "ABORT", "DISCONNECT")
FROM_SERVER = ("CONNECTED", "MESSAGE", "RECEIPT", "ERROR")
UNESCAPED = ("CONNECT", "CONNECTED")
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
NAMES = TEXTS.filter(
    lambda name: bool(name) and is_trimmed(name) and not set(name) & set(ESCAPED) and name != "__proto__"
)


@pytest.fixture(scope="module")
def node() -> Iterator[NodeCodecs]:
    with NodeCodecs() as codecs:
        yield codecs


def is_trimmed(text: str) -> bool:
    return text.strip().strip("\ufeff") == text


def values(command: str, version: str) -> st.SearchStrategy[str]:
    """Values that the library writes and reads as they are."""
    if version == "1.2" and command not in UNESCAPED:
        return TEXTS.filter(is_trimmed).filter(lambda value: re.search(r"\\[rnc]", value) is None)
    excluded = "\r\n" if command in UNESCAPED else ESCAPED
    return TEXTS.filter(lambda value: is_trimmed(value) and not set(value) & set(excluded))


def headers(command: str, version: str) -> st.SearchStrategy[dict[str, str]]:
    names = NAMES.filter(lambda name: name != "content-length")
    return st.dictionaries(names, values(command, version), max_size=4)


def form_of(frame: Frame) -> dict[str, Any]:
    said = {name: value for name, value in frame.headers.items() if name != "content-length"}
    return {"command": frame.command, "headers": said, "body": frame.body}


@st.composite
def client_frames(draw: st.DrawFn, version: str) -> dict[str, Any]:
    """A frame in the library's terms; SEND has a body, of bytes, or of text with or without its length."""
    command = draw(st.sampled_from((*FROM_CLIENT, *["SEND"] * 5)))
    frame = {"command": command, "headers": draw(headers(command, version)), "body": "", "withoutLength": False}
    if command == "SEND":
        frame["body"] = draw(st.binary(max_size=60) | TEXTS)
        frame["withoutLength"] = isinstance(frame["body"], str) and draw(st.booleans())
    return frame


@given(st.data(), st.sampled_from(VERSIONS))
def test_we_read_what_it_writes(node: NodeCodecs, data: st.DataObject, version: str) -> None:
    sent = data.draw(st.lists(client_frames(version), min_size=1, max_size=5))
    stream = b"".join(node.write("stomp", version, sent))
    expected = []
    for frame in sent:
        body = frame["body"].encode() if isinstance(frame["body"], str) else frame["body"]
        expected.append({"command": frame["command"], "headers": frame["headers"], "body": body})
    assert [form_of(frame) for frame in FrameSplitter(1_000).split(stream)] == expected


@st.composite
def server_frames(draw: st.DrawFn, version: str) -> Frame:
    command = draw(st.sampled_from(FROM_SERVER))
    body = draw(st.binary(max_size=60)) if command in ("MESSAGE", "ERROR") else b""
    return Frame(command, draw(headers(command, version)), body)


@given(st.data(), st.sampled_from(VERSIONS))
def test_it_reads_what_we_write(node: NodeCodecs, data: st.DataObject, version: str) -> None:
    said = data.draw(st.lists(server_frames(version), min_size=1, max_size=5))
    stream = b"".join([encode_frame(frame.command, frame.headers, frame.body) for frame in said])
    (read,) = node.read("stomp", version, [stream])
    for frame in read:
        frame["headers"].pop("content-length", None)
    assert read == [form_of(frame) for frame in said]


@given(st.data(), st.sampled_from(VERSIONS))
def test_it_reads_the_messages_that_a_subscriber_gets(node: NodeCodecs, data: st.DataObject, version: str) -> None:
    """They are not written by ``encode_frame``."""
    names = NAMES.filter(lambda name: name.startswith("own"))
    own = st.dictionaries(st.just("own-") | NAMES.map("own-{}".format) | names, values("MESSAGE", version), max_size=3)
    sent = data.draw(st.lists(st.tuples(own, st.binary(max_size=60)), min_size=1, max_size=5))
    client = StompClient(MemoryBroker(stomp_port=0))
    client.connect(version)
    client.send("SUBSCRIBE", id="0", destination="/queue/q", ack="client")
    client.read()
    for found, body in sent:
        client.write(encode_frame("SEND", {"destination": "/queue/q", **found}, body))
    stream = b"".join(client.connection.take_output())
    (read,) = node.read("stomp", version, [stream])
    expected = []
    for number, (found, body) in enumerate(sent, 1):
        message_id = f"T_0@@{client.connection.session_id}@@{number}"
        said = {"subscription": "0", "destination": "/queue/q", "message-id": message_id, "redelivered": "false"}
        if version == "1.2":
            said["ack"] = message_id
        if body:
            said["content-length"] = str(len(body))
        expected.append({"command": "MESSAGE", "headers": said | found, "body": body})
    assert read == expected
