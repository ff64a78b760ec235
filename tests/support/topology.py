"""A virtual host that a test fills in few words, and asks where a message would go. Holds no messages."""

from __future__ import annotations

from amqp_broker.broker.exchanges.matcher import Envelope
from amqp_broker.broker.exchanges.routing import find_route
from amqp_broker.broker.queues.base import Queue
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.table import Table
from tests.support.authorizer import Everything
from tests.support.memory_broker import MemoryBroker


class Topology:
    """Exchanges, queues and bindings of a broker of their own."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.virtual_host = self.broker.virtual_host
        self.who = Everything()

    def exchange(self, name: str, kind: str, *, alternate: str | None = None, auto_delete: bool = False) -> None:
        """Declare an exchange."""
        arguments: Table = {} if alternate is None else {"alternate-exchange": alternate}
        self.virtual_host.declare_exchange(
            self.who, name, kind, durable=False, auto_delete=auto_delete, internal=False, arguments=arguments
        )

    def queue(self, name: str, arguments: Table | None = None, *, auto_delete: bool = False) -> Queue:
        """Declare a queue."""
        return self.virtual_host.declare_queue(
            self.who, name, durable=False, exclusive=False, auto_delete=auto_delete, arguments=arguments or {}
        )

    def bind(self, source: str, queue: str, key: str = "", arguments: Table | None = None) -> None:
        """Bind a queue."""
        self.virtual_host.bind(self.who, source, "queue", queue, key, arguments or {})

    def unbind(self, source: str, queue: str, key: str = "", arguments: Table | None = None) -> None:
        """Unbind a queue."""
        self.virtual_host.unbind(self.who, source, "queue", queue, key, arguments or {})

    def bind_exchange(self, source: str, destination: str, key: str = "", arguments: Table | None = None) -> None:
        """Bind an exchange to an exchange."""
        self.virtual_host.bind(self.who, source, "exchange", destination, key, arguments or {})

    def route(self, exchange: str, *keys: str, headers: Table | None = None) -> list[str]:
        """The names of the queues that a message reaches; one that came twice would stand here twice."""
        envelope = Envelope(keys or ("",), encode_content_header(0, Properties(headers=headers)), headers)
        route = find_route(self.virtual_host, self.virtual_host.exchange(exchange), envelope)
        return sorted(queue.name for queue in route.queues)
