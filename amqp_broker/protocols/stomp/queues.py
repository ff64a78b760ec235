"""The queues that destinations ask for: how they are declared (RabbitMQ docs, "STOMP Plugin", Queue Properties)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.access.client import Client
from amqp_broker.broker.queues.base import Queue
from amqp_broker.protocols.stomp.destinations import Destination
from amqp_broker.protocols.stomp.frames import Frame
from amqp_broker.wire.table import FieldValue, Table, Timestamp

if TYPE_CHECKING:
    from amqp_broker.broker.virtual_host import VirtualHost

DECLARED_MAX: Final = 1_024  # queues that a connection remembers to have declared
NUMBER_DIGITS_MAX: Final = 18  # of a place in a stream
TEXT_ARGUMENTS: Final = ("x-dead-letter-exchange", "x-dead-letter-routing-key", "x-queue-type", "x-max-age")
NUMBER_ARGUMENTS: Final = (
    "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority", "x-message-ttl",
    "x-stream-max-segment-size-bytes", "x-stream-filter-size-bytes",
)  # fmt: skip


class Queues:
    """Declares for one connection.

    What SEND or SUBSCRIBE has declared once is not declared again while it is there, as with RabbitMQ, so the headers
    that shape it need not be said again.

    Args:
        virtual_host: where.
        client: who wants it.
    """

    def __init__(self, virtual_host: VirtualHost, client: Client) -> None:
        self._virtual_host = virtual_host
        self._client = client
        self._declared: dict[str, Queue] = {}  # by name

    def declare(self, destination: Destination, name: str, frame: Frame) -> Queue:
        """Declare the queue of a destination, or find that it is there, as the frame's headers ask for.

        A subscription's own queue goes with its last consumer unless ``auto-delete`` says otherwise; any other is
        durable, and where it is not to be, it is this connection's alone.

        Args:
            name: of the queue.

        Raises:
            AmqpError, StompError: it cannot be, or is not allowed.
        """
        is_own = destination.has_queue_of_its_own
        known = self._declared.get(name)
        if known is not None and not known.is_deleted and not is_own:
            return known
        durable = is_durable(frame) if _says_durable(frame) else not is_own
        auto_delete = is_own or not durable
        exclusive = not is_own and not durable
        if "auto-delete" in frame.headers:
            auto_delete = frame.is_true("auto-delete")
        if "exclusive" in frame.headers:
            exclusive = frame.is_true("exclusive")
        queue = self._virtual_host.declare_queue(
            self._client,
            name,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=queue_arguments(frame),
        )
        if not is_own:
            if len(self._declared) >= DECLARED_MAX:
                self._declared.clear()
            self._declared[name] = queue
        return queue


def is_durable(frame: Frame) -> bool:
    """Whether a SUBSCRIBE or UNSUBSCRIBE is about a durable subscription, and a queue about to be durable."""
    return frame.is_true("durable") or (frame.command != "SEND" and frame.is_true("persistent"))


def _says_durable(frame: Frame) -> bool:
    """Whether a frame says anything of it; ``persistent`` of a SEND is about the message."""
    return "durable" in frame.headers or (frame.command != "SEND" and "persistent" in frame.headers)


def queue_arguments(frame: Frame) -> Table:
    """The arguments of the queue that the headers name.

    Raises:
        StompError: one of them takes a number and has none.
    """
    arguments: Table = {}
    for name in TEXT_ARGUMENTS:
        if name in frame.headers:
            arguments[name] = frame.headers[name].strip()
    for name in NUMBER_ARGUMENTS:
        value = frame.number(name)
        if value is not None:
            arguments[name] = value
    return arguments


def consumer_arguments(frame: Frame) -> Table:
    """The arguments of the consumer that the headers of SUBSCRIBE name; raises as ``queue_arguments``."""
    arguments: Table = {}
    priority = frame.number("x-priority")
    if priority is not None:
        arguments["x-priority"] = priority
    offset = frame.headers.get("x-stream-offset")
    if offset is not None:
        arguments["x-stream-offset"] = _stream_offset(offset.strip())
    wanted = frame.headers.get("x-stream-filter")
    if wanted is not None:
        arguments["x-stream-filter"] = [*wanted.split(",")]
    if "x-stream-match-unfiltered" in frame.headers:
        arguments["x-stream-match-unfiltered"] = frame.is_true("x-stream-match-unfiltered")
    return arguments


def _stream_offset(text: str) -> FieldValue:
    """Where in a stream to begin: a word, a number behind ``offset=``, or seconds since 1970 behind ``timestamp=``."""
    kind, _, value = text.partition("=")
    if not (value.isascii() and value.isdigit() and len(value) <= NUMBER_DIGITS_MAX):
        return text
    if kind == "timestamp":
        return Timestamp(int(value))
    return int(value) if kind == "offset" else text
