"""The memory that a broker in a test has of what went by, and the faults that wait for their moment.

Plain state without behaviour of its own: ``remembering.py`` fills it in, ``watched.py`` acts on it, ``view.py`` and
``faults.py`` offer it to tests. It outlives a restart of the broker.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum, auto

from amqp_broker.testing.records import RecentMessages, Unrouted

ERRORS_MAX = 100


class PublishFault(Enum):
    """A fault that may happen to a publish."""

    NACK = auto()  # it is refused
    LOSE = auto()  # the connection drops before the broker takes it
    DROP_BEFORE_CONFIRM = auto()  # the broker takes it, but its publisher never hears so
    DROP_AFTER_CONFIRM = auto()


@dataclass(eq=False)
class Hold:
    """Deliveries are held back; each is ended by its own order."""

    ends_ms: int | None  # on the broker's monotonic clock; None until it is cleared


@dataclass
class SpaceWatch:
    """The record of one virtual host: all that is remembered of it."""

    remembered: RecentMessages
    unrouted: Unrouted = field(default_factory=Unrouted)
    publish_faults: deque[PublishFault] = field(default_factory=deque)  # one for each publish to come
    holds: set[Hold] = field(default_factory=set)  # while there are any, consumers get nothing
    given_back: Counter[str] = field(default_factory=Counter)  # by queue: unacknowledged when their channel ended
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=ERRORS_MAX))  # that clients were told of
    channels_left_open: list[str] = field(default_factory=list)  # the peers whose connection ended around them


class Watch:
    """The record of a whole broker: all that is remembered of it.

    Args:
        remember: how many messages of each virtual host.
    """

    def __init__(self, remember: int) -> None:
        if remember < 0:
            raise ValueError("remember is a number of messages, 0 or more")
        self._remember = remember
        self._spaces: dict[str, SpaceWatch] = {}
        self.ended_by_test: set[object] = set()  # connections: what they leave behind is not their client's fault

    def of(self, virtual_host: str) -> SpaceWatch:
        """What is remembered of one virtual host."""
        space = self._spaces.get(virtual_host)
        if space is None:
            space = self._spaces[virtual_host] = SpaceWatch(RecentMessages(self._remember))
        return space

    @property
    def spaces(self) -> dict[str, SpaceWatch]:
        """What is remembered of each virtual host, by its name."""
        return self._spaces

    def forget(self, virtual_host: str) -> None:
        """The virtual host is gone."""
        self._spaces.pop(virtual_host, None)
