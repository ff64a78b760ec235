"""Destinations of messages that an administrator moves: a queue, an exchange, or back to where they died.

Says for each message which queues it goes to, and as what, or why it stays. Puts nothing anywhere by itself, and takes
nothing out; that is ``moving.py``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.message import Address, Digest, Message, digest_of, without_blind_copies
from amqp_broker.broker.ports import Authorizer
from amqp_broker.broker.publishing import REFUSED, Ingress
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.way_back import way_back
from amqp_broker.errors import AmqpError, access_refused, precondition_failed
from amqp_broker.wire.hot import encode_address

if TYPE_CHECKING:
    from amqp_broker.broker.virtual_host import VirtualHost


class Stays(StrEnum):
    """The reason why a message stays where it is."""

    UNROUTABLE = "unroutable"  # no queue wants it, or only the one where it is
    REFUSED = "refused"
    WITHOUT_ORIGIN = "without_origin"
    NOT_ALLOWED = "not_allowed"


class Way:
    """The queues that a message goes to, and as what.

    Args:
        ingress: into them.
    """

    __slots__ = ("_address", "_digest", "_header", "_ingress", "queues")

    def __init__(
        self, ingress: Ingress, queues: tuple[Queue, ...], address: Address, header: bytes, digest: Digest
    ) -> None:
        self._ingress = ingress
        self.queues = queues
        self._address = address
        self._header = header
        self._digest = digest

    def put(self, body: bytes) -> bool:
        """Put it there; returns whether all have taken it."""
        return self._ingress.put(self.queues, self._address, self._header, body, self._digest) != REFUSED


class Destination:
    """A destination for the messages of a queue.

    Args:
        virtual_host: where all of this is.
        source: the queue.
    """

    def __init__(self, virtual_host: VirtualHost, source: Queue) -> None:
        self.virtual_host = virtual_host
        self.source = source
        self._header = b""
        self._digest: Digest | None = None

    def way(self, message: Message, *, is_dry_run: bool = False) -> Way | Stays:
        """The way of one of them; in a dry run nothing may change by finding it."""
        raise NotImplementedError

    def _digest_of(self, header: bytes) -> Digest:
        """What the broker needs of a header; most often it is that of the message before."""
        if self._digest is None or header != self._header:
            self._header, self._digest = header, digest_of(header)
        return self._digest


class ToQueue(Destination):
    """To a queue: a message keeps the exchange and the routing key that it was published with.

    Args:
        who: may write there; None for somebody who may do anything.

    Raises:
        AmqpError: 403; 404, there is no such queue; 405, it is exclusive; 406, it is the one where they are.
    """

    def __init__(self, virtual_host: VirtualHost, source: Queue, name: str, who: Authorizer | None) -> None:
        super().__init__(virtual_host, source)
        if who is not None:
            who.check_write("queue", name)
        self._queue = self.virtual_host.queue(name)
        if who is not None:
            self._queue.check_access(who)
        if self._queue is source:
            raise precondition_failed(f"the messages are in {source} already")

    def way(self, message: Message, *, is_dry_run: bool = False) -> Way | Stays:
        if self._queue.is_deleted:
            return Stays.UNROUTABLE
        digest = self._digest_of(message.header)
        return Way(self.virtual_host.ingress, (self._queue,), message.address, message.header, digest)


class ToExchange(Destination):
    """To an exchange, as if they were published anew.

    Args:
        routing_key: of all of them; None for the one that each has.
        who: may write there; None for somebody who may do anything.

    Raises:
        AmqpError: 403; 404, there is no such exchange.
    """

    def __init__(
        self, virtual_host: VirtualHost, source: Queue, name: str, routing_key: str | None, who: Authorizer | None
    ) -> None:
        super().__init__(virtual_host, source)
        if who is not None:
            who.check_write("exchange", name)
        exchange = self.virtual_host.exchange(name)
        if exchange.internal:
            raise access_refused(f"cannot publish to internal {self.virtual_host.described('exchange', name)}")
        self._exchange = exchange
        self._routing_key = routing_key
        self._who = who

    def way(self, message: Message, *, is_dry_run: bool = False) -> Way | Stays:
        exchange, host = self._exchange, self.virtual_host
        key = message.address.routing_key if self._routing_key is None else self._routing_key
        if host.exchanges.get(exchange.name) is not exchange:
            return Stays.UNROUTABLE
        header, body = message.header, message.body
        digest = self._digest_of(header)
        if not self._may_write(exchange, key, digest):
            return Stays.NOT_ALLOWED
        keys = digest.extra_routing_keys
        address = Address(exchange.name, key, encode_address(exchange.name, key), keys)
        if is_dry_run:
            known = host.ingress.route_before_commit(exchange, address.routing_keys, header, body, digest)
            if known is None:  # an exchange counts messages, so that asking would change what it says
                return Way(host.ingress, (), address, header, digest)
            queues = known
        else:
            queues = host.ingress.route(exchange, address.routing_keys, header, body, digest)
        if not queues or self.source in queues:
            return Stays.UNROUTABLE
        if digest.has_blind_copies:
            header = without_blind_copies(header)
        return Way(host.ingress, queues, address, header, digest)

    def _may_write(self, exchange: Exchange, key: str, digest: Digest) -> bool:
        who = self._who
        if who is None or not exchange.has_topic_permissions:
            return True
        try:
            who.check_topic_write(exchange.name, key)
            self.virtual_host.ingress.check_copies(who, exchange, digest)
        except AmqpError:
            return False
        return True


class ToOrigin(Destination):
    """Back to where each has died the last time, as what it was then.

    Args:
        who: may write there; None for somebody who may do anything.
    """

    def __init__(self, virtual_host: VirtualHost, source: Queue, who: Authorizer | None) -> None:
        super().__init__(virtual_host, source)
        self._who = who

    def way(self, message: Message, *, is_dry_run: bool = False) -> Way | Stays:
        back = way_back(message)
        queue = self.virtual_host.queues.get(back.queue) if back is not None else None
        if back is None or queue is None or queue is self.source:
            return Stays.WITHOUT_ORIGIN
        if not self._may_write(queue):
            return Stays.NOT_ALLOWED
        return Way(self.virtual_host.ingress, (queue,), back.address, back.header, digest_of(back.header))

    def _may_write(self, queue: Queue) -> bool:
        who = self._who
        if who is None:
            return True
        try:
            who.check_write("queue", queue.name)
            queue.check_access(who)
        except AmqpError:
            return False
        return True
