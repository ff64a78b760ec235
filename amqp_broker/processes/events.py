"""The events of one process for the event exchange, which is in the default virtual host: another process may own that.

They go over the link, many in one call where there are many. The process that has the exchange publishes them with its
own. What all processes do because the directory says so (users, virtual hosts) is told by the root alone. So that a
login that is refused by an empty broker (``server/sharding/arrivals.py``) is told as well, it is one of the process.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.event_exchange import header_of
from amqp_broker.broker.events import Events
from amqp_broker.broker.observer import Happening, Onlooker
from amqp_broker.network.wake_up import WakeUp
from amqp_broker.processes.link import EVENTS, NOBODY, Brought, LinkUnreachable, bring
from amqp_broker.server.sharding.directory import BY

WAITING_MAX: Final = 10_000  # events; of more the oldest are dropped
WAITING_BYTES_MAX: Final = 67_108_864  # likewise
CALL_EVENTS: Final = 1_000
CALL_BYTES: Final = 1_048_576  # from which on there is no further event in a call: a link takes 16 MiB
AGAIN_S: Final = 1.0  # when the other process is not there
REFUSED: Final = "user.authentication.failure"
OF_HERE: Final = ("binding.", "policy.", "queue.")  # even where the directory says so: they go with a virtual host


class RefusedLogins(Onlooker):
    """The logins that an empty broker refuses, as those of the process.

    Args:
        broker: the process's.
    """

    def __init__(self, broker: Callable[[], Broker]) -> None:
        self._broker = broker

    def happened(self, happening: Happening) -> None:
        """Tell it to who looks on at the process's broker."""
        if happening.name == REFUSED:
            broker = self._broker()
            broker.handle(partial(broker.observers.happened, happening.name, happening.details, happening.by))


def is_told_by_root(event: str, by: str) -> bool:
    """Whether all processes do something because the directory says so: the root names who has changed it."""
    return by == BY and not event.startswith(OF_HERE)


class EventsElsewhere(Events):
    """The events of a process's broker until another process has them.

    Args:
        broker: the process's.
    """

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker.settings.node_name or broker.settings.cluster_name)
        self._clock = broker.clock
        self._waiting: deque[tuple[str, str]] = deque()
        self._waiting_bytes = 0
        self._came = WakeUp()

    def tell(self, event: str, details: Mapping[str, Any], by: str) -> None:
        if is_told_by_root(event, by):
            return
        header = header_of(details, by, self._clock.wall_ms())
        if header is not None:
            self._waiting.append((event, base64.b64encode(header).decode()))
            self._waiting_bytes += len(self._waiting[-1][1])
            self._drop_oldest()
            self._came.set()

    def _drop_oldest(self) -> None:
        while len(self._waiting) > WAITING_MAX or self._waiting_bytes > WAITING_BYTES_MAX:
            self._waiting_bytes -= len(self._waiting.popleft()[1])

    async def send(self, folder: Callable[[], Path | None]) -> None:
        """Send them, until cancelled.

        Args:
            folder: of the process that has the exchange; None where that is this one.
        """
        while True:
            await trio.lowlevel.checkpoint()
            await self._came.wait()
            while self._waiting:
                some = self._next_ones()
                to = folder()
                if to is not None and not await _sent(to, some):
                    self._waiting.extendleft(reversed(some))
                    self._waiting_bytes += sum(len(header) for _, header in some)
                    self._drop_oldest()
                    await trio.sleep(AGAIN_S)

    def _next_ones(self) -> list[tuple[str, str]]:
        """The events of the next call."""
        some: list[tuple[str, str]] = []
        size_bytes = 0
        while self._waiting and len(some) < CALL_EVENTS and size_bytes < CALL_BYTES:
            some.append(self._waiting.popleft())
            size_bytes += len(some[-1][1])
        self._waiting_bytes -= size_bytes
        return some


async def _sent(folder: Path, events: list[tuple[str, str]]) -> bool:
    try:
        link = await bring(folder, Brought(EVENTS, NOBODY, json.dumps(events).encode()))
    except LinkUnreachable:
        return False
    await link.aclose()
    return True


def publish_events(broker: Broker, sent: bytes) -> None:
    """Publish what another process has sent, where this one has the exchange.

    Raises:
        ValueError: these are no events.
    """
    exchange = broker.event_exchange
    if exchange is None or not exchange.is_wanted():
        return
    events = [(str(event), base64.b64decode(header)) for event, header in json.loads(sent)]

    def publish() -> None:
        for event, header in events:
            exchange.publish(event, header)

    broker.handle(publish)
