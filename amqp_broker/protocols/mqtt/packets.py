"""MQTT's control packets as values, for the versions 3.1 (level 3), 3.1.1 (level 4) and 5.0 (level 5).

``packet_reading.py`` says how their bytes are read, ``packet_writing.py`` how they are written. Holds no state of a
conversation: whether a packet may come now is not asked here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from amqp_broker.protocols.mqtt.properties import (
    Properties,
)
from amqp_broker.protocols.mqtt.reasons import Reason

MQTT_3_1: Final = 3
MQTT_3_1_1: Final = 4
MQTT_5: Final = 5
BRIDGE: Final = 0x80  # in the byte of an MQTT 3 level: the client is another broker; mosquitto's convention
PROTOCOL_NAMES: Final = {MQTT_3_1: "MQIsdp", MQTT_3_1_1: "MQTT", MQTT_5: "MQTT"}
AT_MOST_ONCE: Final = 0
AT_LEAST_ONCE: Final = 1
EXACTLY_ONCE: Final = 2


class PacketType(IntEnum):
    """The upper half of a packet's first byte (MQTT 5.0, 2.1.2)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


# The lower half of the first byte, where the standard prescribes it (MQTT 5.0, 2.1.3).
_WITH_FLAG: Final = (PacketType.PUBREL, PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE)
FLAGS: Final = tuple(2 if kind in _WITH_FLAG else 0 for kind in range(16))


@dataclass(slots=True)
class Will:
    """The message that is published when the client goes without DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = AT_MOST_ONCE
    retain: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Connect:
    """CONNECT (MQTT 5.0, 3.1)."""

    level: int
    client_id: str
    clean_start: bool = True
    keep_alive_s: int = 0
    user_name: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = field(default_factory=dict)
    is_bridge: bool = False


@dataclass(slots=True)
class Publish:
    """PUBLISH (MQTT 5.0, 3.3). The topic is empty where MQTT 5 names it by an alias."""

    topic: str
    payload: bytes
    qos: int = AT_MOST_ONCE
    retain: bool = False
    duplicate: bool = False
    packet_id: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Acknowledgement:
    """PUBACK, PUBREC, PUBREL or PUBCOMP, told by its type."""

    type: PacketType
    packet_id: int
    reason: int = Reason.SUCCESS
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Subscription:
    """One topic filter of a SUBSCRIBE, and what is asked for it."""

    topic_filter: str
    qos: int = AT_MOST_ONCE
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(slots=True)
class Subscribe:
    """SUBSCRIBE (MQTT 5.0, 3.8)."""

    packet_id: int
    subscriptions: list[Subscription]
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Unsubscribe:
    """UNSUBSCRIBE (MQTT 5.0, 3.10)."""

    packet_id: int
    topic_filters: list[str]
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class PingRequest:
    """PINGREQ."""


@dataclass(slots=True)
class Disconnect:
    """DISCONNECT (MQTT 5.0, 3.14)."""

    reason: int = Reason.SUCCESS
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Authenticate:
    """AUTH (MQTT 5.0, 3.15)."""

    reason: int = Reason.SUCCESS
    properties: Properties = field(default_factory=dict)


Packet = (
    Connect | Publish | Acknowledgement | Subscribe | Unsubscribe | PingRequest | Disconnect | Authenticate
)  # that a client may send
