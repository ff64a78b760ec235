"""Errors as a client is told of them: an ERROR frame, behind which the connection may go on."""

from __future__ import annotations

from amqp_broker.errors import REPLY_TEXT_BYTES_MAX, AmqpError


class StompError(Exception):
    """An error that the client is told of with ERROR.

    Args:
        message: the header ``message``: what kind of mistake it is.
        detail: the body.
        closes: whether the connection ends. RabbitMQ goes on after mistakes that are the protocol's own.
        is_said: whether the client is told; what is no STOMP is given up without a word.
        receipt: the receipt that the frame has asked for, where it is no whole one and nobody else knows it.
    """

    def __init__(
        self, message: str, detail: str, *, closes: bool = False, is_said: bool = True, receipt: str | None = None
    ) -> None:
        super().__init__(message, detail)
        self.message = message
        self.detail = detail
        self.closes = closes
        self.is_said = is_said
        self.receipt = receipt

    def __str__(self) -> str:
        """The error as it goes into a log."""
        text = f"{self.message}: {self.detail.rstrip()}" if self.detail else self.message
        return text[:REPLY_TEXT_BYTES_MAX]


def malformed(detail: str) -> StompError:
    """What has come is no frame of STOMP: nothing behind it can be read."""
    return StompError("Malformed frame", f"{detail}\n", closes=True, is_said=False)


def of_the_broker(error: AmqpError) -> StompError:
    """An error of the domain, as RabbitMQ says it: the code's name, and AMQP's text; the connection ends."""
    return StompError(error.code.name.lower(), error.reply_text, closes=True)
