"""The contract of queue types: what a type must give, and what it may do otherwise than others.

A type derives from ``Queue`` (``base.py``), which has what all have in common, or from ``ClassicQueue`` if messages are
taken out one by one. What raises ``NotImplementedError`` here it must give; of the rest it overrides what it does
otherwise. Nothing that a type may override, or use of those it derives from, has a name with an underscore
(``tests/unit/test_private_names.py``), and what is asked for each message is said here. Holds no state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from amqp_broker.behaviour import Behaviour
from amqp_broker.broker.arguments import SUBSCRIPTION_ARGUMENT, QueueArguments, read_queue_arguments
from amqp_broker.broker.exchanges.readings import LEVELS, WORDS, Reading
from amqp_broker.broker.message import Address, Message
from amqp_broker.broker.persistence.kinds import RecordKind
from amqp_broker.broker.policies import Definition, arguments_under
from amqp_broker.broker.queues.bands import Bands
from amqp_broker.broker.queues.ready import Stretch
from amqp_broker.broker.queues.returning import Returning
from amqp_broker.broker.queues.stored import StoredQueue
from amqp_broker.broker.queues.traits import QueueTraits
from amqp_broker.compilation import mypyc_attr
from amqp_broker.wire.table import Table


@mypyc_attr(allow_interpreted_subclasses=True)
class QueueContract(StoredQueue):
    """A queue of any type, as the type makes it; arguments as of ``StoredQueue``."""

    __slots__ = ("declared", "table")

    declared: QueueArguments  # as they were declared; ``arguments`` are those in force
    table: Table  # the same, as they came

    # --- what holds for all queues of the type

    @classmethod
    def traits(cls) -> QueueTraits:
        """What must be known of the type before there is a queue."""
        raise NotImplementedError

    @classmethod
    def read_arguments(cls, table: Table, behaviour: Behaviour) -> QueueArguments:
        """Read the arguments of a declaration, which were checked. Those of the type alone it reads from ``table``.

        Args:
            behaviour: which limits there are without an argument.
        """
        return read_queue_arguments(table)

    def arguments_under(self, definition: Definition) -> QueueArguments:
        """The arguments that are in force under policies.

        Args:
            definition: what the policies that count for this queue say together.
        """
        return arguments_under(self.declared, self.table, definition)

    @property
    def reading(self) -> Reading:
        """How what was published is read before it is compared with the pattern of a binding that leads here; it is
        the same as long as the queue lives.
        """
        return LEVELS if SUBSCRIPTION_ARGUMENT in self.table else WORDS

    @property
    def is_log(self) -> bool:
        """Whether what is in it stays when it is read: a start gives it places of entries (``restore_entry``)."""
        return False

    @property
    def offset_lag_max(self) -> int | None:
        """How many entries the last of those who get chunks of it is behind; None where nobody does."""
        return None

    @property
    def knows_each(self) -> bool:
        """Whether it must see each of its messages at a start, even those that stay on disk."""
        return False

    def show(self, messages: list[Message]) -> None:
        """A start shows some that stay on disk, without their bodies, to a queue that has come to know each since."""

    def look_through(self) -> Iterator[None]:
        """Do what other arguments in force than before ask for with each message that is there, in slices."""
        return iter(())

    @property
    def holds_back(self) -> bool:
        """Whether this is no queue for clients, but what an exchange holds back (``broker/delayed/holder.py``)."""
        return False

    def make_bands(self) -> Bands | None:
        """Make its bands of priority; None where it tells no messages apart."""
        return None

    def prefetch_count_for(self, wanted: int) -> int:
        """The most messages that a consumer may have unacknowledged that asked for so many; 0 is no limit."""
        return wanted

    def annotate(self, message: Message, header: bytes) -> None:
        """A client that gives a message back has said something of it: keep this content header, where the type does.

        (AMQP 1.0's outcome modified; as with RabbitMQ, classic queues keep nothing of it.)
        """

    @property
    def keeps_annotations(self) -> bool:
        """Whether ``annotate`` does anything."""
        return False

    def header_to_deliver(self, message: Message) -> bytes:
        """The content header that goes to a consumer with a message that was returned before."""
        return message.header

    def header_to_get(self, message: Message) -> bytes:
        """The content header that goes to a client that asked for this message with ``basic.get``."""
        return message.header

    def check_channel_prefetch(self) -> None:
        """Refuse a consumer whose channel shares one prefetch window, where the queue's type cannot do that."""

    def check_get(self) -> None:
        """Refuse ``basic.get`` where the queue's type cannot do that."""

    # --- messages

    @property
    def ready_count(self) -> int:
        """The number of messages that wait, or are there to be read."""
        raise NotImplementedError

    @property
    def ready_bytes(self) -> int:
        """The bytes of the bodies of these."""
        raise NotImplementedError

    def messages(self) -> Iterator[Message]:
        """Those that wait and are in memory, in the order of delivery, for whoever looks in."""
        raise NotImplementedError

    def stretches(self, skip: int, count: int) -> list[Stretch]:
        """Up to so many of those that wait, in memory or not, in the order of delivery and without the first ones."""
        raise NotImplementedError

    def head(self) -> Message | None:
        """The next message, for whoever looks in; None where there is none, or it is not in memory."""
        return next(self.messages(), None)

    def on_disk(self) -> tuple[int, int]:
        """The number of messages that wait and are on the disk only, and the bytes of their bodies."""
        return 0, 0

    def details(self) -> dict[str, object]:
        """What there is to be seen of a queue of the type alone, by its name, in values of JSON."""
        return {}

    @property
    def lets_take_out(self) -> bool:
        """Whether any of those that wait may be taken out: then there are ``those_there`` and ``take_out``."""
        return False

    def those_there(self, found: Stretch) -> list[Message]:
        """Those of a stretch, of which every message is known, that are ready here still.

        Where its chunk was read back in the meantime, they are the messages in memory in place of those that are told.
        """
        raise NotImplementedError

    def take_out(self, found: Stretch, messages: list[Message]) -> None:
        """Some of those that are there (``those_there``) are somebody else's business now: forget them."""
        raise NotImplementedError

    @property
    def dying_count(self) -> int:
        """The number of messages that have died here and are not on their way to the dead-letter exchange yet."""
        return 0

    def publish(self, message: Message) -> bool:
        """Take a message that was routed here; returns False when the queue refuses it."""
        raise NotImplementedError

    def hold(self, address: Address, header: bytes, body: bytes, delay_ms: int) -> int:
        """Hold a message back, where ``holds_back`` says that this is what it does.

        Returns:
            The journal's position that must be kept before it is confirmed.
        """
        raise NotImplementedError

    def keeps(self, is_persistent: bool) -> bool:
        """Whether a message that is published now is kept, in the journal: the rule for every way into a queue.

        A queue that is not durable keeps none. One that hands the message straight to a consumer which wants no
        acknowledgement never holds it, so there is nothing to keep. Not to be relied on once another queue has had the
        message: that may have filled the same connection.

        Args:
            is_persistent: by its delivery mode. A type that keeps others too has ``keeps_transient``.
        """
        return is_persistent and self.durable

    def deliver_ready(self, messages_max: int) -> int:
        """Deliver what can be delivered now, but not more than so much; returns how many messages it was.

        A consumer that is ready (``consumers.next_ready``) gets its message by ``deliveries.deliver``. What it has to
        acknowledge counts in ``unacknowledged_count``; what it has not, and was kept, is forgotten here
        (``Durability.forget_message``). Once nothing is left to do, those who wait for that (``askers``, most
        often None) go on by ``let_askers_go_on``.
        """
        raise NotImplementedError

    def get(self, no_ack: bool) -> Message | None:
        """Take the next message (``basic.get``); None when there is none. It is counted or forgotten as one delivered.

        Raises:
            QueueBusy: that cannot be told yet, or there is one, but it must be read first.
        """
        raise NotImplementedError

    def acknowledge(self, message: Message) -> None:
        """The client has done with a message: it counts no more as unacknowledged, and is forgotten if it was kept."""
        raise NotImplementedError

    def reject(self, messages: list[Message]) -> None:
        """The client refuses messages, the oldest first: the same, unless they are dead-lettered."""
        raise NotImplementedError

    def requeueing(self) -> Returning:
        """The client gives messages back."""
        return self.taking_back()

    def taking_back(self) -> Returning:
        """Messages come back because the channel that had them is gone."""
        raise NotImplementedError

    def empty(self) -> Iterator[None]:
        """Drop all messages that nobody has at once; what it takes to forget them is left to be done, in slices."""
        raise NotImplementedError

    def dead_letter_left(self, message: Message) -> None:
        """A message that died here is on its way to the dead-letter exchange."""

    # --- what a start puts back

    def restore(self, message: Message) -> None:
        """Put a message that was read from the journal back; they come in the order of their publishing."""
        raise NotImplementedError

    def restore_paged(self, references: Sequence[int], size_bytes: int, band: int, *, may_expire: bool = False) -> None:
        """The same for messages that stay on disk: no more than a chunk, of one band, of so many bytes together."""
        raise NotImplementedError

    def restore_entry(self, reference: int, body_bytes: int, wall_ms: int) -> None:
        """The same where ``is_log``: all that is needed of a message is where it is, and when it came."""
        raise NotImplementedError

    def restore_block(self, reference: int, body: bytes, wall_ms: int) -> None:
        """The same for entries of a stream that came together."""
        raise NotImplementedError

    def restore_state(self, state: Table) -> bool:
        """Take over what the type had written with ``Durability.keep_state``; returns False where that makes no sense.

        Fields that are not known are passed over.
        """
        return False

    def restore_tracked(self, kind: RecordKind, name: str, value: int, reference: int) -> int | None:
        """Take over a number that the type remembers for a client.

        Args:
            kind: of the record that says so.
            name: the client's.
            value: the number.
            reference: of the record.

        Returns:
            The reference of an older record that this one has replaced, 0 where there is none; None where it makes no
            sense.
        """
        return None

    def recovered(self) -> None:
        """All that the journal holds of this queue is back."""
