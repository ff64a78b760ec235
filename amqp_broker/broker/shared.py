"""The things that a broker's parts share: its clock, timers and works, its to-do lists, its memory and its journal.

``Broker`` is one of these, and hands itself to its virtual hosts, which hand on what queues need (``host.py``). Holds
nothing that clients can name (``contents.py``), and does nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from amqp_broker.behaviour import BEHAVIOURS
from amqp_broker.broker.components import Components
from amqp_broker.broker.counters import Churn, QueueSums
from amqp_broker.broker.dead_letter import DeathReason
from amqp_broker.broker.drops import Drops
from amqp_broker.broker.interceptors import Interceptors
from amqp_broker.broker.message import Message
from amqp_broker.broker.message_sizes import MessageSizes
from amqp_broker.broker.observer import Observers
from amqp_broker.broker.persistence.durability import Durability
from amqp_broker.broker.ports import Clock, Driver
from amqp_broker.broker.queues.paging import Paging
from amqp_broker.broker.timers import Timers
from amqp_broker.broker.works import Works
from amqp_broker.compilation import mypyc_attr
from amqp_broker.journal.port import Journal
from amqp_broker.settings import Settings

if TYPE_CHECKING:
    from amqp_broker.broker.queues.base import Queue


def _is_told_here(event: str, by: str) -> bool:
    return False


@mypyc_attr(allow_interpreted_subclasses=True)
class Shared:
    """The things that all parts of a broker have in common.

    Args:
        settings: limits and defaults.
        clock: tells the time.
        driver: has the broker go on, and is told what it needs for that.
    """

    def __init__(self, settings: Settings, clock: Clock, driver: Driver) -> None:
        self.settings = settings
        self.behaviour = BEHAVIOURS[settings.behave_like]
        self.clock = clock
        self.driver = driver
        self.timers = Timers(clock, driver)
        self.works = Works()
        self.observers = Observers(driver)
        self.components = Components()
        self.interceptors = Interceptors()
        self.drops = Drops(clock)
        self.message_sizes = MessageSizes()
        self.counts_of_deleted_queues = QueueSums()
        self.churn = Churn()
        self.changed_queues: deque[Queue] = deque()
        self.dead_letters: deque[tuple[Queue, Message, DeathReason]] = deque()
        self.awaiting_commit: dict[Callable[[], None], None] = {}  # called when the journal has committed more, for
        # whom something must be kept first
        self.to_finish: list[Callable[[], None]] = []  # what is done last: channels' confirms, copies of the firehose
        self.is_told_elsewhere: Callable[[str, str], bool] = _is_told_here  # of an event, and by whom: whether the
        # event exchange has it from another broker that is one with this
        self.keep_in(None)

    def keep_in(self, journal: Journal | None) -> None:
        """Keep what is durable in a journal, or nowhere; for a broker that is empty."""
        self.durability = Durability(journal, self.clock, is_kept_by_sync=self.settings.fsync == "always")
        self.paging = Paging(self.durability, self.settings.memory_budget_bytes)

    def finish_with(self, finish: Callable[[], None]) -> None:
        """Have something done at the end of the present piece of work."""
        self.to_finish.append(finish)

    def publish_dead_letters(self) -> None:
        """Send all dead letters that wait now on their way in one go."""
        raise NotImplementedError

    def queue_count(self) -> int:
        """How many queues there are, in all virtual hosts of the whole broker, for a limit."""
        raise NotImplementedError
