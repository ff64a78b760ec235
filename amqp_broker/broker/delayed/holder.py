"""The holder of an exchange: the messages that it holds back until they are due, and how they go.

Theory of operation. An exchange that holds messages back (``matcher.py``) routes each that asks for a delay to its
holder, which is a queue for that purpose alone: no client finds it. With a journal a message is written there at once,
whatever its delivery mode, and all that stays in memory are 16 bytes (``due_order.py``). What is due within the next
two seconds is read back ahead of its time, or was not let out of memory in the first place. Then it is routed from the
exchange as if it were published now, and forgotten here in the same go, so that a crash finds it in one place.

Due times are kept on the monotonic clock, and written on the wall clock. Without a journal everything is in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.arguments import NO_QUEUE_ARGUMENTS
from amqp_broker.broker.delayed.due_order import DueOrder
from amqp_broker.broker.delayed.header import with_delay_over
from amqp_broker.broker.message import Address, Digest, Message, digest_of
from amqp_broker.broker.persistence.kinds import NOT_KEPT
from amqp_broker.broker.persistence.message_records import MessageDecoder
from amqp_broker.broker.publishing import Ingress
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.paging import PageRead
from amqp_broker.broker.timers import Timer

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.host import Host

READ_AHEAD_MS: Final = 2_000
AT_HAND_MAX = 8_192  # so many messages are read ahead, if they have no more bytes than
AT_HAND_BYTES_MAX: Final = 16_777_216  # these
PAGE_MAX = 256  # messages in one reading, if they have no more bytes than
PAGE_BYTES_MAX: Final = 4_194_304  # these, as far as can be told from those before
SLICE_RELEASED: Final = 100  # to be routed, some 20 microseconds each
EXACT_MS: Final = 1_024  # what is due within that time has a timer for the very millisecond


class Held:
    """A message that is in memory while it is held back."""

    __slots__ = ("address", "body", "digest", "header")

    def __init__(self, address: Address, header: bytes, body: bytes, digest: Digest) -> None:
        self.address = address
        self.header = header
        self.body = body
        self.digest = digest


class HeldRead(PageRead):
    """Messages that a holder wants to have at hand, or to look at.

    Args:
        references: which.
        then: is handed them; nothing when one of them has gone meanwhile.
    """

    __slots__ = ("_then", "_wanted")

    def __init__(self, references: array[int], then: Callable[[list[bytes]], None]) -> None:
        super().__init__(references)
        self._then = then
        self._wanted = True

    @property
    def is_wanted(self) -> bool:
        return self._wanted

    def give_up(self) -> None:
        """One of the messages is gone."""
        self._done([])

    def was_read(self) -> None:
        self._done(self.payloads)

    def _done(self, payloads: list[bytes]) -> None:
        if self._wanted:
            self._wanted = False
            self._then(payloads)


class Holder(Queue):
    """The holder of the messages that one exchange holds back.

    Args:
        virtual_host: where the exchange is.
        exchange: it.
        ingress: by which messages go out again.
    """

    __slots__ = (
        "_at_hand",
        "_at_hand_bytes",
        "_decode",
        "_due",
        "_exchange",
        "_ingress",
        "_is_releasing",
        "_last_digest",
        "_last_header",
        "_last_header_held",
        "_last_reference",
        "_page_max",
        "_read_ahead",
        "_timer",
    )

    def __init__(self, virtual_host: Host, exchange: Exchange, ingress: Ingress) -> None:
        super().__init__(
            virtual_host,
            f"delayed in {exchange.name}",
            durable=True,
            auto_delete=False,
            owner=None,
            table={},
            arguments=NO_QUEUE_ARGUMENTS,
        )
        self._exchange = exchange
        self._ingress = ingress
        self._due = DueOrder()
        self._at_hand: dict[int, Held] = {}
        self._at_hand_bytes = 0
        self._last_reference = 0  # where there is no journal that gives them out
        self._last_header: tuple[bytes, int] = (b"", 0)  # of what was held last, and its delay
        self._last_header_held = b""  # what became of it
        self._last_digest: Digest | None = None
        self._decode = MessageDecoder().decode
        self._read_ahead: HeldRead | None = None  # the reading under way of what is due next
        self._page_max = 16  # until it is known how large the messages are
        self._timer: Timer | None = None
        self._is_releasing = False

    # --- what a queue says of itself

    @property
    def holds_back(self) -> bool:
        return True

    @property
    def ready_count(self) -> int:
        return len(self._due)

    @property
    def ready_bytes(self) -> int:
        return self._at_hand_bytes

    def messages(self) -> Iterator[Message]:
        return iter(())

    def publish(self, message: Message) -> bool:
        """Not used: what asks for a delay comes by ``hold``, and nothing else is routed here."""
        raise NotImplementedError

    def deliver_ready(self, messages_max: int) -> int:
        self.is_changed = False
        return 0

    # --- in

    def hold(self, address: Address, header: bytes, body: bytes, delay_ms: int) -> int:
        if self.is_deleted:
            return NOT_KEPT
        held = self._held(address, header, body, delay_ms)
        due_ms = self.virtual_host.clock.monotonic_ms() + delay_ms
        durability = self.virtual_host.durability
        if durability.has_journal:
            if not self.reference:
                durability.keep_holder(self, self.virtual_host.name, self._exchange.name)
            message = Message(address, held.header, body, True, 0)
            reference = position = durability.keep_held(self, message, delay_ms)
            is_at_hand = delay_ms <= READ_AHEAD_MS and self._may_keep_more
        else:
            position = NOT_KEPT
            reference = self._last_reference = self._last_reference + 1
            is_at_hand = True
        self._due.add(due_ms, reference)
        if is_at_hand:
            self._take(reference, held)
        if self._due.first_reference == reference:
            self._set_timer()
        return position

    def _held(self, address: Address, header: bytes, body: bytes, delay_ms: int) -> Held:
        """The message as it is held; many have the same header, which is made once."""
        if self._last_digest is None or self._last_header != (header, delay_ms):
            self._last_header_held = with_delay_over(header, delay_ms)
            self._last_digest = digest_of(self._last_header_held)
            self._last_header = (header, delay_ms)
        return Held(address, self._last_header_held, body, self._last_digest)

    @property
    def _may_keep_more(self) -> bool:
        return len(self._at_hand) < AT_HAND_MAX and self._at_hand_bytes < AT_HAND_BYTES_MAX

    def _take(self, reference: int, held: Held) -> None:
        self._at_hand[reference] = held
        self._at_hand_bytes += len(held.body)

    # --- when it is looked at

    def _set_timer(self) -> None:
        """Have it looked at when the next message is due or, before that, is to be read.

        What is far away is come near to in halves, so that however the next one changes few timers are left behind.
        """
        first_ms = self._due.first_due_ms
        if first_ms is None or self._is_releasing:
            return
        if self._due.first_reference not in self._at_hand:
            if self._read_ahead is not None:
                return  # when that is here
            first_ms -= READ_AHEAD_MS
        else:
            first_ms = min(first_ms, self._next_read_ms(first_ms))
        now_ms = self.virtual_host.clock.monotonic_ms()
        wait_ms = max(0, first_ms - now_ms)
        if wait_ms > EXACT_MS:
            wait_ms = 1 << (wait_ms.bit_length() - 1)
        deadline_ms = now_ms + wait_ms
        timer = self._timer
        if timer is not None:
            if not timer.is_cancelled and timer.deadline_ms <= deadline_ms:
                return
            timer.cancel()
        self._timer = self.virtual_host.timers.at(deadline_ms, self._look)

    def _look(self) -> None:
        """Read what is due soon, and let go of what is due now."""
        self._timer = None
        if self.is_deleted or self._is_releasing:
            return
        self._read_what_is_next()
        if self._is_first_to_go():
            self._is_releasing = True
            self.virtual_host.works.begin(self._release())
        else:
            self._set_timer()

    def _is_first_to_go(self) -> bool:
        first_ms = self._due.first_due_ms
        if first_ms is None or first_ms > self.virtual_host.clock.monotonic_ms():
            return False
        return self._due.first_reference in self._at_hand

    # --- from the disk

    def _next_read_ms(self, first_ms: int) -> int:
        """When the next reading is worth while: at the latest when the first one goes."""
        if not self.virtual_host.durability.has_journal or len(self._due) <= len(self._at_hand):
            return first_ms
        return min(first_ms, self.virtual_host.clock.monotonic_ms() + READ_AHEAD_MS // 2)

    def _read_what_is_next(self) -> None:
        """Ask for the next messages that are due soon and not at hand, unless some are on their way."""
        if self._read_ahead is not None or len(self._due) <= len(self._at_hand):
            return
        through_ms = self.virtual_host.clock.monotonic_ms() + READ_AHEAD_MS
        references = array("Q")
        for due_ms, reference in self._due.entries():
            if due_ms > through_ms or len(references) >= self._page_max:
                break
            if reference not in self._at_hand:
                if not references and due_ms != self._due.first_due_ms and not self._may_keep_more:
                    break  # but the very first one is needed, whatever there is beside it
                references.append(reference)
        if references:
            self._read_ahead = HeldRead(references, self._came)
            self.virtual_host.paging.reads.append(self._read_ahead)

    def _came(self, payloads: list[bytes]) -> None:
        """What was to be read ahead is here; or not, because one of these messages has gone meanwhile."""
        read, self._read_ahead = self._read_ahead, None
        if read is None or not payloads:
            return
        size_bytes = 0
        for reference, payload in zip(read.references, payloads, strict=True):
            held = self.decoded(payload)
            self._take(reference, held)
            size_bytes += len(held.body)
        fitting = PAGE_BYTES_MAX // (size_bytes // len(payloads) + 1)
        self._page_max = max(1, min(PAGE_MAX, fitting, 2 * self._page_max))
        self._look()

    # --- out

    def _release(self) -> Iterator[None]:
        """Let go of what is due, in order, a slice at a time."""
        count = 0
        try:
            while self._is_first_to_go():
                self._release_first()
                count += 1
                if count % SLICE_RELEASED == 0:
                    self._read_what_is_next()
                    yield
        finally:
            self._is_releasing = False
        self._look_again()

    def _look_again(self) -> None:
        """Something may be due by now, or be to be read."""
        if not self.is_deleted:
            self._read_what_is_next()
            self._set_timer()

    def _release_first(self) -> None:
        """Route the first message as if it were published now, and forget it here."""
        reference = self._due.first_reference
        self._due.remove_first()
        held = self._at_hand.pop(reference)
        self._at_hand_bytes -= len(held.body)
        assert self._at_hand_bytes >= 0, "more was released than was at hand"
        self.virtual_host.durability.drop(reference)
        count = self._ingress.release(self._exchange, held.address, held.header, held.body, held.digest)
        self._exchange.published_out += max(0, count - 1)  # one was counted when it was published

    # --- who looks in

    def some_after(self, place: tuple[int, int] | None, count: int) -> list[tuple[int, int]]:
        """The due times, on the monotonic clock, and references of what comes behind a place, the next ones first.

        Args:
            place: a due time and a reference; None for the beginning.
        """
        entries = self._due.entries() if place is None else self._due.entries(*place)
        return list(islice(entries, count))

    def at_hand(self, reference: int) -> Held | None:
        """A message that is in memory; None for one that is not, or not held any more."""
        return self._at_hand.get(reference)

    def decoded(self, payload: bytes) -> Held:
        """A message, of its record."""
        kept = self._decode(payload)
        return Held(kept.address, kept.header, kept.body, kept.digest)

    @property
    def exchange_name(self) -> str:
        """Of the exchange that holds."""
        return self._exchange.name

    @property
    def next_due_ms(self) -> int | None:
        """When the next message is due, on the monotonic clock; None when there is none."""
        return self._due.first_due_ms

    def hasten(self, due_ms: int, reference: int) -> bool:
        """Have a message due now; returns whether it was there. On disk it keeps its time, for after a crash."""
        now_ms = self.virtual_host.clock.monotonic_ms()
        if not self._due.remove(due_ms, reference):
            return False
        self._due.add(min(due_ms, now_ms), reference)
        self._set_timer()
        return True

    def cancel(self, due_ms: int, reference: int) -> bool:
        """Forget a message before it is due; returns whether it was there."""
        if not self._due.remove(due_ms, reference):
            return False
        held = self._at_hand.pop(reference, None)
        if held is not None:
            self._at_hand_bytes -= len(held.body)
        self.virtual_host.durability.forget_references([reference])
        if self._read_ahead is not None and reference in self._read_ahead.references:
            self._read_ahead.give_up()
            self._look_again()
        return True

    # --- the end

    def empty(self) -> Iterator[None]:
        due, self._due = self._due, DueOrder()
        self._at_hand = {}
        self._at_hand_bytes = 0
        if self._read_ahead is not None:
            self._read_ahead.give_up()
        if self._timer is not None:
            self._timer.cancel()
        durability = self.virtual_host.durability
        if durability.has_journal:
            some = array("Q")
            for _, reference in due.entries():
                some.append(reference)
                if len(some) == self.virtual_host.works.slice_messages:
                    durability.forget_references(some)
                    some = array("Q")
                    yield
            durability.forget_references(some)

    # --- what a start puts back

    def restore_held(self, reference: int, due_ms: int) -> None:
        """Put a message that was read from the journal back; it stays on disk."""
        self._due.add(due_ms, reference)

    def recovered(self) -> None:
        self._set_timer()
