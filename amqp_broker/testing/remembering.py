"""The observer that writes down what a test may ask for: what was published and died, and what clients did wrong.

Holds no faults (``watched.py``), and not what is remembered (``watch.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.connections import OpenConnection
from amqp_broker.broker.dead_letter import DeathReason
from amqp_broker.broker.message import Address, Message
from amqp_broker.broker.observer import Channel, Onlooker, Passage, Settlement
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.amqp091.connection import Connection
from amqp_broker.protocols.amqp091.states import ChannelState
from amqp_broker.session.connection import ClientConnection
from amqp_broker.testing.records import Published, published, why_nowhere
from amqp_broker.testing.watch import Watch


class Remembering(Onlooker):
    """Remembers what goes by.

    Args:
        broker: which it looks at.
        watch: where it is remembered.
    """

    def __init__(self, broker: Broker, watch: Watch) -> None:
        self._broker = broker
        self._watch = watch

    def published(self, channel: Channel, passage: Passage) -> None:
        """Remember a publish, and why it went nowhere."""
        address = passage.address
        if passage.error is not None:
            error = passage.error
            self._add(passage, (), f"refused with {int(error.code)} {error.reply_text}")
        elif not address.exchange and address.routing_key in self._broker.reply_consumers:
            self._add(passage, (address.routing_key,), "")
        elif not passage.queues:
            self._add(passage, (), why_nowhere(passage.virtual_host, address.exchange, address.routing_key))
        elif passage.accepted:
            self._add(passage, _names(passage.queues), "")
        else:
            may_refuse = [queue for queue in passage.queues if queue.arguments.overflow.startswith("reject")]
            full = ", ".join(f"'{queue.name}'" for queue in may_refuse)
            took_it = [queue for queue in passage.queues if queue not in may_refuse]
            self._add(passage, _names(took_it), f"refused by a queue that is full: {full}")

    def _add(self, passage: Passage, queues: tuple[str, ...], reason: str) -> None:
        space = self._watch.of(passage.virtual_host.name)
        entry = published(passage.address, passage.header, passage.body, queues, reason)
        space.remembered.add(entry)
        if not queues:
            space.unrouted.add(entry)

    def died(self, queue: Queue, message: Message, reason: DeathReason, passage: Passage | None) -> None:
        """Remember a dead letter; where a queue has no dead-letter exchange, a death is no publish."""
        if queue.arguments.dead_letter_exchange is not None and reason is not DeathReason.DUPLICATE:
            letter = _lost_letter(queue, message, reason) if passage is None else _letter(queue, reason, passage)
            self._watch.of(queue.virtual_host.name).remembered.add(letter)

    def settled(self, channel: Channel, queue: Queue, messages: Sequence[Message], settlement: Settlement) -> None:
        """Remember what a client left unacknowledged."""
        virtual_host = queue.virtual_host
        if settlement is not Settlement.ABANDONED or channel.connection in self._watch.ended_by_test:
            return
        if self._broker.virtual_hosts.get(virtual_host.name) is virtual_host:
            self._watch.of(virtual_host.name).given_back[queue.name] += len(messages)

    def refused(self, connection: OpenConnection, error: AmqpError) -> None:
        """Remember what a client was told."""
        assert isinstance(connection, ClientConnection)
        if connection.is_open:
            errors = self._watch.of(connection.virtual_host_name).errors
            errors.append(f"{int(error.code)} {error.reply_text} (to {connection.peer})")

    def closed(self, connection: OpenConnection, channel: Channel | None, reason: str) -> None:
        """Remember who has left channels of AMQP 0-9-1 open; elsewhere the end of a connection is that of all in it."""
        if not isinstance(connection, Connection) or connection.peer.direct_name:  # a shovel's is no client's
            return
        is_there = self._broker.virtual_hosts.get(connection.virtual_host_name) is connection.virtual_host
        if channel is not None or connection in self._watch.ended_by_test or not is_there:
            return
        if any(one.state is ChannelState.OPEN for one in connection.channels.values()):
            self._watch.of(connection.virtual_host_name).channels_left_open.append(str(connection.peer))


def _names(queues: Sequence[Queue]) -> tuple[str, ...]:
    return tuple(queue.name for queue in queues)


def _letter(queue: Queue, reason: DeathReason, passage: Passage) -> Published:
    address, names = passage.address, _names(passage.queues)
    why = "" if names else why_nowhere(passage.virtual_host, address.exchange, address.routing_key)
    return published(address, passage.header, passage.body, names, why, died_in=queue.name, death_reason=str(reason))


def _lost_letter(queue: Queue, message: Message, reason: DeathReason) -> Published:
    exchange, key = queue.arguments.dead_letter_exchange, queue.arguments.dead_letter_routing_key
    address = Address(exchange or "", message.address.routing_key if key is None else key, b"")
    why = f"dead-letter exchange '{exchange}' does not exist"
    return published(address, message.header, message.body, (), why, died_in=queue.name, death_reason=str(reason))
