"""CONNECT: who the client is, which session it has, and what CONNACK says (MQTT 5.0, 3.1 and 3.2).

Who may log in is found out by ``session/login.py``; a user name may say the virtual host as well, ``vhost:user``, split
at the last colon, as with RabbitMQ. Holds nothing that lasts.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final, NamedTuple

from amqp_broker.access.client import Client
from amqp_broker.access.mechanisms import EXTERNAL
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.mqtt.packets import MQTT_3_1, MQTT_5, Connect
from amqp_broker.protocols.mqtt.properties import Properties, Property, number
from amqp_broker.protocols.mqtt.publishing import check_topic
from amqp_broker.protocols.mqtt.reasons import MqttError, Reason
from amqp_broker.protocols.mqtt.subscribing import HIGH, NAME_BYTES_MAX, QUEUE_PREFIX
from amqp_broker.protocols.mqtt.topics import has_line_break, is_reserved
from amqp_broker.session.login import NOBODY, Login, Refusal, Refused

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.settings import Settings

CONNECT_BYTES_MAX: Final = 65_536  # of any packet before the login
PACKET_BYTES_MAX: Final = 268_435_455
MADE_UP_PREFIX: Final = "auto-"  # of the identifier of a client that has none, so that lists show which are made up

_REASONS: Final = {
    Refusal.LOGIN: Reason.BAD_USER_NAME_OR_PASSWORD,
    Refusal.UNKNOWN_VIRTUAL_HOST: Reason.BAD_USER_NAME_OR_PASSWORD,
    Refusal.TOO_MANY_CONNECTIONS: Reason.QUOTA_EXCEEDED,
}


class Admitted(NamedTuple):
    """A client that may come in."""

    client: Client
    virtual_host: VirtualHost
    client_id: str
    is_id_ours: bool  # it has none of its own


def admit(broker: Broker, login: Login, packet: Connect, *, has_certificate: bool, is_loopback: bool) -> Admitted:
    """Find out who a client is, and whether it may come in.

    Raises:
        MqttError: it may not; the reason is for CONNACK.
        NotVerifiedYet: to be asked again when the password is verified.
    """
    if Property.AUTHENTICATION_METHOD in packet.properties:
        raise MqttError(Reason.BAD_AUTHENTICATION_METHOD, "enhanced authentication is not supported")
    if Property.AUTHENTICATION_DATA in packet.properties:
        raise MqttError(Reason.PROTOCOL_ERROR, "authentication data without a method")
    client_id, is_id_ours = _client_id(packet)
    if packet.will is not None:
        check_topic(packet.will.topic)
        if is_reserved(packet.will.topic):
            raise MqttError(Reason.NOT_AUTHORIZED, f"a will for '{packet.will.topic}', which is the broker's own")
    virtual_host_name = broker.settings.default_virtual_host
    try:
        if packet.user_name is None and has_certificate:
            login.authenticate(EXTERNAL, b"")
        else:
            virtual_host_name, user, password = _credentials(broker, packet)
            login.claimed_name = user
            if user in broker.settings.loopback_users and not is_loopback:
                raise MqttError(Reason.NOT_AUTHORIZED, f"user '{user}' can only connect via localhost")
            login.authenticate_by_password(user, password)
        client, virtual_host = login.enter(virtual_host_name, client_id)
    except Refused as refused:
        reason = _REASONS.get(refused.reason, Reason.BAD_USER_NAME_OR_PASSWORD)
        raise MqttError(reason, str(refused)) from refused
    except AmqpError as error:
        raise MqttError(Reason.NOT_AUTHORIZED, str(error)) from error
    return Admitted(client, virtual_host, client_id, is_id_ours)


def _client_id(packet: Connect) -> tuple[str, bool]:
    """The client's identifier, and whether it is one that was made up for it."""
    client_id = packet.client_id
    if client_id:
        if len(f"{QUEUE_PREFIX}{client_id}{HIGH}".encode()) > NAME_BYTES_MAX:
            raise MqttError(Reason.CLIENT_IDENTIFIER_NOT_VALID, "the client identifier is longer than 233 bytes")
        if has_line_break(client_id):
            raise MqttError(Reason.CLIENT_IDENTIFIER_NOT_VALID, "the client identifier has a line break")
        return client_id, False
    if packet.level == MQTT_3_1:
        raise MqttError(Reason.CLIENT_IDENTIFIER_NOT_VALID, "MQTT 3.1 has no client without an identifier")
    if packet.level != MQTT_5 and not packet.clean_start:
        raise MqttError(Reason.CLIENT_IDENTIFIER_NOT_VALID, "a session that is to last needs a client identifier")
    return f"{MADE_UP_PREFIX}{uuid.uuid4()}", True


