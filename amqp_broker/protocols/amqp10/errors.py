"""Errors as a client is told of them: a condition and words, and what ends with it (AMQP 1.0, 2.8.14)."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from amqp_broker.errors import AmqpError, LimitReached, ReplyCode

INTERNAL_ERROR: Final = "amqp:internal-error"
NOT_FOUND: Final = "amqp:not-found"
UNAUTHORIZED_ACCESS: Final = "amqp:unauthorized-access"
DECODE_ERROR: Final = "amqp:decode-error"
RESOURCE_LIMIT_EXCEEDED: Final = "amqp:resource-limit-exceeded"
NOT_ALLOWED: Final = "amqp:not-allowed"
INVALID_FIELD: Final = "amqp:invalid-field"
NOT_IMPLEMENTED: Final = "amqp:not-implemented"
RESOURCE_LOCKED: Final = "amqp:resource-locked"
PRECONDITION_FAILED: Final = "amqp:precondition-failed"
RESOURCE_DELETED: Final = "amqp:resource-deleted"
ILLEGAL_STATE: Final = "amqp:illegal-state"
FRAME_SIZE_TOO_SMALL: Final = "amqp:frame-size-too-small"
CONNECTION_FORCED: Final = "amqp:connection:forced"
FRAMING_ERROR: Final = "amqp:connection:framing-error"
WINDOW_VIOLATION: Final = "amqp:session:window-violation"
HANDLE_IN_USE: Final = "amqp:session:handle-in-use"
UNATTACHED_HANDLE: Final = "amqp:session:unattached-handle"
TRANSFER_LIMIT_EXCEEDED: Final = "amqp:link:transfer-limit-exceeded"
MESSAGE_SIZE_EXCEEDED: Final = "amqp:link:message-size-exceeded"

DESCRIPTION_CHARACTERS_MAX: Final = 1_000

_CONDITIONS: Final = {
    ReplyCode.ACCESS_REFUSED: UNAUTHORIZED_ACCESS,
    ReplyCode.NOT_FOUND: NOT_FOUND,
    ReplyCode.RESOURCE_LOCKED: RESOURCE_LOCKED,
    ReplyCode.PRECONDITION_FAILED: PRECONDITION_FAILED,
    ReplyCode.NOT_ALLOWED: NOT_ALLOWED,
    ReplyCode.NOT_IMPLEMENTED: NOT_IMPLEMENTED,
    ReplyCode.RESOURCE_ERROR: RESOURCE_LIMIT_EXCEEDED,
    ReplyCode.CONNECTION_FORCED: CONNECTION_FORCED,
}


class Scope(Enum):
    """The part of a connection that ends with an error."""

    LINK = auto()
    SESSION = auto()
    CONNECTION = auto()


class ProtocolError(Exception):
    """An error that the client is told of.

    Args:
        condition: one of those above.
        description: what is wrong.
        scope: what ends with it.
    """

    def __init__(self, condition: str, description: str, scope: Scope = Scope.SESSION) -> None:
        super().__init__(condition, description)
        self.condition = condition
        self.description = description[:DESCRIPTION_CHARACTERS_MAX]
        self.scope = scope

    def __str__(self) -> str:
        """The error as it goes into a log."""
        return f"{self.condition}: {self.description}"


def framing_error(description: str) -> ProtocolError:
    """What has come is no frame: nothing behind it can be read."""
    return ProtocolError(FRAMING_ERROR, description, Scope.CONNECTION)


def decode_error(description: str) -> ProtocolError:
    """What stands in a frame makes no sense."""
    return ProtocolError(DECODE_ERROR, description, Scope.CONNECTION)


def not_implemented(what: str) -> ProtocolError:
    """Something that the protocol has and the broker has not."""
    return ProtocolError(NOT_IMPLEMENTED, f"{what} not supported")


_OTHER_WORDS: Final = ("cannot publish to internal ", "forbidden to publish to internal ")  # than AMQP 0-9-1 has


def of_the_broker(error: AmqpError) -> ProtocolError:
    """An error of the domain, in the conditions of AMQP 1.0; it ends the session, as with RabbitMQ."""
    if isinstance(error, LimitReached):
        return ProtocolError(RESOURCE_LIMIT_EXCEEDED, error.explanation)
    scope = Scope.CONNECTION if error.code is ReplyCode.CONNECTION_FORCED else Scope.SESSION
    said, words = _OTHER_WORDS
    text = error.explanation.replace(said, words, 1) if error.explanation.startswith(said) else error.explanation
    return ProtocolError(_CONDITIONS.get(error.code, INTERNAL_ERROR), text, scope)
