"""The server that is managed, and what the answers to all requests share: rates, logins that were counted, its name.

Holds no HTTP and no endpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.inspection import Inspection
from amqp_broker.broker.names import node_of
from amqp_broker.network.wake_up import WakeUp
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.status import server_status

if TYPE_CHECKING:
    from amqp_broker.management.http.sessions import Sessions
    from amqp_broker.management.samples import Key, Samples
    from amqp_broker.management.series import Numbers
    from amqp_broker.server.sharding.shards import Shards


class ManagedServer:
    """One server as administrators see and change it.

    Args:
        server: which; it need not be open yet.
        shards: into which the broker is divided, whose server then knows users and virtual hosts alone.
    """

    def __init__(self, server: BrokerServer, shards: Shards | None = None) -> None:
        self.server = server
        self.shards = shards
        self.http_logins = {"succeeded": 0, "failed": 0}
        self.last_request_s = -math.inf
        self._samples: Samples | None = None
        self._sessions: Sessions | None = None
        self._is_sampling = False
        self._asked = WakeUp()

    @property
    def broker(self) -> Broker:
        """The broker."""
        return self.server.broker

    @property
    def inspection(self) -> Inspection:
        """What can be seen of it."""
        return Inspection(self.server.broker)

    @property
    def cluster_name(self) -> str:
        """The name of the cluster."""
        return self.server.cluster_name_elsewhere() or self.broker.cluster_name

    @property
    def samples(self) -> Samples:
        """How its numbers were."""
        if self._samples is None:
            from amqp_broker.management.samples import Samples
            from amqp_broker.management.things import FIELDS, things

            broker = self.broker
            self._samples = Samples(lambda: chain(things(broker), self._node_now()), FIELDS, broker.clock.wall_ms)
        return self._samples

    def _node_now(self) -> Iterator[tuple[Key, Numbers]]:
        """What this node uses of its machine."""
        from amqp_broker.management.things import node_key, node_numbers

        yield node_key(self.node), node_numbers(server_status(self.server), len(self.broker.open_connections))

    @property
    def sessions(self) -> Sessions:
        """Who has logged in to the page."""
        if self._sessions is None:
            from amqp_broker.management.http.sessions import Sessions

            self._sessions = Sessions(trio.current_time)
        return self._sessions

    @property
    def node(self) -> str:
        """The name of this node, as RabbitMQ names one."""
        return node_of(self.server.node_name)

    @property
    def nodes(self) -> list[str]:
        """The names of all nodes of the broker, this one first."""
        return [self.node, *(node_of(one.name) for one in self.server.other_nodes())]

    def was_asked(self) -> None:
        """Somebody asks: from now on there are rates."""
        self.last_request_s = trio.current_time()
        self._asked.set()
        if not self._is_sampling:
            self._is_sampling = True
            self.server.in_background(self._sample)

    async def _sample(self) -> None:
        try:
            await self.samples.run(lambda: self.last_request_s, self._asked)
        finally:
            self._is_sampling = False