def _credentials(broker: Broker, packet: Connect) -> tuple[str, str, bytes]:
    """Virtual host, user name and password that CONNECT names, or stands for without any."""
    settings = broker.settings
    if not packet.user_name and not packet.password:  # an empty name is no name: some clients always send one
        if settings.mqtt_allow_anonymous == "off":
            raise MqttError(Reason.BAD_USER_NAME_OR_PASSWORD, "no user name, and mqtt_allow_anonymous is off")
        if settings.anonymous_login_user == NOBODY:
            raise MqttError(Reason.BAD_USER_NAME_OR_PASSWORD, "no user name, and anonymous_login_user is none")
        password = settings.anonymous_login_password.encode("utf-8", "surrogateescape")
        return settings.default_virtual_host, settings.anonymous_login_user, password
    if packet.user_name is None or packet.password is None:
        raise MqttError(Reason.BAD_USER_NAME_OR_PASSWORD, "a user name without a password, or the reverse")
    virtual_host, colon, user = packet.user_name.rpartition(":")
    return virtual_host if colon else settings.default_virtual_host, user, packet.password


def session_expiry_s(packet: Connect, longest_s: int) -> int:
    """How long the session outlives its connection, in seconds; MQTT 3 has no other than never and as long as may be.

    Args:
        longest_s: that is granted.
    """
    if packet.level != MQTT_5:
        return 0 if packet.clean_start else longest_s
    return min(number(packet.properties, Property.SESSION_EXPIRY_INTERVAL, 0), longest_s)


def keep_alive_s(packet: Connect, longest_s: int) -> int:
    """How often the client says something, in seconds; 0 for whenever it likes. MQTT 3 has no way to tell it another.

    Args:
        longest_s: that is granted to MQTT 5 clients; 0 for any.
    """
    asked_s = packet.keep_alive_s
    if packet.level != MQTT_5 or not longest_s or 0 < asked_s <= longest_s:
        return asked_s
    return longest_s


def connack_properties(
    settings: Settings, packet: Connect, admitted: Admitted, *, expiry_s: int, interval_s: int, packet_bytes_max: int
) -> Properties:
    """What an MQTT 5 client is told of what it gets."""
    properties: Properties = {Property.TOPIC_ALIAS_MAXIMUM: settings.mqtt_topic_aliases_max}
    if packet_bytes_max < PACKET_BYTES_MAX:
        properties[Property.MAXIMUM_PACKET_SIZE] = packet_bytes_max
    if admitted.is_id_ours:
        properties[Property.ASSIGNED_CLIENT_IDENTIFIER] = admitted.client_id
    if number(packet.properties, Property.SESSION_EXPIRY_INTERVAL, 0) != expiry_s:
        properties[Property.SESSION_EXPIRY_INTERVAL] = expiry_s
    if interval_s != packet.keep_alive_s:
        properties[Property.SERVER_KEEP_ALIVE] = interval_s
    properties[Property.RECEIVE_MAXIMUM] = settings.mqtt_unanswered_max
    return properties
