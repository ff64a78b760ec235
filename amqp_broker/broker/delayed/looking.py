"""Delayed messages, looked at: in the order of the due times, by filter, in bounded work.

A look changes nothing; what it needs from the disk is read into it alone. It is a walk in small steps, as a look into a
queue is (``broker/peeking.py``), and goes on where the one before has ended. Cancels nothing: ``acting.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, TypedDict

from amqp_broker.broker.delayed.holder import Holder
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.message import Message
from amqp_broker.broker.message_filter import ANY_MESSAGE, MessageFilter
from amqp_broker.broker.moving import BYTES_AT_COST, SLICE_COST
from amqp_broker.broker.peeking import Steps, shown_body, shown_properties
from amqp_broker.broker.problems import AdministrationError

LIMIT_MAX: Final = 500
LOOKED_AT_MAX: Final = 20_000  # in one look: of a million messages, fifty looks
BODY_BYTES_MAX: Final = 4_096  # of each that is shown
PAGE: Final = 100  # messages that are read in one go, at most; the first of them are few, for they may be large
PAGE_FIRST: Final = 16
READ_BYTES_MAX: Final = 1_048_576  # in one go, as far as can be told from those before

Place: TypeAlias = tuple[int, int]
"""Where something is in the order: its due time on the monotonic clock, and its reference."""


def holder_of(exchange: Exchange, virtual_host: str) -> Holder:
    """What an exchange holds.

    Raises:
        AdministrationError: it holds nothing back.
    """
    if not isinstance(exchange.holder, Holder):
        raise AdministrationError(
            f"exchange '{exchange.name}' in virtual host '{virtual_host}' does not hold messages back: it is not of "
            "type x-delayed-message, and has neither the argument x-delayed-exchange nor a policy with delayed-message"
        )
    return exchange.holder


def message_of(holder: Holder, reference: int, payload: bytes | None) -> Message | None:
    """A message that is held, of its record or in memory; None when its time has come meanwhile."""
    held = holder.at_hand(reference) if payload is None else holder.decoded(payload)
    if held is None:
        return None
    return Message(held.address, held.header, held.body, held.digest.is_persistent, held.digest.priority)


class DelayedMessage(TypedDict):
    """A message that is held back."""

    id: str  # until it is due; over restarts
    due: int  # in milliseconds since 1970
    due_in_ms: int
    exchange: str  # it was published to, which need not be the one that holds it
    routing_key: str
    properties: dict[str, object]
    payload: str
    payload_encoding: str  # string or base64
    payload_bytes: int  # of the whole body
    is_payload_cut: bool


class DelayedInfo(TypedDict):
    """The result of a look at delayed messages."""

    held: int  # in all
    looked_at: int
    next: str | None  # where the next look goes on; None at the end
    messages: list[DelayedMessage]


class Pace:
    """The number of messages read in one go, and when others have their turn: fewer of what is large, and sooner."""

    def __init__(self) -> None:
        self.page = PAGE_FIRST
        self._cost = 0

    def has_read(self, payloads: Sequence[bytes | None]) -> None:
        """So much was in the last page."""
        size_bytes = sum([len(payload) for payload in payloads if payload is not None])
        fitting = READ_BYTES_MAX * max(1, len(payloads)) // (size_bytes + 1)
        self.page = max(1, min(PAGE, fitting, 2 * self.page))

    def is_slice_over(self, message: Message) -> bool:
        """Whether others have their turn before a message is looked into."""
        self._cost += 1 + len(message.body) // BYTES_AT_COST
        if self._cost <= SLICE_COST:
            return False
        self._cost = 0
        return True


class DelayedLook:
    """One look at what an exchange holds.

    Args:
        holder: of the exchange.
        wanted: what is shown.
        limit: how many are shown.
        after: where the look before has ended; empty for the beginning.
        body_bytes_max: of each that is shown.

    Raises:
        AdministrationError: ``after`` is nothing that a look has ended with.
    """

    def __init__(
        self,
        holder: Holder,
        wanted: MessageFilter = ANY_MESSAGE,
        *,
        limit: int = 50,
        after: str = "",
        body_bytes_max: int = BODY_BYTES_MAX,
    ) -> None:
        self._holder = holder
        self._wanted = wanted
        self._limit = min(limit, LIMIT_MAX)
        self._after = _place(after)
        self._body_bytes_max = body_bytes_max
        self._looked_at = 0
        self._is_end = False
        self._rows: list[DelayedMessage] = []
        self._pace = Pace()

    def steps(self) -> Steps:
        """Look; when there are no more steps, ``seen`` has it all."""
        while len(self._rows) < self._limit and self._looked_at < LOOKED_AT_MAX:
            page = self._holder.some_after(self._after, self._pace.page)
            if not page:
                self._is_end = True
                return
            on_disk = [reference for _, reference in page if self._holder.at_hand(reference) is None]
            payloads: Sequence[bytes | None] = ()
            if on_disk:
                payloads = yield on_disk
            else:
                yield ()
            self._pace.has_read(payloads)
            read = dict(zip(on_disk, payloads, strict=True))
            for due_ms, reference in page:
                if len(self._rows) >= self._limit:
                    return
                self._after = (due_ms, reference)
                self._looked_at += 1
                message = message_of(self._holder, reference, read.get(reference))
                if message is None:
                    continue
                if self._pace.is_slice_over(message):
                    yield ()
                if self._wanted.finds(message):
                    self._show(due_ms, reference, message)

    def _show(self, due_ms: int, reference: int, message: Message) -> None:
        clock = self._holder.virtual_host.clock
        due_in_ms = due_ms - clock.monotonic_ms()
        payload, encoding = shown_body(message.body, self._body_bytes_max)
        self._rows.append(
            DelayedMessage(
                id=str(reference),
                due=clock.wall_ms() + due_in_ms,
                due_in_ms=due_in_ms,
                exchange=message.address.exchange,
                routing_key=message.address.routing_key,
                properties=shown_properties(message),
                payload=payload,
                payload_encoding=encoding,
                payload_bytes=len(message.body),
                is_payload_cut=len(message.body) > self._body_bytes_max,
            )
        )

    def seen(self) -> DelayedInfo:
        """What was seen."""
        after_ms, reference = self._after or (0, 0)
        place = None if self._is_end else f"{after_ms}-{reference}"
        return DelayedInfo(held=self._holder.ready_count, looked_at=self._looked_at, next=place, messages=self._rows)


def _place(after: str) -> Place | None:
    if not after:
        return None
    due_ms, _, reference = after.rpartition("-")
    if not (due_ms.removeprefix("-").isdecimal() and reference.isdecimal() and len(after) < 50 and after.isascii()):
        raise AdministrationError(f"a look goes on after what the one before has ended with, not after {after[:60]!r}")
    return int(due_ms), int(reference)
