"""Definitions: all that is declared and set, exported and imported in RabbitMQ's JSON, whole or of one virtual host."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from email.message import Message
from email.parser import BytesParser
from typing import Any

import trio

from amqp_broker.broker.definitions.export import SECTIONS, SECTIONS_OF_VIRTUAL_HOST, header, pieces
from amqp_broker.broker.inspection import SLICE_OBJECTS
from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, as_object, bad_request, no_such_object, to_json
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.server.changes import until_durable
from amqp_broker.server.importing import check_in_turns, import_in_turns, read_json_in_turns

NOT_IN_FILE_NAMES = re.compile(r"[^\w.@ -]", re.ASCII)
NO_JSON = "failed_to_parse_json"


async def export(call: Call) -> Answer:
    """All of it, or what there is in one virtual host; ``?download=NAME`` lets a browser save it."""
    virtual_host = call.virtual_host().name if "vhost" in call.variables else None
    return Answer(pieces=_exported(call, virtual_host), headers=download_header(call))


def download_header(call: Call) -> dict[str, str]:
    """What lets a browser save it, where the query asks for that."""
    if "download" not in call.request.query:
        return {}
    name = NOT_IN_FILE_NAMES.sub("_", call.request.query["download"])
    return {"content-disposition": f'attachment; filename="{name}"'}


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
    """Have all that they say, or nothing of it; with ``?dry_run=true`` nothing, and say whether it could be had."""
    virtual_host = call.virtual_host().name if "vhost" in call.variables else None
    document = await read_document(call)
    do = check_in_turns if call.request.flag("dry_run") else import_in_turns
    try:
        await do(call.broker, document, virtual_host, call.user.name)
    except NotThere as error:
        raise no_such_object() from error
    except AdministrationError as error:
        raise bad_request(str(error)) from error
    await until_durable(call.broker)
    return Answer(204)


async def read_document(call: Call) -> dict[str, Any]:
    """The definitions that came.

    Raises:
        HttpError: 400, they are none.
    """
    body = _document(call)
    if not body:
        return {}
    try:
        value = await read_json_in_turns(body, depth=2)
    except (ValueError, RecursionError) as error:
        raise bad_request(NO_JSON) from error
    return as_object(value, body, NO_JSON)


def _document(call: Call) -> bytes:
    """The body, or the field ``file`` of a form that a browser sends."""
    content_type = call.request.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        return call.raw_body
    boundary = _headers(b"content-type: " + content_type.encode("latin-1")).get_boundary()
    # Not by the parser of mail, which looks at each line of the file.
    for part in (b"\r\n" + call.raw_body).split(f"\r\n--{boundary}".encode())[1:]:
        head, _, content = part.partition(b"\r\n\r\n")
        if _headers(head.lstrip()).get_param("name", header="content-disposition") == "file":
            return content
    raise bad_request("the form has no field file")


def _headers(head: bytes) -> Message[Any, Any]:
    message: Message[Any, Any] = BytesParser().parsebytes(head + b"\r\n\r\n", headersonly=True)
    return message


_METHODS = {"GET": (Access.ADMINISTRATOR, export), "POST": (Access.ADMINISTRATOR, import_them)}

ENDPOINTS = (
    Endpoint("/api/definitions", _METHODS),
    Endpoint("/api/definitions/{vhost}", _METHODS),
    Endpoint("/api/all-configuration", _METHODS),
)
