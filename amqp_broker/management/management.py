"""The management of one server, as it is there before anybody asks.

HTTP itself and all endpoints are loaded when the first administrator connects, so that a broker which nobody asks pays
for neither; in a thread, so that nobody else waits the fifty milliseconds that it takes. Holds no HTTP and no endpoint.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import trio

from amqp_broker.access.client import Peer
from amqp_broker.management.managed_server import ManagedServer
from amqp_broker.server.broker_server import BrokerServer

if TYPE_CHECKING:
    from amqp_broker.management.http.service import HttpService
    from amqp_broker.server.sharding.shards import Shards

SERVICE = "amqp_broker.management.http.service"


class Management(ManagedServer):
    """The management of one server: what administrators see and change.

    Args:
        server: which; it need not be open yet.
        shards: into which the broker is divided, whose server then knows users and virtual hosts alone.
    """

    def __init__(self, server: BrokerServer, shards: Shards | None = None) -> None:
        super().__init__(server, shards)
        self._service: HttpService | None = None

    async def serve(self, stream: trio.abc.Stream, peer: Peer, protocol: str) -> None:
        """Have one administrator's conversation, from its first byte to its last."""
        if self._service is None:
            await trio.to_thread.run_sync(import_module, SERVICE)
        if self._service is None:
            from amqp_broker.management.http.service import HttpService

            self._service = HttpService(self)
            self.server.log_lines.attach()
        await self._service.serve(stream, peer, protocol)
