"""The base class for a protocol of somebody's own (docs/plugins.md): a connection with one channel that logs in,
publishes, and takes messages out of queues. What its bytes mean is the protocol's.

Not here: consumers. A protocol that wants them is written as those in ``protocols/`` are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from amqp_broker.access.client import Peer
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo
from amqp_broker.broker.message import Address, Message, digest_of
from amqp_broker.broker.observer import Passage
from amqp_broker.broker.publishing import REFUSED, TAKEN
from amqp_broker.errors import AmqpError
from amqp_broker.session.inspection import describe_channel, describe_connection
from amqp_broker.session.login import Refusal, Refused
from amqp_broker.session.one_channel import OneChannelConnection
from amqp_broker.wire.content import Properties, encode_content_header
from amqp_broker.wire.hot import encode_address

TAKE_EFFORT: Final = 5  # about; see ``ClientConnection.has_cost``
NO_PROPERTIES: Final = Properties()


class PlainConnection(OneChannelConnection):
    """The conversation with one client; arguments as of ``ClientConnection``.

    A protocol says its ``name``, and overrides ``cut``, ``handle`` and ``refused``.
    """

    name = "plain"  # of the protocol, as lists show it

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self.channel = OneChannel(self)

    @property
    def counted_as(self) -> str:
        return self.name

    # --- what a protocol says for itself

    def cut(self, data: bytes) -> Iterable[Any]:
        """What has come whole, in order; what lacks its end is to be kept until more comes."""
        raise NotImplementedError

    def handle(self, item: Any) -> None:
        """Do one of those.

        It is called again with the same one, from its beginning, where something had to be waited for: it calls one of
        ``log_in``, ``publish`` and ``take``, and that before it says anything.
        """
        raise NotImplementedError

    def refused(self, reason: str) -> None:
        """Something was refused, and the client is to be told; ends the connection where it should."""
        self.end(reason)

    # --- what a protocol can do

    def log_in(self, name: str, password: str, virtual_host: str = "") -> None:
        """Let the client in.

        Args:
            virtual_host: its name; empty for the one that every broker has.

        Raises:
            Refused, AmqpError: it may not come in; ``refused`` is called with the reason where this is not caught.
        """
        self.login.authenticate_by_password(name, password.encode("utf-8", "surrogateescape"))
        self._client, self._virtual_host = self.login.enter(virtual_host or self.broker.settings.default_virtual_host)
        self.login.tell("PLAIN", self.name)
        self._deadline.cancel()
        self.watch_expiry()
        self.let_in()

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: Properties = NO_PROPERTIES,
    ) -> bool:
        """Publish a message; returns whether its queues have taken it. What is said from now on leaves when the message
        is as durable as it must be.

        Raises:
            AmqpError: it is not allowed, or there is no such exchange.
        """
        host, counts = self.virtual_host, self.counts
        self.throttle.has_published = True
        found = host.ingress.exchange_for(self.client, exchange, routing_key)
        header = encode_content_header(len(body), properties)
        address = Address(exchange, routing_key, encode_address(exchange, routing_key))
        if host.interceptors.present:
            header = host.intercepted(address, self.user_name, header, body)
        digest = digest_of(header)
        queues = host.ingress.route(found, (routing_key,), header, body, digest)
        self.has_cost(len(queues))
        found.published_in += 1
        found.published_out += len(queues)
        counts.published += 1
        if queues:
            outcome = host.ingress.put(queues, address, header, body, digest)
        else:
            outcome = self.broker.durability.position_of_duplicates
            counts.dropped += 1
            host.drops.unroutable(host.name, address, self.user_name)
        if self.broker.observers.present:
            self.broker.observers.published(
                self.channel, Passage(host, address, header, body, queues, outcome != REFUSED)
            )
        if outcome > TAKEN:
            self.output.hold_until(outcome)
        return outcome != REFUSED

    def take(self, queue: str) -> Message | None:
        """Take the next message out of a queue, for good; None where it is empty.

        Raises:
            AmqpError: it is not allowed, or there is no such queue.
        """
        self.client.check_read("queue", queue)
        found = self.virtual_host.accessible_queue(self.client, queue)
        self.has_cost(TAKE_EFFORT)
        message = found.get(True)
        for counts in (self.counts, found.counts.of(self.name)):
            if message is None:
                counts.got_empty += 1
            else:
                counts.got_no_ack += 1
                counts.redelivered += message.redelivered
        if message is not None and self.broker.observers.present:
            self.broker.observers.delivered(self.channel, found, message, None, no_ack=True)
        return message

    def say(self, data: bytes) -> None:
        """Send something."""
        self.output.send(data)

    def end(self, reason: str = "closed by client") -> None:
        """Nothing more comes in; what waits goes out, then the socket is closed.

        Args:
            reason: for the log.
        """
        if not self.close_reason:
            self.close_reason = reason
        self.finish()

    def finish(self) -> None:
        """The same, for the reason that was given."""
        if not self._is_closed:
            self.has_failed = not self._is_open
        super().finish()

    # --- bytes in

    def receive(self, data: bytes) -> None:
        """Handle all that the socket read, and what follows from it."""
        self.received_bytes += len(data)
        if not self._is_closed:
            self.broker.handle_items(self, iter(self.cut(data)))
            self.throttle.chunk_was_handled()

    def handle_rest(self, items: Iterator[Any]) -> None:
        self.handle_each(items)

    def handle_item(self, item: Any) -> None:
        try:
            self.handle(item)
        except Refused as refused:
            self.login.tell("PLAIN", self.name, str(refused))
            self.refused("access refused" if refused.reason is Refusal.LOGIN else str(refused))
        except AmqpError as error:
            if self._is_open and self.broker.observers.present_for_changes:
                self.broker.observers.refused(self, error)
            self.refused(error.explanation)

    # --- the end

    def handshake_took_too_long(self) -> None:
        self.end(self.close_reason)

    def fail_forced(self, reason: str, *, is_shutdown: bool) -> None:
        """Tell the client that it has to go, and end the connection."""
        if not self._is_closed:
            try:
                self.refused(reason)
            except (Exception, SystemExit) as error:  # of the protocol's code: others are to end as well
                self._defect = error
            self.end(reason)

    def words_for_a_defect(self) -> bytes:
        """What the client is told when the protocol's code fails."""
        return b""

    # --- for those who look in

    def update_room(self) -> None:
        """There are no consumers."""

    def inspect_channel(self) -> ChannelInfo:
        return self.channel.inspect()

    def inspect(self) -> ConnectionInfo:
        return describe_connection(self, protocol=self.name, state=self.state_name, timeout_s=0, client_properties={})


class OneChannel:
    """The object that stands for the channel of a connection (``broker/observer.py``)."""

    number = 1

    def __init__(self, connection: PlainConnection) -> None:
        self.connection = connection

    def inspect(self) -> ChannelInfo:
        """Describe it."""
        return describe_channel(self.connection, self.connection.counts)
