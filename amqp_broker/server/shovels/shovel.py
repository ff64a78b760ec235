"""One shovel while it is there: it connects, carries, and begins again when a connection ends.

How messages are carried is in ``client/carrying.py``, what its ends are in ``server/ends.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.client.carrying import Carrying, Destination
from amqp_broker.client.connection import AmqpClient
from amqp_broker.client.failures import BrokerUnreachable, told_as_one
from amqp_broker.logs import log_event
from amqp_broker.server.ends import Ends
from amqp_broker.server.shovels import events
from amqp_broker.server.shovels.definition import NEVER, QUEUE_LENGTH, ShovelDefinition
from amqp_broker.wire.table import Table


@dataclass(slots=True)
class State:
    """The state of a shovel, for whoever looks."""

    state: str = "starting"  # starting, running, terminated, paused
    reason: str = ""  # why it does not run
    since_ms: int = 0  # since 1970
    carried: int = 0  # since the broker has started
    source_uri: str = ""
    destination_uri: str = ""


class Shovel:
    """One shovel.

    Args:
        broker: whose it is, for the time.
        ends: where its ends are.
        virtual_host: whose parameter it is, and where an end is that is this broker and names none.
        name: of the shovel.
        definition: what it is to do.
    """

    def __init__(self, broker: Broker, ends: Ends, virtual_host: str, name: str, definition: ShovelDefinition) -> None:
        self._broker = broker
        self._ends = ends
        self.virtual_host = virtual_host
        self.name = name
        self.definition = definition
        self.state = State()
        self._attempts = 0
        self._uris = (definition.source_uris[0], definition.destination_uris[0])  # of the last attempt
        self._is_removed = False
        self._now("starting")

    def _now(self, state: str, reason: str = "") -> None:
        if self._is_removed:
            return
        self.state.state, self.state.reason = state, reason
        self.state.since_ms = self._broker.clock.wall_ms()
        level = logging.WARNING if reason else logging.INFO
        log_event(level, f"shovel {state}", shovel=self.name, vhost=self.virtual_host, reason=reason or None)
        self._tell(state, reason)

    def _tell(self, status: str, reason: str = "") -> None:
        def details() -> dict[str, Any]:
            ends = events.ends_of(self.definition, *self._uris) if status == events.RUNNING else {}
            why = {"reason": reason} if reason else {}
            return {**events.names_of(self.virtual_host, self.name), "status": status, **ends, **why}

        self._broker.tell(events.STATUS, details)

    def remove(self) -> None:
        """It is not there any more, or another is in its place: nothing more is told of it."""
        self._is_removed = True
        self._broker.tell(events.REMOVED, lambda: events.names_of(self.virtual_host, self.name))

    def fail(self, reason: str) -> None:
        """It does not run any more."""
        self._now("terminated", reason)

    async def run(self) -> None:
        """Carry until cancelled, or until it has carried all that it should."""
        if self.definition.is_paused:
            self._now("paused")
            await trio.sleep_forever()
        while True:
            try:
                await self._carry_once()
            except BrokerUnreachable as error:
                delay_s = self.definition.reconnect_delay_s
                if delay_s and self.state.state == events.RUNNING:
                    self._tell("terminated", str(error))  # one that is about to begin again has ended before
                self._now("terminated" if not delay_s else "starting", str(error))
                if not delay_s:
                    await trio.sleep_forever()
                await trio.sleep(delay_s)
            else:
                return

    async def _carry_once(self) -> None:
        definition = self.definition
        source_uri = definition.source_uris[self._attempts % len(definition.source_uris)]
        destination_uri = definition.destination_uris[self._attempts % len(definition.destination_uris)]
        self._attempts += 1
        self._uris = (source_uri, destination_uri)
        self.state.source_uri, self.state.destination_uri = str(source_uri), str(destination_uri)
        before = self.state.carried

        def progress(count: int) -> None:
            self.state.carried = before + count

        with told_as_one():
            async with (
                trio.open_nursery() as nursery,
                self._ends.connected(source_uri, self.virtual_host, f"Shovel {self.name}, source", nursery) as source,
                self._ends.connected(
                    destination_uri, self.virtual_host, f"Shovel {self.name}, destination", nursery
                ) as destination,
            ):
                await self._carry(source, destination, progress)

    async def _carry(self, source: AmqpClient, destination: AmqpClient, progress: Callable[[int], None]) -> None:
        definition = self.definition
        put_to = replace(definition.destination, headers=self._headers()) if definition.adds_headers else None
        carrying = Carrying(
            source, destination, definition.source, put_to or definition.destination, mode=definition.mode,
            limit=await self._limit(source), started=lambda: self._now("running"), progress=progress,
        )  # fmt: skip
        await carrying.run()

    async def _limit(self, source: AmqpClient) -> int | None:
        limit = self.definition.delete_after
        if limit == QUEUE_LENGTH:
            return await Carrying(source, source, self.definition.source, Destination()).ready_count()
        return None if limit == NEVER else int(limit)

    def _headers(self) -> Table:
        definition, to = self.definition, self.definition.destination
        shovelled: Table = {
            "shovelled-by": self._broker.settings.node_name or self._broker.settings.cluster_name,
            "shovel-type": "dynamic",
            "shovel-name": self.name,
            "shovel-vhost": self.virtual_host,
            "src-uri": self.state.source_uri,
            "dest-uri": self.state.destination_uri,
        }
        named = {
            "src-queue": definition.source.queue,
            "src-exchange": definition.source.exchange,
            "dest-queue": to.queue,
            "dest-exchange": to.exchange,
        }
        return {"x-shovelled": [{**shovelled, **{key: value for key, value in named.items() if value}}]}
