"""Topic names and topic filters: what is allowed, what matches, and how they read as AMQP routing keys (MQTT 5.0, 4.7).

The translation is by character, as RabbitMQ's: ``/`` becomes ``.`` and ``+`` becomes ``*``, and back. Nothing is
escaped, so a topic with a ``.`` in it comes back with a ``/``. A message is routed by the whole of it and carries 255
bytes, which is what AMQP has room for. A topic that cannot be told from that goes with the message (``own_name``).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from amqp_broker.broker.message import ROUTING_KEY_BYTES_MAX

LEVELS_SEPARATOR: Final = "/"
SHARED_PREFIX: Final = "$share/"
TOPIC_BYTES_MAX: Final = 65_535
SEPARATORS_MAX: Final = 200  # in a topic; mosquitto's limit
RESERVED: Final = ("$SYS/", SHARED_PREFIX)  # what clients do not publish to (MQTT 5.0, 4.7.2)

_TO_ROUTING_KEY: Final = str.maketrans("/+", ".*")
_TO_TOPIC: Final = str.maketrans(".*", "/+")


class SharedFilter(NamedTuple):
    """A subscription that several clients share (MQTT 5.0, 4.8.2)."""

    group: str
    topic_filter: str


def routing_key_of(topic: str) -> str:
    """The routing or binding key of a topic name or filter."""
    return topic.translate(_TO_ROUTING_KEY)


def topic_of(routing_key: str) -> str:
    """The topic name of a routing key."""
    return routing_key.translate(_TO_TOPIC)


def own_name(topic: str) -> str:
    """The topic where its routing key does not tell it, which then goes with the message; else nothing."""
    if "." in topic or "*" in topic or len(topic.encode()) > ROUTING_KEY_BYTES_MAX:
        return topic
    return ""


def is_topic_name(topic: str) -> bool:
    """Whether a message may be published there: something, and no wildcards."""
    return bool(topic) and "+" not in topic and "#" not in topic


def has_line_break(text: str) -> bool:
    """Whether a queue that is named after this would have another name: AMQP drops line breaks from names."""
    return "\n" in text or "\r" in text


def is_deep(topic: str) -> bool:
    """Whether a topic name or filter has more levels than are looked at."""
    return topic.count(LEVELS_SEPARATOR) > SEPARATORS_MAX


def is_reserved(topic: str) -> bool:
    """Whether a topic name is not for clients to publish to; the state of bridges is, which they tell themselves."""
    is_state = topic.startswith("$SYS/broker/connection/") and topic.endswith("/state")
    return topic.startswith(RESERVED) and not is_state


def is_topic_filter(topic_filter: str) -> bool:
    """Whether a filter is well formed: something, ``+`` fills a level, ``#`` fills the last one."""
    if not topic_filter:
        return False
    if "+" not in topic_filter and "#" not in topic_filter:
        return True
    levels = topic_filter.split(LEVELS_SEPARATOR)
    for number, level in enumerate(levels, 1):
        if "#" in level and (level != "#" or number != len(levels)):
            return False
        if "+" in level and level != "+":
            return False
    return True


def is_shared(topic_filter: str) -> bool:
    """Whether a filter is one that clients share, or begins like one."""
    return topic_filter.startswith(SHARED_PREFIX)


def shared_filter(topic_filter: str) -> SharedFilter | None:
    """Read ``$share/group/filter``; None for a filter that is not shared.

    Raises:
        ValueError: it begins like one and is none.
    """
    if not is_shared(topic_filter):
        return None
    group, slash, rest = topic_filter[len(SHARED_PREFIX) :].partition(LEVELS_SEPARATOR)
    if not group or "+" in group or "#" in group or not slash or not is_topic_filter(rest):
        raise ValueError(f"'{topic_filter}' is no shared subscription: $share/GROUP/FILTER is one")
    return SharedFilter(group, rest)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter matches a topic name.

    A filter that begins with a wildcard matches no topic that begins with ``$`` (MQTT 5.0, 4.7.2).
    """
    if topic.startswith("$") and topic_filter[:1] in ("+", "#"):
        return False
    wanted, levels = topic_filter.split(LEVELS_SEPARATOR), topic.split(LEVELS_SEPARATOR)
    for place, level in enumerate(wanted):
        if level == "#":
            return True
        if place >= len(levels) or level not in ("+", levels[place]):
            return False
    return len(wanted) == len(levels)
