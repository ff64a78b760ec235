"""The events of a broker for who follows them on the control socket, in the words of the event exchange.

They are there whether the event exchange is on or not. Holds no socket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.events import INTERNAL_USER, Events
from amqp_broker.broker.json_values import json_ready_table

LOOK_EVERY_S = 0.2
WAITING_MAX = 10_000


class EventFeed(Events):
    """The events that have come and were not taken yet.

    Args:
        broker: whose.
    """

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker.settings.node_name or broker.settings.cluster_name)
        self._clock = broker.clock
        self._waiting: deque[dict[str, Any]] = deque(maxlen=WAITING_MAX)
        self._came = 0

    def tell(self, event: str, details: Mapping[str, Any], by: str) -> None:
        given = json_ready_table({name: value for name, value in details.items() if value is not None})
        who = {"user_who_performed_action": by or INTERNAL_USER, "timestamp_in_ms": self._clock.wall_ms()}
        self._waiting.append({"event": event, **given, **who})
        self._came += 1

    def take(self) -> list[dict[str, Any]]:
        """Those that came since the last call; where they were too many, how many are missing stands before them."""
        taken, lost = list(self._waiting), self._came - len(self._waiting)
        self._waiting.clear()
        self._came = 0
        return [{"event": "events.lost", "count": lost}, *taken] if lost else taken


async def follow_events(broker: Broker) -> AsyncGenerator[list[dict[str, Any]], None]:
    """What happens from now on, but to messages, for ever; a list is empty where nothing did."""
    feed = EventFeed(broker)
    broker.observers.add(feed, of_messages=False)
    try:
        while True:
            yield feed.take()
            await trio.sleep(LOOK_EVERY_S)
    finally:
        broker.observers.remove(feed)
