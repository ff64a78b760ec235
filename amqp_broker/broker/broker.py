"""The broker: its virtual hosts and users, and the to-do lists that every chunk of work ends with.

Whatever is done (a chunk of a connection's bytes, timers that are due, what an administrator asks for) is done by
``Broker.handle``, which then settles: it has the queues that changed deliver, sends dead letters on their way, and lets
channels write their confirms. When there is more of that than should be done in one go, it leaves the rest. In the end
the driver (``ports.py``) is told what the broker needs: something is to be written, to be read, or to go on between
the chunks (``works.py``). Several brokers in one process share nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from amqp_broker.access.passwords import SCRYPT, SHA256
from amqp_broker.broker.administration import Administration
from amqp_broker.broker.alarms import Alarms, Resource
from amqp_broker.broker.contents import Contents
from amqp_broker.broker.message import Address
from amqp_broker.broker.persistence.definitions import keep_user, keep_virtual_host
from amqp_broker.broker.persistence.recovery import Recovery
from amqp_broker.broker.ports import Clock, Conversation, Driver, PassiveDriver
from amqp_broker.compilation import mypyc_attr
from amqp_broker.journal.port import Journal, Progress
from amqp_broker.settings import DESCRIPTIONS, Settings

if TYPE_CHECKING:
    from amqp_broker.broker.file_traces import FileTraces
    from amqp_broker.broker.message_traces import MessageTraces

ReplyConsumer = Callable[[Address, bytes, bytes], None]  # takes address, content header and body of a direct reply

Result = TypeVar("Result")

NOT_ASKED_YET: Final = -1  # what the time is, within the piece of work that is being done
DEAD_LETTER_COST = 10  # how much longer one takes than a delivery: its header is decoded and made anew
DEAD_LETTER_COST_BYTES = 32  # of that header, its history included, which cost as much as a delivery


@mypyc_attr(allow_interpreted_subclasses=True)
class Broker(Contents):
    """All that clients can see. Made empty, and of use once it is opened.

    Args:
        settings: limits and defaults.
        clock: tells the time.
        driver: has the broker go on, and is told what it needs for that; one that does nothing when left out.
    """

    def __init__(self, settings: Settings, clock: Clock, driver: Driver | None = None) -> None:
        super().__init__(settings, clock, driver if driver is not None else PassiveDriver())
        self.reply_consumers: dict[str, ReplyConsumer] = {}  # by the routing key of their replies
        self.alarms = Alarms()
        self.awaiting_write: dict[Callable[[], None], None] = {}  # called when the journal has written more,
        # as are those of ``awaiting_commit``
        self.unawaited_bytes_max = settings.journal_pending_bytes_max  # for the disk, of what nobody waits for
        self.administration = Administration(self)
        self.refused_commands: dict[tuple[str, int], int] = {}  # how many, by protocol and the code of the answer
        self.dropped_message_count = 0  # of messages that the journal held, but not their queues
        self._is_handling = False
        self._piece_began_ms = NOT_ASKED_YET
        self._message_traces: MessageTraces | None = None
        self._file_traces: FileTraces | None = None

    # --- its start

    def open(self, journal: Journal | None = None, progress: Progress | None = None) -> None:
        """Read what the journal holds, and keep in it from now on; a broker that is new gets a virtual host and a user.

        Args:
            journal: where what is durable is kept, not recovered yet; None keeps nothing.
            progress: called while the journal is read, with the bytes read so far and the bytes there are.

        Raises:
            JournalDamaged, FormatNotSupported: the journal cannot be read.
        """
        for _ in self.opening(journal, progress):
            pass

    def opening(self, journal: Journal | None, progress: Progress | None = None) -> Iterator[None]:
        """The same in steps, for who has other things to do meanwhile: the broker is open when there are no more.

        Before that nothing but the next step is to be asked of it.
        """
        if journal is not None:
            self.keep_in(journal)
            recovery = Recovery(self, journal)
            yield from recovery.steps(progress)
            self.dropped_message_count = recovery.dropped_message_count
        self.handle(self._begin)

    def _begin(self) -> None:
        """Give a new broker its first virtual host and user."""
        if self.virtual_hosts or len(self.users):
            return
        self.is_new = True
        settings = self.settings
        keep_virtual_host(self.durability, self.add_virtual_host(settings.default_virtual_host))
        # Everybody knows the default password: hashing it slowly would protect nothing, and every start in a test pay.
        is_known = settings.default_password == DESCRIPTIONS["default_password"].default
        user = self.users.add(
            settings.default_user,
            settings.default_password,
            tags=("administrator",),
            algorithm=SHA256 if is_known else SCRYPT,
        )
        self.users.permit_all(settings.default_user, settings.default_virtual_host)
        keep_user(self.durability, user)

    # --- who waits without a queue

    def reply(self, address: Address, header: bytes, body: bytes) -> bool:
        """Hand a direct reply to the client that waits for it; returns whether there is one."""
        if address.exchange or address.routing_key not in self.reply_consumers:
            return False
        self.reply_consumers[address.routing_key](address, header, body)
        return True

    # --- what runs out

    def set_alarm(self, resource: Resource, is_low: bool) -> bool:
        """Say how it stands with a resource; returns whether that was news."""
        is_news = self.alarms.set(resource, is_low)
        if is_news:
            details = {"source": resource.value, "node": self.settings.node_name or self.settings.cluster_name}
            self.tell(f"alarm.{'set' if is_low else 'cleared'}", lambda: details)
        return is_news

    def tell(self, event: str, details: Callable[[], dict[str, Any]]) -> None:
        """Tell those who look on of something that no client did; where nobody does, the details are not asked for."""
        if self.observers.present_for_changes:
            self.handle(lambda: self.observers.happened(event, details(), ""))

    # --- who looks in

    @property
    def message_traces(self) -> MessageTraces:
        """The traces of messages; what is not asked for is not loaded either."""
        if self._message_traces is None:
            from amqp_broker.broker.message_traces import MessageTraces

            self._message_traces = MessageTraces(self.observers, self.finish_with, self.clock, self.reply_consumers)
        return self._message_traces

    @property
    def file_traces(self) -> FileTraces:
        """The traces to files, likewise."""
        if self._file_traces is None:
            from amqp_broker.broker.file_traces import FileTraces

            self._file_traces = FileTraces(self.firehose, self.clock, self.driver)
        return self._file_traces

    @property
    def has_file_traces(self) -> bool:
        """Whether there have been any."""
        return self._file_traces is not None

    # --- its work

    def handle(self, work: Callable[[], Result]) -> Result:
        """Do a piece of work and all that follows from it, as far as that fits into a slice.

        A piece that is a part of another is settled with the whole. What fails is not settled; what it has left is done
        with the next piece.

        Args:
            work: changes something in the broker, and does not wait.

        Returns:
            What the work returns.
        """
        if self._is_handling:
            return work()
        self._begin_piece()
        try:
            result = work()
            self._settle()
        finally:
            self._is_handling = False
        self._tell_driver()
        return result

    def handle_items(self, conversation: Conversation, items: Iterator[Any]) -> None:
        """The same for what a client has sent, which the conversation handles: each chunk would be a function else."""
        if self._is_handling:
            conversation.handle_rest(items)
            return
        self._begin_piece()
        try:
            conversation.handle_rest(items)
            self._settle()
        finally:
            self._is_handling = False
        self._tell_driver()

    @property
    def piece_began_ms(self) -> int:
        """When the piece of work that is being done began, on the clock that only grows; found out when first asked."""
        if self._piece_began_ms == NOT_ASKED_YET:
            self._piece_began_ms = self.clock.monotonic_ms()
        return self._piece_began_ms

    def _begin_piece(self) -> None:
        self._is_handling = True
        self._piece_began_ms = NOT_ASKED_YET

    def _settle(self) -> None:
        if self.changed_queues or self.dead_letters:
            self._serve_changed(self.works.slice_messages)
        if self.to_finish:
            self._finish()

    def _finish(self) -> None:
        to_finish, self.to_finish = self.to_finish, []
        for finish in to_finish:
            finish()

    def _tell_driver(self) -> None:
        if self.durability.is_dirty or self.awaiting_commit:
            self.driver.journal_has_work()
        if self.changed_queues or self.dead_letters or self.works.unfinished:
            self.driver.work_is_unfinished()
        if self.paging.reads:
            self.driver.pages_are_wanted()

    def _serve_changed(self, messages_max: int) -> None:
        """Deliver what the changed queues can deliver, and route dead letters, until all is done or it was enough."""
        changed_queues, dead_letters = self.changed_queues, self.dead_letters
        while messages_max > 0 and (changed_queues or dead_letters):
            while changed_queues and messages_max > 0:
                queue = changed_queues.popleft()
                if queue.is_changed:
                    messages_max -= queue.deliver_ready(messages_max)
            while dead_letters and messages_max > 0:
                messages_max -= DEAD_LETTER_COST + self._publish_dead_letter() // DEAD_LETTER_COST_BYTES

    def _publish_dead_letter(self) -> int:
        """Send the next one on its way; returns how many bytes the header had that it died with."""
        queue, message, reason = self.dead_letters.popleft()
        queue.virtual_host.publish_dead_letter(queue, message, reason)
        return len(message.header)

    def publish_dead_letters(self) -> None:
        """Send all dead letters that wait now on their way in one go, because a crash must not come between."""
        for _ in self.publish_dead_letters_in_slices():
            pass

    def publish_dead_letters_in_slices(self) -> Iterator[None]:
        """The same for who holds the journal, so that no crash comes between."""
        slice_messages = max(1, self.works.slice_messages // DEAD_LETTER_COST)
        for number in range(len(self.dead_letters)):
            if number and number % slice_messages == 0:
                yield
            if self.dead_letters:  # each may let somebody go on, who sends others; and they have their own turns
                self._publish_dead_letter()

    @property
    def is_unfinished(self) -> bool:
        """Whether there is something for ``go_on``."""
        return bool(self.works.unfinished or self.changed_queues or self.dead_letters)

    def go_on(self) -> None:
        """Do one slice more of what is unfinished; to be called as long as something is."""
        self.handle(self.works.run_slice)

    def committed(self) -> None:
        """The journal has committed more: whoever held something back for that lets go of it, and streams go on."""
        was_settled = not self.changed_queues  # else it is gone on with in any case
        for go_on in [*self.awaiting_write, *self.awaiting_commit]:
            go_on()
        if was_settled and self.changed_queues:
            try:
                self.handle(_nothing_more)
            except (Exception, SystemExit) as error:  # a defect in what one of those who get something does
                self.driver.delivery_failed(error)

    @property
    def is_disk_behind(self) -> bool:
        """Whether so much waits for the disk that who sends more is not to be read; more may where nobody waits."""
        is_awaited = len(self.awaiting_commit) > 0
        bytes_max = self.settings.journal_pending_bytes_max if is_awaited else self.unawaited_bytes_max
        return self.durability.pending_bytes > bytes_max

    def run_due(self) -> None:
        """Do what is due by the clock, and all that follows from it."""
        self.handle(self.timers.run_due)


def _nothing_more() -> None:
    """What follows from what was done already is all that is to be done."""
