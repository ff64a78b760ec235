"""One MQTT client's connection, without its socket: bytes in, bytes out (docs/architecture.md: what a pump owes it).

Before CONNECT nothing else is heard; after it packets are handled in their order. An end without DISCONNECT publishes
the client's will. The parts are ``handshake.py`` (CONNECT), ``publishing.py`` (in), ``subscribing.py`` and
``delivering.py`` (out); what outlives the connection is in ``broker/client_sessions.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from amqp_broker.access.client import Peer
from amqp_broker.broker.observer import Channel
from amqp_broker.broker.queues.consumers import Consumer, Deliveries
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.broker.works import Unfinished
from amqp_broker.errors import AmqpError
from amqp_broker.explanations import wrong_client
from amqp_broker.logs import log_event
from amqp_broker.protocols.mqtt.delivering import Delivering
from amqp_broker.protocols.mqtt.handshake import (
    CONNECT_BYTES_MAX,
    PACKET_BYTES_MAX,
    Admitted,
    admit,
    connack_properties,
    keep_alive_s,
    session_expiry_s,
)
from amqp_broker.protocols.mqtt.inspection import channel_info, connection_info
from amqp_broker.protocols.mqtt.link import Link
from amqp_broker.protocols.mqtt.packet_reading import PacketSplitter, decode
from amqp_broker.protocols.mqtt.packet_writing import PINGRESP, encode_connack, encode_disconnect
from amqp_broker.protocols.mqtt.packets import (
    MQTT_3_1_1,
    MQTT_5,
    Acknowledgement,
    Authenticate,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    PingRequest,
    Publish,
    Subscribe,
    Unsubscribe,
)
from amqp_broker.protocols.mqtt.properties import Property, number
from amqp_broker.protocols.mqtt.publishing import Publishing, last_will
from amqp_broker.protocols.mqtt.reasons import MqttError, Reason, protocol_error, return_code
from amqp_broker.protocols.mqtt.subscribing import Subscribing

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo

PACKET_OVERHEAD_BYTES: Final = 131_072  # beside the payload: topic and properties
RECEIVE_MAXIMUM: Final = 65_535  # of a client that names none
KEEP_ALIVE_FACTOR_MS: Final = 1_500  # for each second of the interval (MQTT 5.0, 3.1.2.10)
LOOKS_FOR_SILENCE: Final = 3

RawPacket = tuple[int, bytes]  # first byte, body


class Connection(Link):
    """The conversation with one client.

    Args:
        broker: what it talks to.
        peer: who is at the other end.
        on_output: called when there is something to send, the connection is finished, or reading may go on.
    """

    def __init__(self, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> None:
        super().__init__(broker, peer, on_output)
        self._splitter = PacketSplitter(CONNECT_BYTES_MAX)
        self._publishing: Publishing | None = None
        self._subscribing: Subscribing | None = None
        self._delivering: Delivering | None = None
        self._is_resuming = False  # CONNECT is not done with: its subscriptions have to wait for others
        self._begun: tuple[bytes, Packet] | None = None  # the body of what has to wait so, and what it says
        self._says_will = True  # in the end: all but an honest goodbye lets it be said

    # --- who it is; most of it is there once CONNECT was accepted

    @property
    def publishing(self) -> Publishing:
        """What it publishes."""
        assert self._publishing is not None
        return self._publishing

    @property
    def subscribing(self) -> Subscribing:
        """What it has subscribed to."""
        assert self._subscribing is not None
        return self._subscribing

    @property
    def delivering(self) -> Delivering:
        """What it gets."""
        assert self._delivering is not None
        return self._delivering

    @property
    def channel(self) -> Channel:
        return self.delivering

    def deliveries(self, *, at_most_once: bool) -> Deliveries:
        return self.delivering.at_most_once if at_most_once else self.delivering

    def hold_deliveries(self) -> None:
        self.delivering.hold()

    def go_on_delivering(self) -> None:
        self.delivering.go_on_when_finished()

    def not_local(self, topic: str) -> frozenset[str]:
        return self.subscribing.not_local(topic)

    def inspect(self) -> ConnectionInfo:
        """Describe it, for those who look in."""
        return connection_info(self)

    def inspect_channel(self) -> ChannelInfo:
        """Describe it as a channel."""
        return channel_info(self, self.publishing, self.subscribing, self.delivering)

    def unacknowledged(self) -> Iterator[tuple[str, list[Unacknowledged]]]:
        """The deliveries that wait for their settlement, of what stands for its channel."""
        if self._is_open:
            yield f"{self.peer.connection_name} (1)", list(self.delivering.unacknowledged.values())

    # --- bytes in

    def receive(self, data: bytes) -> None:
        """Handle all that the socket read, and what follows from it."""
        if not self.received_bytes and data[0] != PacketType.CONNECT << 4:
            text = wrong_client(data, "MQTT") or "the client speaks no MQTT"
            self.broker.handle(partial(self.fail, protocol_error(text)))
        self.received_bytes += len(data)
        if self._is_closed:
            return
        packets = self._splitter.split(data)
        self.broker.handle_items(self, packets)
        self.missing_body_bytes = self._splitter.missing_bytes
        self.throttle.chunk_was_handled()

    def handle_rest(self, items: Iterator[RawPacket]) -> None:
        try:
            self.handle_each(items)
        except MqttError as error:
            self.fail(error)

    def handle_item(self, item: RawPacket) -> None:
        first_byte, body = item
        if not self._is_open:
            if first_byte >> 4 != PacketType.CONNECT:
                raise protocol_error("something else before CONNECT")
            packet = decode(first_byte, body, 0)
            assert isinstance(packet, Connect)
            self._connect(packet)
            return
        if self._is_resuming:
            self._resume()
            return
        begun = self._begun
        if begun is not None and begun[0] is body:
            packet = begun[1]
        else:
            packet = decode(first_byte, body, self.level)
        if isinstance(packet, Publish):
            self.publishing.publish(packet)
        elif isinstance(packet, Acknowledgement):
            if packet.type is PacketType.PUBREL:
                self.publishing.release(packet.packet_id)
            else:
                self.delivering.acknowledged(packet)
        elif isinstance(packet, PingRequest):
            self.output.send(PINGRESP)
        elif isinstance(packet, Subscribe):
            self._begun = body, packet
            work = self.subscribing.subscribe(packet)
            self._begun = None
            if work is not None and not work.is_done:
                raise Unfinished(work)
        elif isinstance(packet, Unsubscribe):
            self._begun = body, packet
            self.subscribing.unsubscribe(packet)
            self._begun = None
        elif isinstance(packet, Disconnect):
            self._disconnect(packet)
        elif isinstance(packet, Authenticate):
            raise protocol_error("AUTH without an authentication method")
        else:
            raise protocol_error("a second CONNECT")

    # --- CONNECT

    def _connect(self, packet: Connect) -> None:
        self.level = packet.level
        self.client_id = packet.client_id
        self.is_bridge = packet.is_bridge
        is_loopback, has_certificate = self.peer.is_loopback, self.peer.certificate_name is not None
        mechanism = "EXTERNAL" if has_certificate and packet.user_name is None else "PLAIN"
        try:
            admitted = admit(self.broker, self.login, packet, has_certificate=has_certificate, is_loopback=is_loopback)
        except MqttError as error:
            if self.login.claimed_name:
                self.login.tell(mechanism, "MQTT", str(error))
            raise
        self.login.tell(mechanism, "MQTT")
        self._open(packet, admitted)

    def _open(self, packet: Connect, admitted: Admitted) -> None:
        broker, settings = self.broker, self.broker.settings
        self._deadline.cancel()
        self._client, self._virtual_host = admitted.client, admitted.virtual_host
        self.watch_expiry()
        self.client_id = admitted.client_id
        sessions = self.virtual_host.client_sessions
        will = last_will(admitted.client, packet.will) if packet.will is not None else None
        session, is_present = sessions.take(self.client_id, self, is_clean=packet.clean_start)
        expiry_s = session_expiry_s(packet, settings.mqtt_session_expiry_max_s)
        is_as_kept = is_present and expiry_s == session.expiry_s and session.will is will is None
        session.expiry_s = expiry_s
        self._session, session.will = session, will
        self.has_resumed = is_present
        self.client_packet_bytes_max = number(packet.properties, Property.MAXIMUM_PACKET_SIZE, 0)
        self.client_topic_aliases_max = number(packet.properties, Property.TOPIC_ALIAS_MAXIMUM, 0)
        receive_maximum = number(packet.properties, Property.RECEIVE_MAXIMUM, RECEIVE_MAXIMUM)
        self.receive_maximum = min(receive_maximum, settings.mqtt_unacknowledged_max)
        self._publishing = Publishing(self)
        self._subscribing = Subscribing(self, self._publishing)
        self._delivering = Delivering(self, self._publishing, self._subscribing)
        self.let_in()
        self.keep_alive_s = keep_alive_s(packet, settings.mqtt_keep_alive_max_s)
        if self.keep_alive_s:
            self.heartbeats.expect(self.keep_alive_s * KEEP_ALIVE_FACTOR_MS, LOOKS_FOR_SILENCE, self._was_silent)
        size_bytes_max = settings.message_size_bytes_max or broker.behaviour.message_size_bytes_max
        self._splitter.packet_bytes_max = min(size_bytes_max + PACKET_OVERHEAD_BYTES, PACKET_BYTES_MAX)
        if not is_as_kept:  # of thousands that come back at once, none waits for the journal
            sessions.keep(session)
        self.output.hold_until(broker.durability.last_change)
        properties = connack_properties(
            settings,
            packet,
            admitted,
            expiry_s=session.expiry_s,
            interval_s=self.keep_alive_s,
            packet_bytes_max=self._splitter.packet_bytes_max,
        )
        has_flag = is_present and packet.level >= MQTT_3_1_1  # MQTT 3.1 has no such flag
        answer = encode_connack(self.level, has_flag, Reason.SUCCESS, properties)
        if 0 < self.client_packet_bytes_max < len(answer):  # nothing can be said to this client
            raise MqttError(
                Reason.PACKET_TOO_LARGE, f"the client takes no more than {self.client_packet_bytes_max} bytes"
            )
        self.output.send(answer)
        if is_present:
            sessions.forget_gone(session, self.subscribing.came_back())
            self.delivering.release_again()
            self._resume()

    def _resume(self) -> None:
        """Have the client's subscriptions go on; called again where that had to wait for others.

        Raises:
            MqttError: the client may not have them any more.
        """
        self._is_resuming = True
        try:
            self.subscribing.resume()
        except AmqpError as error:
            raise MqttError(Reason.NOT_AUTHORIZED, str(error)) from error
        self._is_resuming = False
        self.delivering.update_room()

    def handshake_took_too_long(self) -> None:
        self.finish()

    def _was_silent(self) -> None:
        silence_ms = self.keep_alive_s * KEEP_ALIVE_FACTOR_MS
        self.fail(MqttError(Reason.KEEP_ALIVE_TIMEOUT, f"nothing was heard for {silence_ms} ms"))

    # --- bytes out

    def update_room(self) -> None:
        """Whether the client may get more has changed."""
        if self._delivering is not None:
            self._delivering.congestion_changed()

    # --- the end

    def _disconnect(self, packet: Disconnect) -> None:
        """The client has sent DISCONNECT (MQTT 5.0, 3.14)."""
        session = self.session
        expiry = packet.properties.get(Property.SESSION_EXPIRY_INTERVAL)
        if isinstance(expiry, int):
            if expiry and not session.expiry_s:
                raise protocol_error("a session that ends with its connection was to last after all")
            session.expiry_s = min(expiry, self.broker.settings.mqtt_session_expiry_max_s)
            self.virtual_host.client_sessions.keep(session)
        self.close_reason = "closed by client"
        self._says_will = packet.reason != Reason.SUCCESS
        self.finish()

    def fail(self, error: MqttError) -> None:
        """End the connection because of what its client has done, or of what has become of it."""
        if self._is_closed:
            return
        self.close_reason = str(error)
        self.has_failed = not self._is_open
        is_refused = self.level > 0 or error.reason == Reason.UNSUPPORTED_PROTOCOL_VERSION
        if self._is_open:
            self._log(error)
            self.publishing.answer_what_is_kept()  # nothing may follow DISCONNECT (MQTT 5.0, 3.14.4)
            said = encode_disconnect(error.reason) if self.level == MQTT_5 else b""
            if said and not 0 < self.client_packet_bytes_max < len(said):
                self.output.send(said)
        elif is_refused:
            code = error.reason if self.level == MQTT_5 else return_code(error.reason)
            self.output.send(encode_connack(self.level, False, code))
        self.finish()

    def _log(self, error: MqttError) -> None:
        log_event(
            logging.ERROR,
            "connection error",
            peer=str(self.peer),
            user=self.user_name,
            vhost=self.virtual_host_name,
            client_id=self.client_id,
            code=f"{int(error.reason):#04x}",
            reason=str(error),
        )

    def session_taken_over(self) -> None:
        """The client has connected anew: this connection is not its any more (MQTT 5.0, 3.1.4)."""
        self.fail(MqttError(Reason.SESSION_TAKEN_OVER, "the client has connected anew"))

    def session_holds(self) -> None:
        """Something was on its way to this client before the broker was started, and is known again."""
        self.delivering.update_room()

    def queue_has_gone(self, consumer: Consumer) -> None:
        """Somebody has deleted one of the client's queues."""
        if self._subscribing is not None:
            self._subscribing.consumer_has_gone(consumer)
        self.fail(MqttError(Reason.ADMINISTRATIVE_ACTION, f"{consumer.queue} was deleted"))

    def fail_forced(self, reason: str, *, is_shutdown: bool) -> None:
        """Tell the client that it has to go, and end the connection."""
        self.fail(MqttError(Reason.SERVER_SHUTTING_DOWN if is_shutdown else Reason.ADMINISTRATIVE_ACTION, reason))

    def words_for_a_defect(self) -> bytes:
        """DISCONNECT 0x80 for MQTT 5; asks nothing of what may have failed."""
        return encode_disconnect(Reason.UNSPECIFIED_ERROR) if self.level == MQTT_5 and self._is_open else b""

    def detach(self) -> None:
        """Let go of the parts, which hold on to it: it is lost, and nobody will ask for anything more."""
        super().detach()
        self._begun = None
        self._publishing = None
        self._subscribing = None
        self._delivering = None

    def release(self) -> None:
        """Let go of what its parts hold in the broker."""
        self.publishing.stop()
        self.subscribing.stop()
        self.broker.works.begin(self.delivering.stop())

    def give_back(self) -> None:
        """Give back what the client had; its will is published, at once or later (MQTT 5.0, 3.1.2.5)."""
        super().give_back()
        self.virtual_host.client_sessions.leave(self.session, says_will=self._says_will)
