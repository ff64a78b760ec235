"""Definitions: all that is declared and set, exported and imported in RabbitMQ's JSON, whole or of one virtual host."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from email.message import Message
from email.parser import BytesParser
from typing import Any

import trio

from amqp_broker.broker.definitions.applying import import_definitions
from amqp_broker.broker.definitions.export import SECTIONS, SECTIONS_OF_VIRTUAL_HOST, header, pieces
from amqp_broker.broker.inspection import SLICE_OBJECTS
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, bad_request, read_object, to_json
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.server.changes import until_done

NOT_IN_FILE_NAMES = re.compile(r"[^\w.@ -]", re.ASCII)
NO_JSON = "failed_to_parse_json"


async def export(call: Call) -> Answer:
    """All of it, or what there is in one virtual host; ``?download=NAME`` lets a browser save it."""
    virtual_host = call.virtual_host().name if "vhost" in call.variables else None
    headers = {}
    if "download" in call.request.query:
        name = NOT_IN_FILE_NAMES.sub("_", call.request.query["download"])
        headers["content-disposition"] = f'attachment; filename="{name}"'
    return Answer(pieces=_exported(call, virtual_host), headers=headers)


async def _exported(call: Call, virtual_host: str | None) -> AsyncIterator[bytes]:
    sections = SECTIONS if virtual_host is None else SECTIONS_OF_VIRTUAL_HOST
    lists: dict[str, list[bytes]] = {section: [] for section in sections}
    for number, (section, one) in enumerate(pieces(call.broker, virtual_host)):
        lists[section].append(to_json(one))
        if number % SLICE_OBJECTS == 0:
            await trio.lowlevel.checkpoint()
    yield to_json(header(call.broker))[:-1]
    for section, ones in lists.items():
        yield b',"%s":[%s]' % (section.encode(), b",".join(ones))
    yield b"}"


async def import_them(call: Call) -> Answer:
    """Have all that they say, or nothing of it."""
    virtual_host = call.virtual_host().name if "vhost" in call.variables else None
    document = read_object(_document(call), NO_JSON)
    works = await call.change(lambda: import_definitions(call.broker, document, virtual_host, who=call.user.name)[1])
    for work in works:
        await until_done(work)
    return Answer(204)


def _document(call: Call) -> bytes:
    """The body, or the field ``file`` of a form that a browser sends."""
    content_type = call.request.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        return call.raw_body
    head = b"content-type: " + content_type.encode("latin-1") + b"\r\n\r\n"
    form: Message[Any, Any] = BytesParser().parsebytes(head + call.raw_body)
    for part in form.get_payload() if form.is_multipart() else []:
        if isinstance(part, Message) and part.get_param("name", header="content-disposition") == "file":
            content = part.get_payload(decode=True)
            return content if isinstance(content, bytes) else b""
    raise bad_request("the form has no field file")


_METHODS = {"GET": (Access.ADMINISTRATOR, export), "POST": (Access.ADMINISTRATOR, import_them)}

ENDPOINTS = (
    Endpoint("/api/definitions", _METHODS),
    Endpoint("/api/definitions/{vhost}", _METHODS),
    Endpoint("/api/all-configuration", _METHODS),
)
