"""Requests and answers: a request with its path taken apart, an answer, and the answers to mistakes.

A path is split at its slashes first and decoded then, so that ``%2F`` is a part of a name and never a way to somewhere
else; ``..`` is a name like any other. Holds no bytes of HTTP; those are h11's (``conversation.py``).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from amqp_broker.broker.json_values import read_json


class HttpError(Exception):
    """A request is refused.

    Args:
        status: of the answer.
        error: the kind of mistake, as RabbitMQ names it; empty for an answer without a body.
        reason: what it was, in words or in the form that RabbitMQ gives it.
        headers: of the answer.
    """

    def __init__(self, status: int, error: str = "", reason: object = "", **headers: str) -> None:
        super().__init__(status, error, reason)
        self.status = status
        self.error = error
        self.reason = reason
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(self) -> Answer:
        """What the client is told."""
        body = to_json({"error": self.error, "reason": self.reason}) if self.error else b""
        return Answer(self.status, body, headers=self.headers)


def bad_request(reason: object) -> HttpError:
    """What was asked for makes no sense."""
    return HttpError(400, "bad_request", reason)


def no_such_object() -> HttpError:
    """There is nothing at this path."""
    return HttpError(404, "Object Not Found", "Not Found")


def not_authorised(reason: str) -> HttpError:
    """The user may not do that; RabbitMQ says 401 where 403 is meant, and tools rely on it."""
    return HttpError(401, "not_authorised", reason)


@dataclass(slots=True)
class Answer:
    """An answer over HTTP."""

    status: int = 200
    body: bytes = b""
    pieces: AsyncIterator[bytes] | None = None  # in place of a body: what is made while it is sent
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    is_live: bool = False  # each piece is news, and waits for no other


def to_json(value: object) -> bytes:
    """A value as it is sent; what a client named in bytes that are no UTF-8 is shown with replacements."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def answer_json(value: object, status: int = 200) -> Answer:
    """An answer that is one JSON value."""
    return Answer(status, to_json(value))


@dataclass(slots=True)
class Request:
    """A request, without its body."""

    method: str
    path: tuple[str, ...]  # decoded segments
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case; of several of one name the last
    query_text: str = ""  # where a name may stand more than once

    @classmethod
    def of(cls, method: str, target: str, headers: Mapping[str, str]) -> Request:
        """Take a target apart.

        Raises:
            HttpError: 400, it is none.
        """
        if target.startswith(("http://", "https://")):
            target = "/" + target.split("/", 3)[3] if target.count("/") >= 3 else "/"
        if not target.startswith("/"):
            raise bad_request("the target of a request begins with a slash")
        path, _, query = target.partition("?")
        segments = path[1:].split("/")
        if segments[-1] == "":
            segments.pop()
        try:
            names = tuple(unquote(segment, errors="strict") for segment in segments)
            asked = dict(parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=100))
        except ValueError as error:
            raise bad_request("the path or the query is no UTF-8, or there are too many fields") from error
        return cls(method, names, asked, headers, query)

    def flag(self, name: str) -> bool:
        """Whether the query says that something is wanted."""
        return self.query.get(name) == "true"


def read_object(body: bytes, reason: str = "not_json") -> dict[str, Any]:
    """The JSON object of a request; no body is an empty one.

    Raises:
        HttpError: 400, it is something else.
    """
    if not body:
        return {}
    try:
        return as_object(read_json(body), body, reason)
    except (ValueError, RecursionError) as error:
        raise bad_request(reason) from error


def as_object(value: object, body: bytes, reason: str) -> dict[str, Any]:
    """What was read of a request, if it is an object of JSON.

    Args:
        body: what it was read of.

    Raises:
        HttpError: 400, it is something else.
    """
    if not isinstance(value, dict):
        raise bad_request(reason)
    if b"\\ud" in body or b"\\uD" in body:  # half of a pair is no character, and cannot be kept
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise bad_request(reason) from error
    return value
