"""Every error that AMQP 0-9-1 lets a broker report, and the two ways it is reported.

Holds the reply codes with their names, and the one exception that carries them. A soft error closes a channel, a hard
one the connection; which of the two follows from the code alone (AMQP 0-9-1 section 4.8, and RabbitMQ's extension of
the list). Does not hold the texts: they are written where the error is found, because clients match on them.
"""

from __future__ import annotations

from enum import IntEnum

REPLY_TEXT_BYTES_MAX = 255
NO_METHOD = (0, 0)  # the class and method id of an error that no method is to blame for


class ReplyCode(IntEnum):
    """A reply code of ``connection.close``, ``channel.close`` and ``basic.return``."""

    SUCCESS = 200
    CONTENT_TOO_LARGE = 311
    NO_ROUTE = 312
    NO_CONSUMERS = 313
    CONNECTION_FORCED = 320
    INVALID_PATH = 402
    ACCESS_REFUSED = 403
    NOT_FOUND = 404
    RESOURCE_LOCKED = 405
    PRECONDITION_FAILED = 406
    FRAME_ERROR = 501
    SYNTAX_ERROR = 502
    COMMAND_INVALID = 503
    CHANNEL_ERROR = 504
    UNEXPECTED_FRAME = 505
    RESOURCE_ERROR = 506
    NOT_ALLOWED = 530
    NOT_IMPLEMENTED = 540
    INTERNAL_ERROR = 541


SOFT_REPLY_CODES = frozenset(
    {
        ReplyCode.CONTENT_TOO_LARGE,
        ReplyCode.NO_ROUTE,
        ReplyCode.NO_CONSUMERS,
        ReplyCode.ACCESS_REFUSED,
        ReplyCode.NOT_FOUND,
        ReplyCode.RESOURCE_LOCKED,
        ReplyCode.PRECONDITION_FAILED,
    }
)


class AmqpError(Exception):
    """A violation that the peer is told of with ``channel.close`` or ``connection.close``.

    Args:
        code: the reply code; it decides between soft and hard.
        explanation: what went wrong, without the code's name (the name is put before it).
        blamed: class and method id of the method that failed, where it is not the one being handled.
        detail: what the log adds and the peer is not told.
        quotes_peer: the explanation shows bytes that the peer sent. They go back to the peer and nowhere else, because
            a password or a message's body may be among them.
    """

    def __init__(
        self,
        code: ReplyCode,
        explanation: str,
        *,
        blamed: tuple[int, int] | None = None,
        detail: str = "",
        quotes_peer: bool = False,
    ) -> None:
        super().__init__(code, explanation)
        self._quotes_peer = quotes_peer
        self.detail = detail
        self.code = code
        self.explanation = explanation
        self.blamed = blamed
        self.is_hard = code not in SOFT_REPLY_CODES

    @property
    def reply_text(self) -> str:
        """The text as it goes on the wire: ``NAME - explanation``, cut to 255 bytes as RabbitMQ cuts it."""
        text = f"{self.code.name} - {self.explanation}"
        encoded = text.encode("utf-8", "surrogateescape")
        if len(encoded) <= REPLY_TEXT_BYTES_MAX:
            return text
        return (encoded[: REPLY_TEXT_BYTES_MAX - 3] + b"...").decode("utf-8", "surrogateescape")

    def __str__(self) -> str:
        """The error as it goes into a log."""
        detail = f" ({self.detail})" if self.detail else ""
        text = f"{self.code.name} (the client was told what it sent)" if self._quotes_peer else self.reply_text
        return f"{int(self.code)} {text}{detail}"


class OtherProtocol(Exception):
    """A client begins with the header of another protocol that is answered on the same port.

    Args:
        data: all that it has sent.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class LimitReached(AmqpError):
    """A 406: there are as many of something as there may be. AMQP 1.0 has a condition of its own for that."""

    def __init__(self, explanation: str) -> None:
        super().__init__(ReplyCode.PRECONDITION_FAILED, explanation)


def not_found(what: str, name: str, virtual_host: str) -> AmqpError:
    """The 404 of a queue or an exchange that does not exist."""
    return AmqpError(ReplyCode.NOT_FOUND, f"no {what} '{name}' in vhost '{virtual_host}'")


def precondition_failed(explanation: str) -> AmqpError:
    """A 406 with this explanation."""
    return AmqpError(ReplyCode.PRECONDITION_FAILED, explanation)


def access_refused(explanation: str) -> AmqpError:
    """A 403 with this explanation."""
    return AmqpError(ReplyCode.ACCESS_REFUSED, explanation)


def not_allowed(explanation: str) -> AmqpError:
    """A 530 with this explanation; it closes the connection."""
    return AmqpError(ReplyCode.NOT_ALLOWED, explanation)


def not_implemented(explanation: str) -> AmqpError:
    """A 540 with this explanation; it closes the connection."""
    return AmqpError(ReplyCode.NOT_IMPLEMENTED, explanation)
