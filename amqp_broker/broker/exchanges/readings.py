"""The ways to read what a message was published to, of which each queue has one: as words, or as levels too.

A topic exchange compares a binding's pattern with what its destination reads (``topic.py``). AMQP knows words between
dots. A topic of MQTT has levels between slashes, and a level may have dots in it, which are words more in its routing
key; a subscription of MQTT sees such a topic by its levels, everybody else by its key alone, as in RabbitMQ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from amqp_broker.wire.table import Table

WORDS_SEPARATOR: Final = "."
LEVELS_SEPARATOR: Final = "/"
TOPIC_HEADER: Final = "x-mqtt-topic"  # of a message whose key does not tell its topic: it has dots or stars


class Reading:
    """The way of AMQP: each routing key is words between dots."""

    def read(self, routing_keys: tuple[str, ...], headers: Table | None) -> Iterator[list[str]]:
        """What is to be compared with patterns, one after the other.

        Args:
            routing_keys: the one that the message was published with, and those of CC and BCC.
            headers: of the message, as far as they are known.

        Returns:
            Levels. One that has dots in it is several words, for all of which together one ``*`` may stand.
        """
        for key in routing_keys:
            yield words_of(key)


class ReadingLevels(Reading):
    """The way of MQTT's subscriptions: the same, and the levels of a topic that goes with the message."""

    def read(self, routing_keys: tuple[str, ...], headers: Table | None) -> Iterator[list[str]]:
        for key in routing_keys:
            yield words_of(key)
        topic = headers.get(TOPIC_HEADER) if headers else None
        if not isinstance(topic, str) or WORDS_SEPARATOR not in topic:
            return
        if topic.replace(LEVELS_SEPARATOR, WORDS_SEPARATOR) == routing_keys[0]:  # else it is of another address
            yield topic.split(LEVELS_SEPARATOR)


def words_of(key: str) -> list[str]:
    """The words of a key or pattern: an empty one has none, but a dot always stands between two, even empty ones."""
    return key.split(WORDS_SEPARATOR) if key else []


WORDS: Final = Reading()
LEVELS: Final = ReadingLevels()
