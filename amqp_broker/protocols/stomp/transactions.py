"""BEGIN, COMMIT, ABORT: what a client has put off, done in one go (STOMP 1.2, "BEGIN").

At the commit every frame is looked at before anything is done: the messages go in and the deliveries are settled all
together, in one batch of the journal, or one of them is wrong and nothing has happened. Which queues are full is
found out only when messages are put into them: a full one refuses its messages, and all else is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.broker.observer import Settlement
from amqp_broker.broker.publishing import REFUSED
from amqp_broker.broker.queues.base import QueueBusy
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.stomp.errors import StompError
from amqp_broker.protocols.stomp.frames import Frame
from amqp_broker.protocols.stomp.publishing import Prepared, Publishing
from amqp_broker.protocols.stomp.subscribing import Settled, Subscribing

if TYPE_CHECKING:
    from amqp_broker.protocols.stomp.link import Link

TRANSACTIONS_MAX: Final = 256  # at a time


class CannotCommit(Exception):
    """A frame of a transaction cannot be done, so none of them is.

    Args:
        frame: which.
        error: why not.
    """

    def __init__(self, frame: Frame, error: StompError | AmqpError) -> None:
        super().__init__(str(error))
        self.frame = frame
        self.error = error


class Transactions:
    """The transactions of a connection that is open."""

    def __init__(self, connection: Link, publishing: Publishing, subscribing: Subscribing) -> None:
        self._connection = connection
        self._publishing = publishing
        self._subscribing = subscribing
        self._frames: dict[str, list[Frame]] = {}  # by the transaction's name
        self._prepared: dict[str, tuple[list[Prepared], list[Settled]]] = {}  # of a commit that waits for a decision

    @property
    def message_count(self) -> int:
        """How many messages were put off."""
        return sum([frame.command == "SEND" for frames in self._frames.values() for frame in frames])

    @property
    def settlement_count(self) -> int:
        """How many acknowledgements were put off."""
        return sum([frame.command != "SEND" for frames in self._frames.values() for frame in frames])

    def begin(self, frame: Frame) -> None:
        """Handle a BEGIN.

        Raises:
            StompError: it cannot be.
        """
        name = _name_in(frame)
        if name not in self._frames and len(self._frames) >= TRANSACTIONS_MAX:
            raise StompError(
                "Transaction limit exceeded", f"Too many concurrent transactions (limit {TRANSACTIONS_MAX})"
            )
        self._frames[name] = []

    def put_off(self, frame: Frame) -> None:
        """Keep a frame that names a transaction for its commit; raises as ``begin``."""
        self._frames[self._known(frame)].append(frame)
        if frame.command == "SEND":
            self._connection.throttle.has_published = True

    def abort(self, frame: Frame) -> None:
        """Handle an ABORT; raises as ``begin``."""
        del self._frames[self._known(frame)]

    def commit(self, frame: Frame) -> bool:
        """Handle a COMMIT.

        Returns:
            Whether all messages were taken; a queue that is full may have refused one.

        Raises:
            StompError: there is no such transaction.
            CannotCommit: one of the frames cannot be done; none has been.
            NotDecidedYet, QueueBusy: to be asked again; none has been.
        """
        name = self._known(frame)
        frames = self._frames[name]
        publishing, subscribing = self._publishing, self._subscribing
        messages, settlements = self._prepared.pop(name, ([], []))
        for one in frames[len(messages) + len(settlements) :]:
            try:
                if one.command == "SEND":
                    messages.append(publishing.prepare(one))
                else:
                    settlements.append(subscribing.named(one))
            except (StompError, AmqpError) as error:
                del self._frames[name]
                raise CannotCommit(one, error) from error
            except (NotDecidedYet, QueueBusy):  # it goes on from here: there may be thousands to ask for
                self._prepared[name] = messages, settlements
                raise
        del self._frames[name]
        self._connection.has_cost(len(frames))
        is_taken = True
        for message in messages:
            if publishing.put(message) == REFUSED:
                is_taken = False
        for settled in settlements:
            for _ in subscribing.settle(settled):
                pass
        if Settlement.REJECTED in [settled.settlement for settled in settlements]:
            self._connection.broker.publish_dead_letters()
        return is_taken

    def _known(self, frame: Frame) -> str:
        name = _name_in(frame)
        if name not in self._frames:
            raise StompError("Bad transaction", f'Invalid transaction identifier: "{name}"\n')
        return name


def _name_in(frame: Frame) -> str:
    name = frame.headers.get("transaction")
    if name is None:
        raise StompError("Missing transaction", f"\"{frame.command}\" must include a 'transaction' header\n")
    return name
