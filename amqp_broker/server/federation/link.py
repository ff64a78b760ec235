"""A link of a federation: from one upstream to one exchange or queue. It connects, has messages forwarded, and begins
again when a connection ends.

What is forwarded is a matter of the two kinds, ``exchange_link.py`` and ``queue_link.py``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.queues.base import Queue
from amqp_broker.client.connection import AmqpClient
from amqp_broker.client.failures import BrokerUnreachable, told_as_one
from amqp_broker.client.uri import AmqpUri, parse_uri
from amqp_broker.logs import log_event
from amqp_broker.network.wake_up import WakeUp
from amqp_broker.server.ends import Ends
from amqp_broker.server.federation import events
from amqp_broker.server.federation.definition import Upstream
from amqp_broker.server.federation.events import Details
from amqp_broker.server.federation.link_name import LinkName
from amqp_broker.wire.table import Table

HERE: Final = parse_uri("amqp://")
FAREWELL_S: Final = 5.0


@dataclass(slots=True)
class State:
    """The state of a link, for whoever looks."""

    state: str = "starting"  # starting, running, error, paused
    reason: str = ""  # why it does not run
    since_ms: int = 0  # since 1970
    forwarded: int = 0  # messages, since the broker has started
    uri: str = ""


class Link:
    """A link of either kind.

    Args:
        broker: whose it is.
        ends: how brokers are reached.
        name: which link it is.
        upstream: what it is linked to.
        policy: the name of the policy that asks for it.
        federated: what is federated here.
    """

    def __init__(
        self, broker: Broker, ends: Ends, name: LinkName, upstream: Upstream, policy: str, federated: Exchange | Queue
    ) -> None:
        self.broker = broker
        self.ends = ends
        self.name = name
        self.upstream = upstream
        self.policy = policy
        self.federated = federated
        self.state = State(uri=_shown(upstream.uris[0]))
        self.look = WakeUp()  # set when what is federated here may have changed
        self._attempts = 0
        self._serving: trio.CancelScope | None = None
        self.is_over = False  # what is federated here is so no more
        self._now("starting")

    # --- what the kinds do

    async def serve(self, there: AmqpClient, here: AmqpClient, uri: AmqpUri) -> None:
        """Have messages forwarded until that fails.

        Args:
            there: a connection to the upstream.
            here: one to this broker.
            uri: where the upstream is, for those who need another connection.
        """
        raise NotImplementedError

    async def clean_up(self, there: AmqpClient) -> None:
        """Take away at the upstream what was there for the link alone."""

    def look_at_consumers(self) -> None:
        """Whoever consumes here, and what waits here, may be others now."""

    def is_of(self, thing: object) -> bool:
        """Whether an exchange or queue is the one that is federated."""
        return thing is self.federated

    @property
    def federated_has_gone(self) -> bool:
        """Whether what is federated was deleted."""
        return self.federated.is_deleted

    # --- running

    def _now(self, state: str, reason: str = "") -> None:
        self.state.state, self.state.reason = state, reason
        self.state.since_ms = self.broker.clock.wall_ms()
        names = {self.name.kind: self.name.name, "vhost": self.name.virtual_host, "upstream": self.name.upstream}
        level = logging.WARNING if reason else logging.INFO
        log_event(level, f"federation link {state}", **names, reason=reason or None)
        self._tell(state, reason)

    def _tell(self, status: str, reason: str = "") -> None:
        def details() -> Details:
            link = events.names_of(self.name, self.upstream)
            now_ms = self.broker.clock.wall_ms()
            return link | events.status_of(status, reason, self.state.uri, self.connection_name, now_ms)

        self.broker.tell(events.STATUS, details)

    def removed(self) -> None:
        """It has ended, and is not there any more."""
        self.broker.tell(events.REMOVED, lambda: events.names_of(self.name, self.upstream))

    def running(self) -> None:
        """All is there that it needs."""
        self._now("running")

    def fail(self, reason: str) -> None:
        """It does not run any more."""
        self._now("error", reason)

    async def run(self) -> None:
        """Have messages forwarded until cancelled, or until ``end``."""
        if self.upstream.is_paused:
            self._now("paused")
            await trio.sleep_forever()
        while not self.is_over:
            try:
                await self._serve_once()
            except BrokerUnreachable as error:
                self.fail(str(error))
                if not self.upstream.reconnect_delay_s:
                    await trio.sleep_forever()
                await trio.sleep(self.upstream.reconnect_delay_s)
                self._tell("starting")  # whoever asks how it is hears of the error until it runs

    def end(self) -> bool:
        """Let it end because what is federated is so no more; returns False when it must be cancelled for that."""
        self.is_over = True
        if self._serving is None:
            return False
        self._serving.cancel()
        return True

    async def _serve_once(self) -> None:
        uris, virtual_host = self.upstream.uris, self.name.virtual_host
        uri = uris[self._attempts % len(uris)]
        self._attempts += 1
        self.state.uri = _shown(uri)
        there_uri = uri if uri.virtual_host is not None else replace(uri, virtual_host=virtual_host)
        with told_as_one():
            async with (
                trio.open_nursery() as nursery,
                self.ends.connected(HERE, virtual_host, self.connection_name, nursery) as here,
                self.ends.connected(there_uri, virtual_host, self.connection_name, nursery) as there,
            ):
                with trio.CancelScope() as self._serving:
                    await self.serve(there, here, there_uri)
                self._serving = None
                if self.is_over and self.upstream.is_cleaned_up:
                    with trio.move_on_after(FAREWELL_S):
                        await self.clean_up(there)

    @property
    def connection_name(self) -> str:
        """What its connections are called."""
        return f"Federation link (upstream: {self.upstream.name}, policy: {self.policy})"

    def counted(self, before: int, count: int) -> None:
        """So many messages have arrived on these connections, and before."""
        self.state.forwarded = before + count

    def place(self) -> Table:
        """Where messages come from, as their headers tell it."""
        return {"uri": self.state.uri, self.name.kind: self.name.name}


def _shown(uri: AmqpUri) -> str:
    """An address as others are told it: without user and password, as RabbitMQ does it."""
    return str(replace(uri, user=None))
