"""From basic.publish to the queues, and back to the publisher: content assembly, routing, returns, confirms.

This is the hot path. A publish comes as three frames. Nearly always all three are here, and the content is taken with
the method (``begin``); else the method's payload is kept, the content header's too, and with the last body frame the
message is whole. What a payload means is looked up by its bytes: the same exchange, routing key and flags lead to the
same queues, and the same properties mean the same to the broker, until the virtual host's topology or somebody's
permissions change. Both are remembered for the whole connection, and both memories are bounded: a client that opens
many channels has no more of them.

Confirms are numbered from 1 and sent in order: at the end of a chunk, or when the journal has committed what they
wait for, one ``basic.ack`` with ``multiple`` for each run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.broker.counters import AMQP091
from amqp_broker.broker.message import Address, Digest, digest_of, without_blind_copies
from amqp_broker.broker.observer import Passage
from amqp_broker.broker.publishing import REFUSED
from amqp_broker.broker.queues.base import Queue
from amqp_broker.compilation import mypyc_attr
from amqp_broker.errors import NO_METHOD, AmqpError, ReplyCode, access_refused, not_implemented, precondition_failed
from amqp_broker.protocols.amqp091.consuming import REPLY_TO, Consuming
from amqp_broker.protocols.amqp091.link import ChannelLink
from amqp_broker.protocols.amqp091.remembered import Remembered, Target
from amqp_broker.protocols.amqp091.transaction import Publication
from amqp_broker.session.confirms import Confirms
from amqp_broker.wire import hot
from amqp_broker.wire.content import BASIC_CLASS_ID, body_size, decode_properties, encode_content_header
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.frames import BODY, FRAME_KINDS, HEADER, HEARTBEAT, unexpected_frame, unknown_frame
from amqp_broker.wire.methods import undecodable

SMALL_PART_BYTES_MAX: Final = 4096  # a body frame below this is not kept as an object of its own
ROUTE_EFFORT = 10  # to find one, about; see ``Connection.has_cost``
BASIC_PUBLISH = (60, 40)
IMPERSONATOR = "impersonator"
PROPERTIES_OFFSET: Final = 12  # of a content header's payload: after class, weight and body size


class PartialBody:
    """A body that comes in several frames.

    Small ones are put together as they come: an object for each would need many times the bytes that it holds.
    """

    __slots__ = ("_parts", "_small_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._small_parts = bytearray()

    def add(self, payload: bytes) -> None:
        if len(payload) < SMALL_PART_BYTES_MAX:
            self._small_parts += payload
            return
        self._gather_small_parts()
        self._parts.append(payload)

    def joined(self) -> bytes:
        self._gather_small_parts()
        return b"".join(self._parts)

    def _gather_small_parts(self) -> None:
        if self._small_parts:
            self._parts.append(bytes(self._small_parts))
            self._small_parts.clear()


@mypyc_attr(allow_interpreted_subclasses=True)
class Publishing:
    """The publisher's side of a channel.

    Args:
        channel: whose.
        consuming: its consumer's side, which knows where direct replies go.
    """

    def __init__(self, channel: ChannelLink, consuming: Consuming) -> None:
        self._channel = channel
        self._consuming = consuming
        self.is_receiving = False
        self.confirms = False
        self._method = b""
        self._header = b""
        self._missing_bytes = 0
        self._partial_body: PartialBody | None = None
        self._remembered: Remembered = channel.connection.remembered
        self._throttle = channel.connection.throttle
        self._splitter = channel.connection.splitter
        self._number = 0
        broker = channel.connection.broker
        self._durability = broker.durability
        self._confirms = Confirms(broker, broker.durability.is_kept, self._confirm)
        self._virtual_host = channel.connection.virtual_host
        self._counts = channel.counted
        self._ingress = self._virtual_host.ingress
        self._reply_consumers = channel.connection.broker.reply_consumers
        self._message_sizes = channel.connection.broker.message_sizes
        self._observers = channel.connection.broker.observers
        self._interceptors = channel.connection.broker.interceptors
        self._is_judged = channel.connection.client.is_judged
        broker = channel.connection.broker
        self._size_bytes_max = broker.settings.message_size_bytes_max or broker.behaviour.message_size_bytes_max

    # --- content assembly

    @property
    def missing_bytes(self) -> int:
        """What the body that is being received lacks; 0 when none is."""
        return max(self._missing_bytes, 0) if self.is_receiving and self._header else 0

    def begin(self, payload: bytes) -> None:
        """A basic.publish: its content follows, or is taken at once when it is here."""
        throttle = self._throttle
        throttle.has_published = True
        if self._is_judged:
            self._ask_first(payload)
        # During an alarm the content waits: as in RabbitMQ, the publish that is blocked reaches no queue yet.
        content = None if throttle.is_alarmed else self._splitter.take_content(self._channel.number)
        if content is None:
            self._method = payload
            self._header = b""
            self.is_receiving = True
            return
        header, body = content
        if len(body) > self._size_bytes_max:
            raise self._too_large(len(body))
        self._publish(payload, header, body)

    def _ask_first(self, payload: bytes) -> None:
        """Find out whether the user may publish before the content is taken: it could not be taken again.

        Raises:
            NotDecidedYet: others are being asked.
        """
        self._remember_for_this_version()
        if payload not in self._remembered.targets:
            try:
                self._look_up(payload)
            except AmqpError:
                pass  # told when the content is here

    def receive(self, kind: int, payload: bytes) -> None:
        """The next frame of the content."""
        if not self._header:
            self._receive_header(kind, payload)
        elif kind != BODY:
            raise misplaced(kind, payload, "expected content body, got non content body frame instead", BASIC_PUBLISH)
        else:
            missing_bytes = self._missing_bytes - len(payload)
            self._channel.connection.missing_body_bytes = max(missing_bytes, 0)
            if missing_bytes == 0 and self._partial_body is None:
                self.is_receiving = False
                self._publish(self._method, self._header, payload)
                return
            if self._partial_body is None:
                self._partial_body = PartialBody()
            self._partial_body.add(payload)
            self._missing_bytes = missing_bytes
            if missing_bytes == 0:
                body, self._partial_body = self._partial_body.joined(), None
                self.is_receiving = False
                self._publish(self._method, self._header, body)
            elif missing_bytes < 0:
                # RabbitMQ goes on waiting for a body that can't end any more, until a frame of another kind comes.
                self._partial_body = PartialBody()

    def _receive_header(self, kind: int, payload: bytes) -> None:
        class_id, weight = int.from_bytes(payload[:2], "big"), payload[2:4]
        expected = f"expected content header for class {BASIC_CLASS_ID}"
        if kind != HEADER or weight != b"\0\0":
            raise misplaced(kind, payload, f"{expected}, got non content header frame instead", BASIC_PUBLISH)
        if class_id != BASIC_CLASS_ID:
            raise misplaced(kind, payload, f"{expected}, got one for class {class_id} instead", BASIC_PUBLISH)
        size_bytes = body_size(payload)
        self._header = payload
        self._missing_bytes = self._channel.connection.missing_body_bytes = size_bytes
        if size_bytes == 0:
            self.is_receiving = False
            self._publish(self._method, payload, b"")
        elif size_bytes > self._size_bytes_max:
            self.is_receiving = False
            self._channel.connection.missing_body_bytes = 0
            raise self._too_large(size_bytes)

    def _too_large(self, size_bytes: int) -> AmqpError:
        return precondition_failed(
            f"message size {size_bytes} is larger than configured max size {self._size_bytes_max}"
        )

    # --- checks and routing

    def _publish(self, method: bytes, header: bytes, body: bytes) -> None:
        channel = self._channel
        virtual_host = self._virtual_host
        remembered = self._remembered
        if remembered.version != virtual_host.lookup_version:
            self._remember_for_this_version()
        try:
            target = remembered.target
            if target is None or method != remembered.method:
                target = remembered.targets.get(method) or self._look_up(method)
                remembered.method, remembered.target = method, target
            if self._interceptors.present:
                header = virtual_host.intercepted(target.address, channel.connection.user_name, header, body)
            digest = remembered.digest
            if digest is not None and header == remembered.header:
                header = remembered.header
            else:
                digest = remembered.digests.get(header[PROPERTIES_OFFSET:])
                if digest is None:
                    header, digest = self._read(header)
                else:
                    remembered.header, remembered.digest = header, digest
        except NotDecidedYet:  # it was known when the content began to come
            raise access_refused("whether this may be published is not known any more; try again") from None
        except AmqpError as error:
            self._tell_refused(method, header, body, error)
            raise
        if channel.transaction is not None:
            channel.transaction.publish(self._put_off(target, method, header, body, digest))
            return
        address, queues = target.address, target.queues
        if digest.extra_routing_keys or not target.may_be_remembered:
            address = self._address_anew(target, method, header, body, digest)
            queues = self._ingress.route(target.exchange, address.routing_keys, header, body, digest)
        if digest.has_blind_copies:
            header = without_blind_copies(header)
        number = 0
        if self.confirms:
            number = self._number = self._number + 1
        exchange = target.exchange
        exchange.published_in += 1
        exchange.published_out += len(queues)
        self.route(queues, address, header, body, digest, target.mandatory, number)

    def _put_off(self, target: Target, method: bytes, header: bytes, body: bytes, digest: Digest) -> Publication:
        """A publish in a transaction; raises as ``_address_anew``."""
        address = target.address
        queues: tuple[Queue, ...] | None = target.queues
        if digest.extra_routing_keys or not target.may_be_remembered:
            address = self._address_anew(target, method, header, body, digest)
            queues = self._ingress.route_before_commit(target.exchange, address.routing_keys, header, body, digest)
        if digest.has_blind_copies:
            header = without_blind_copies(header)
        return Publication(queues, address, header, body, digest, target.mandatory, 0)

    def _remember_for_this_version(self) -> None:
        version = self._virtual_host.lookup_version
        if self._remembered.version != version:
            self._remembered.begin_version(version)

    def _look_up(self, payload: bytes) -> Target:
        """Decode a basic.publish and find where it leads.

        Raises:
            AmqpError: 403, 404, or 540 for ``immediate``.
        """
        connection = self._channel.connection
        try:
            exchange_name, routing_key, mandatory, immediate = hot.decode_publish(payload)
        except WireError:
            raise undecodable(payload) from None
        if immediate:
            raise not_implemented("immediate=true")
        exchange = self._ingress.exchange_for(connection.client, exchange_name, routing_key)
        route = self._ingress.route_of_all(exchange, routing_key)
        address = Address(exchange_name, routing_key, payload[6:-1])
        target = Target(exchange, address, mandatory, route.queues, route.may_be_remembered)
        connection.has_cost(ROUTE_EFFORT)
        self._remembered.put_target(payload, target, len(connection.broker.open_connections))
        return target

    def _read(self, header: bytes) -> tuple[bytes, Digest]:
        """Read the properties, and check what they claim.

        Raises:
            AmqpError: 406.
        """
        try:
            digest = digest_of(header)
        except WireError as error:
            raise AmqpError(ReplyCode.FRAME_ERROR, "cannot decode the content header's properties") from error
        except AmqpError:
            properties = decode_properties(header)
            self._check_claims(properties.reply_to, properties.user_id)  # who it is from matters first, as in RabbitMQ
            raise
        self._check_claims(digest.reply_to, digest.user_id)
        if digest.reply_to == REPLY_TO:
            reply_to = self._consuming.reply_to()
            properties = replace(decode_properties(header), reply_to=reply_to)
            header = encode_content_header(body_size(header), properties)
        if digest.reply_to != REPLY_TO:
            self._remembered.put_digest(header[PROPERTIES_OFFSET:], digest)
        return header, digest

    def _check_claims(self, reply_to: str | None, user_id: str | None) -> None:
        """Refuse a message that asks for replies which nobody waits for, or that names another user than it is from."""
        if reply_to == REPLY_TO:
            self._consuming.reply_to()
        user = self._channel.connection.client.user
        if user_id is not None and user_id != user.name and IMPERSONATOR not in user.tags:
            raise precondition_failed(f"user_id property set to '{user_id}' but authenticated user was '{user.name}'")

    def _address_anew(self, target: Target, method: bytes, header: bytes, body: bytes, digest: Digest) -> Address:
        """The address of a message whose route another one with its exchange and routing key need not have.

        Raises:
            AmqpError: 403 for what is in CC or BCC.
        """
        address = target.address
        if digest.extra_routing_keys:
            try:
                self._ingress.check_copies(self._channel.connection.client, target.exchange, digest)
            except AmqpError as error:
                self._tell_refused(method, header, body, error)
                raise
            address = Address(address.exchange, address.routing_key, address.encoded, digest.extra_routing_keys)
        self._channel.connection.has_cost(ROUTE_EFFORT)
        return address

    def route(
        self,
        queues: tuple[Queue, ...],
        address: Address,
        header: bytes,
        body: bytes,
        digest: Digest,
        mandatory: bool,
        number: int,
    ) -> bool:
        """Put a message into its queues, return it if it has none, confirm it; returns whether all queues took it.

        The arguments are the fields of a ``Publication``: to make one for each message would take a tenth of the time.
        """
        self._counts.published += 1
        if self._message_sizes.are_counted:
            self._message_sizes.note(AMQP091, len(body))
        if queues:
            if len(queues) > 1:
                self._channel.connection.has_cost(len(queues))
            outcome = self._ingress.put(queues, address, header, body, digest)
        else:
            outcome = self._durability.position_of_duplicates
            self._has_no_queue(address, header, body, mandatory)
        if self._reply_consumers and not address.exchange:
            self._reply_directly(address, header, body)
        if number:
            self._confirms.add(number, outcome)
        if self._observers.present:
            passage = Passage(self._virtual_host, address, header, body, queues, outcome != REFUSED)
            self._observers.published(self._channel, passage)
        return outcome != REFUSED

    def _has_no_queue(self, address: Address, header: bytes, body: bytes, mandatory: bool) -> None:
        """Return a message, or count it as dropped, unless it is a reply that a channel waits for."""
        if mandatory:
            self._counts.returned += 1
            self._return(address, header, body)
        elif address.exchange or address.routing_key not in self._reply_consumers:
            self._counts.dropped += 1
            self._virtual_host.drops.unroutable(self._virtual_host.name, address, self._channel.connection.user_name)

    def _tell_refused(self, method: bytes, header: bytes, body: bytes, error: AmqpError) -> None:
        """Tell those who look on of a publish that was refused; one that cannot even be read has no address."""
        if self._observers.present:
            try:
                exchange, routing_key, *_ = hot.decode_publish(method)
            except WireError:
                return
            address = Address(exchange, routing_key, b"")
            self._observers.published(
                self._channel, Passage(self._virtual_host, address, header, body, (), accepted=False, error=error)
            )

    def _return(self, address: Address, header: bytes, body: bytes) -> None:
        """basic.return; it comes before the publish's confirm."""
        connection, number = self._channel.connection, self._channel.number
        method = hot.encode_return(number, int(ReplyCode.NO_ROUTE), "NO_ROUTE", address.encoded)
        connection.output.send(method + hot.encode_content(number, header, body, connection.frame_size_bytes_max))

    def _reply_directly(self, address: Address, header: bytes, body: bytes) -> None:
        """Hand a reply to the channel that waits for it (RabbitMQ docs, "Direct Reply-to")."""
        for key in dict.fromkeys(address.routing_keys):
            if key in self._reply_consumers:
                self._reply_consumers[key](address, header, body)

    # --- confirms

    @property
    def unconfirmed_count(self) -> int:
        """How many publishes wait for their confirm."""
        return self._confirms.unconfirmed_count

    def _confirm(self, first: int, last: int, accepted: bool) -> None:
        """Send one basic.ack or basic.nack for publishes that follow each other."""
        encode = hot.encode_ack if accepted else hot.encode_nack
        if accepted:
            self._counts.confirmed += last - first + 1
        # ``multiple`` of a nack as RabbitMQ sends it; nothing below is unconfirmed any more.
        multiple = last > first or not accepted
        self._channel.connection.output.send(encode(self._channel.number, last, multiple))

    def finish(self) -> None:
        """Send the confirms of all that is as durable as it must be."""
        self._confirms.finish()

    def release(self) -> None:
        """The channel ends: nothing that has not been confirmed will be."""
        self._confirms.release()
        self.is_receiving = False
        self._channel.connection.missing_body_bytes = 0
        self._partial_body = None


def misplaced(kind: int, payload: bytes, explanation: str, blamed: tuple[int, int] = NO_METHOD) -> AmqpError:
    """The 505 of a frame that comes when another kind should.

    A heartbeat belongs on channel 0 at any time, and a frame of an unknown kind nowhere.
    """
    if kind not in FRAME_KINDS:
        return unknown_frame(kind, payload)
    if kind == HEARTBEAT:
        return unexpected_frame(kind, payload)
    return AmqpError(ReplyCode.UNEXPECTED_FRAME, explanation, blamed=blamed)
