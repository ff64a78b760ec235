"""Health checks of each node of a cluster, for load balancers, on the port of the HTTP API and without a password.

GET /ready: 200 when clients that come here are served, by this node or through it; 503 else.
GET /owner: 200 when this node owns the broker; 503 else.

All other requests belong to the owner's HTTP API. While nobody owns the broker, they are answered with 503.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

FIRST_BYTES: Final = 4_096
UNAVAILABLE: Final = "503 Service Unavailable"


def answer_to(request: bytes, *, is_owner: bool, is_served: bool) -> bytes | None:
    """The answer to a request that is for the node itself.

    Args:
        request: how it begins, at least its first line.

    Returns:
        The whole answer, after which the connection is to be closed; None when the request is for the owner.
    """
    asked: dict[bytes, Callable[[], bool]] = {b"/ready": lambda: is_served, b"/owner": lambda: is_owner}
    words = request.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or words[0] not in (b"GET", b"HEAD"):
        return None
    is_so = asked.get(words[1])
    if is_so is None:
        return None
    status = "200 OK" if is_so() else UNAVAILABLE
    return _answer(status, {"status": "ok" if is_so() else "failed"}, has_body=words[0] == b"GET")


def no_owner() -> bytes:
    """The answer to everything else while nobody owns the broker."""
    return _answer(UNAVAILABLE, {"error": "no_owner", "reason": "No node of the cluster owns the broker now."})


def _answer(status: str, body: dict[str, str], *, has_body: bool = True) -> bytes:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"Cache-Control: no-store\r\nConnection: close\r\n\r\n" + (content if has_body else b"")
