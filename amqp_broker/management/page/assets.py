"""The page's files, as ``make page`` has built them: one HTML, and beside it a script and a style with hashed names.

A hashed name never means another content, so a browser asks for it once; the HTML is asked for each time, and answered
with 304 while it is the same. Holds no data: the page asks the API for all it shows.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, no_such_object
from amqp_broker.management.http.router import Access, Endpoint

BUILT = Path(__file__).parent / "built"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOREVER = "public, max-age=31536000, immutable"


@cache
def _file(name: str) -> tuple[bytes, str]:
    """A file and its tag. There are as many as ``names`` lists."""
    content = (BUILT / name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


@cache
def names() -> frozenset[str]:
    """The files that there are."""
    return frozenset(path.name for path in BUILT.iterdir() if path.suffix in CONTENT_TYPES)


async def show_page(call: Call) -> Answer:
    """The page."""
    return _answer(call, "index.html", "no-cache")


async def show_asset(call: Call) -> Answer:
    """A script or a style of it."""
    name = call.variables["file"]
    if name not in names():
        raise no_such_object()
    return _answer(call, name, FOREVER)


def _answer(call: Call, name: str, caching: str) -> Answer:
    content, tag = _file(name)
    headers = {"etag": tag, "cache-control": caching}
    known = {one.strip().removeprefix("W/") for one in call.request.headers.get("if-none-match", "").split(",")}
    if tag in known:
        return Answer(304, headers=headers)
    return Answer(body=content, headers=headers, content_type=CONTENT_TYPES[Path(name).suffix])


ENDPOINTS = (
    Endpoint("/", {"GET": (Access.ANYBODY, show_page)}),
    Endpoint("/assets/{file}", {"GET": (Access.ANYBODY, show_asset)}),
)
