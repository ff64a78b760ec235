"""A classic queue that takes each value of the header ``x-deduplication-header`` once at a time: a message with a value
that another one in the queue has, ready or unacknowledged, is confirmed and forgotten (``x-message-deduplication``, as
the plugin rabbitmq_message_deduplication has it for queues). Messages without the header are all taken.

What is in the queue is what is remembered, so nothing is written for it: at a start, the messages themselves tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.arguments import QueueArguments
from amqp_broker.broker.dead_letter import DeathReason
from amqp_broker.broker.erlang_text import erlang_term
from amqp_broker.broker.message import Message
from amqp_broker.broker.queues.classic import ClassicQueue
from amqp_broker.broker.queues.consumers import Consumer
from amqp_broker.broker.queues.ready import Stretch
from amqp_broker.wire.content import decode_properties
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.host import Host

HEADER: Final = "x-deduplication-header"


class DeduplicatingQueue(ClassicQueue):
    """A classic queue declared with ``x-message-deduplication``; arguments as of ``Queue``."""

    __slots__ = ("_is_out",)

    def __init__(
        self,
        virtual_host: Host,
        name: str,
        *,
        durable: bool,
        auto_delete: bool,
        owner: object | None,
        table: Table,
        arguments: QueueArguments,
    ) -> None:
        self._is_out: dict[str, bool] = {}  # by value, whether the message waits for its acknowledgement
        super().__init__(
            virtual_host,
            name,
            durable=durable,
            auto_delete=auto_delete,
            owner=owner,
            table=table,
            arguments=arguments,
        )

    @property
    def knows_each(self) -> bool:
        return True

    # --- in

    def publish(self, message: Message) -> bool:
        value = value_of(message)
        if value is None:
            return super().publish(message)
        if value in self._is_out:
            self.forget(message)
            return True
        self._is_out[value] = False
        is_taken = super().publish(message)
        if not is_taken:
            self._is_out.pop(value, None)
        return is_taken

    def restore(self, message: Message) -> None:
        value = value_of(message)
        if value is not None:
            self._is_out[value] = False
        super().restore(message)

    # --- out

    def _deliver(self, consumer: Consumer, message: Message) -> None:
        if consumer.no_ack:
            self._release(message)
        super()._deliver(consumer, message)

    def _handed_over(self, message: Message, no_ack: bool) -> None:
        if no_ack:
            self._release(message)
        else:
            self._note(message, True)
        super()._handed_over(message, no_ack)

    def acknowledge(self, message: Message) -> None:
        self._release(message)
        super().acknowledge(message)

    def discard(self, messages: list[Message], reason: DeathReason) -> None:
        for message in messages:
            self._release(message)
        super().discard(messages, reason)

    def take_out(self, found: Stretch, messages: list[Message]) -> None:
        for message in messages:
            self._release(message)
        super().take_out(found, messages)

    def empty(self) -> Iterator[None]:
        self._is_out = {value: is_out for value, is_out in self._is_out.items() if is_out}
        return super().empty()

    # --- and back

    def mark_returned(self, messages: list[Message]) -> list[Message]:
        for message in messages:
            self._note(message, False)
        return super().mark_returned(messages)

    def _note(self, message: Message, is_out: bool) -> None:
        value = value_of(message)
        if value is not None:
            self._is_out[value] = is_out

    def _release(self, message: Message) -> None:
        value = value_of(message)
        if value is not None:
            self._is_out.pop(value, None)


def value_of(message: Message) -> str | None:
    """The value that no two messages may have in common; None where a message may be there as often as it comes."""
    if HEADER.encode() not in message.header:  # most often, and then nothing need be decoded
        return None
    headers = decode_properties(message.header).headers or {}
    return erlang_term(headers[HEADER]) if HEADER in headers else None  # a null is a value, as in the plugin
