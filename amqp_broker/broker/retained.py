"""Retained messages: the last one of each topic, for those who subscribe later (MQTT 5.0, 3.3.1.3).

They are kept in the journal, one record a topic, and found by topic filters: a tree of levels, so that a filter with
wildcards looks at what can match and at nothing else. Holds no protocol and no delivery; a message is kept as it was
published, its content header and its body.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.persistence.definitions import keep_retained
from amqp_broker.broker.retained_message import RetainedMessage

if TYPE_CHECKING:
    from amqp_broker.broker.persistence.durability import Durability
    from amqp_broker.broker.ports import Clock

SEPARATOR: Final = "/"
ONE_LEVEL: Final = "+"
ALL_LEVELS: Final = "#"


class Level:
    """One level of the tree: the levels below it, and the message of the topic that ends here."""

    __slots__ = ("below", "message")

    def __init__(self) -> None:
        self.below: dict[str, Level] | None = None  # most levels are the last of their topic
        self.message: RetainedMessage | None = None


class Retained:
    """The retained messages of one virtual host.

    Args:
        virtual_host: its name.
        clock: tells which have expired.
        durability: keeps them.
    """

    def __init__(self, virtual_host: str, clock: Clock, durability: Durability) -> None:
        self._virtual_host = virtual_host
        self._clock = clock
        self._durability = durability
        self._top = Level()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, message: RetainedMessage) -> None:
        """Keep a message in the place of the one that its topic had."""
        before = self.restore(message)
        keep_retained(self._durability, self._virtual_host, message, before)

    def replace(self, topic: str, header: bytes, body: bytes, expiration_ms: int | None) -> None:
        """Keep a message as the topic's last, or nothing if it is empty.

        Args:
            expiration_ms: how long it is worth something; None for ever.
        """
        if body:
            expires_wall_ms = 0 if expiration_ms is None else self._clock.wall_ms() + expiration_ms
            self.put(RetainedMessage(topic, header, body, expires_wall_ms))
        else:
            self.remove(topic)

    def restore(self, message: RetainedMessage) -> RetainedMessage | None:
        """The same for one that was read from the journal; returns the one before."""
        level = self._top
        for name in message.topic.split(SEPARATOR):
            if level.below is None:
                level.below = {}
            following = level.below.get(name)
            if following is None:
                following = level.below[name] = Level()
            level = following
        before, level.message = level.message, message
        self._count += before is None
        return before

    def remove(self, topic: str) -> None:
        """The topic has no message any more; harmless when it had none."""
        path: list[tuple[Level, str]] = []
        level = self._top
        for name in topic.split(SEPARATOR):
            following = level.below.get(name) if level.below is not None else None
            if following is None:
                return
            path.append((level, name))
            level = following
        if level.message is None:
            return
        self._durability.forget(level.message)
        level.message = None
        self._count -= 1
        for above, name in reversed(path):  # branches that lead nowhere any more
            assert above.below is not None
            branch = above.below[name]
            if branch.message is not None or branch.below:
                return
            del above.below[name]

    def clear(self) -> None:
        """Forget all: the virtual host goes."""
        for message in self._all_below(self._top):
            if message is not None:
                self._durability.forget(message)
        self._top = Level()
        self._count = 0

    def matching(self, topic_filter: str) -> Iterator[RetainedMessage | None]:
        """The messages whose topics match a filter and that have not expired, in the order of the tree.

        None for each level that was looked at in vain: there may be very many, and others have their turns meanwhile.
        What comes or goes then is among them, or is not. Those that have expired are removed. A filter that begins with
        a wildcard matches no topic that begins with ``$`` (MQTT 5.0, 4.7.2).
        """
        for message in self._walk(topic_filter.split(SEPARATOR)):
            if message is not None and 0 < message.expires_wall_ms <= self._clock.wall_ms():
                self.remove(message.topic)
                yield None
            else:
                yield message

    def _walk(self, wanted: list[str]) -> Iterator[RetainedMessage | None]:
        to_do: list[tuple[Level, int]] = [(self._top, 0)]
        while to_do:  # no recursion: clients choose how many levels a topic has
            level, place = to_do.pop()
            if place == len(wanted):
                yield level.message
                continue
            name = wanted[place]
            if name == ALL_LEVELS:
                yield from self._all_below(level, hides_dollar=place == 0)
                continue
            yield None
            if level.below is not None and name == ONE_LEVEL:
                below = level.below.items()
                to_do += [(one, place + 1) for key, one in below if place or not key.startswith("$")]
            elif level.below is not None and name in level.below:
                to_do.append((level.below[name], place + 1))

    @staticmethod
    def _all_below(level: Level, *, hides_dollar: bool = False) -> Iterator[RetainedMessage | None]:
        to_do = [level]
        while to_do:
            current = to_do.pop()
            yield current.message
            if current.below is not None:
                hides = hides_dollar and current is level
                to_do += [one for key, one in current.below.items() if not (hides and key.startswith("$"))]
