"""Errors: a request that is answered with a code, and a client that is sent away."""

from __future__ import annotations

from amqp_broker.errors import AmqpError, ReplyCode
from amqp_broker.protocols.stream import codes


class RequestRefused(Exception):
    """A request is answered with a code; the conversation goes on.

    Args:
        code: of ``codes.py``.
        content: what stands behind it.
        reason: in words, for the log.
    """

    def __init__(self, code: int, content: bytes = b"", reason: str = "") -> None:
        super().__init__(reason or f"refused with code {code}")
        self.code = code
        self.content = content


class ConversationEnds(Exception):
    """The client is told to go, and goes.

    Args:
        code: of ``codes.py``.
        reason: in words that it may read.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def code_of(error: AmqpError) -> int:
    """How an error of the domain is answered."""
    if error.code is ReplyCode.ACCESS_REFUSED:
        return codes.ACCESS_REFUSED
    if error.code is ReplyCode.NOT_FOUND:
        return codes.STREAM_DOES_NOT_EXIST
    return codes.PRECONDITION_FAILED
