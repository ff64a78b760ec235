"""Dynamic nodes: the queue that a link has made for itself, which has no name of the client's, and goes with the link.

It is the connection's alone to receive from, and anybody's to send to, for which its address is told in the answer to
``attach`` (AMQP 1.0, 3.5.3 and 3.5.4, ``dynamic``; RabbitMQ docs, "AMQP 1.0", since 4.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from amqp_broker.protocols.amqp10.addresses import QUEUES, quote_name
from amqp_broker.protocols.amqp10.compound import Described, Map
from amqp_broker.protocols.amqp10.errors import INVALID_FIELD, ProtocolError
from amqp_broker.protocols.amqp10.typed import Symbol, UInt, ULong

if TYPE_CHECKING:
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.protocols.amqp10.context import ConnectionContext
    from amqp_broker.protocols.amqp10.performatives import Fields

ADDRESS: Final = 0  # where the fields of sources and targets stand
DYNAMIC: Final = 4
NODE_PROPERTIES: Final = 5
DELETE_ON_CLOSE: Final = 0x2B  # a lifetime policy


class DynamicNode:
    """The queue of one link; it is there from now on.

    Args:
        connection: whose alone it is.
        terminus: the source or the target that asks for it.

    Raises:
        ProtocolError: it has an address.
        AmqpError: the client may not.
        NotDecidedYet: others are being asked whether it may.
    """

    def __init__(self, connection: ConnectionContext, terminus: Fields) -> None:
        if terminus.text(ADDRESS) is not None:
            raise ProtocolError(INVALID_FIELD, "a dynamic node has no address before it is made")
        self._host = connection.virtual_host
        self._user_name = connection.user_name
        self.queue: Queue = self._host.declare_queue(
            connection.client, "", durable=False, exclusive=True, auto_delete=False, arguments={}
        )

    def told(self, terminus: Fields) -> list[Any]:
        """The fields of the source or target as they are answered: as they are, whatever the client has asked for."""
        lifetime = Map([(Symbol("lifetime-policy"), Described(ULong(DELETE_ON_CLOSE), []))])
        address = f"{QUEUES}{quote_name(self.queue.name)}"
        made: list[Any] = [address, UInt(0), Symbol("link-detach"), UInt(0), True, lifetime]
        return made + list(terminus.items[NODE_PROPERTIES + 1 :])

    def delete(self) -> None:
        """Its link has ended."""
        self._host.remove_queue(self.queue, self._user_name)
