"""Outcomes as an MQTT peer is told of them: MQTT 5's reason codes, MQTT 3's return codes, the errors that carry them.

Holds no decision when which of them is due.
"""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Reason codes (MQTT 5.0, 2.4)."""

    SUCCESS = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    CONTINUE_AUTHENTICATION = 0x18
    REAUTHENTICATE = 0x19
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_IN_USE = 0x91
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2


class ReturnCode(IntEnum):
    """CONNACK's return codes in MQTT 3 (MQTT 3.1.1, 3.2.2.3)."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL_VERSION = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_USER_NAME_OR_PASSWORD = 4
    NOT_AUTHORIZED = 5


_RETURN_CODES = {
    Reason.SUCCESS: ReturnCode.ACCEPTED,
    Reason.UNSUPPORTED_PROTOCOL_VERSION: ReturnCode.UNACCEPTABLE_PROTOCOL_VERSION,
    Reason.CLIENT_IDENTIFIER_NOT_VALID: ReturnCode.IDENTIFIER_REJECTED,
    Reason.SERVER_UNAVAILABLE: ReturnCode.SERVER_UNAVAILABLE,
    Reason.SERVER_BUSY: ReturnCode.SERVER_UNAVAILABLE,
    Reason.BAD_USER_NAME_OR_PASSWORD: ReturnCode.BAD_USER_NAME_OR_PASSWORD,
}


def return_code(reason: int) -> int:
    """MQTT 3's word for why a CONNECT was refused.

    Args:
        reason: MQTT 5's reason code.

    Returns:
        The return code; 5, not authorized, for what MQTT 3 has no word of its own for.
    """
    for known, code in _RETURN_CODES.items():
        if known == reason:
            return int(code)
    return int(ReturnCode.NOT_AUTHORIZED)


class MqttError(Exception):
    """An error in what a peer sent, which cannot be accepted: its connection ends.

    Args:
        reason: what an MQTT 5 peer is told.
        explanation: in words, for the log.
    """

    def __init__(self, reason: Reason, explanation: str) -> None:
        super().__init__(explanation)
        self.reason = reason


class NotAccepted(MqttError):
    """A message that can be read and is not accepted: where its answer can say so, the connection goes on."""


def malformed(explanation: str) -> MqttError:
    """Bytes that cannot be read (MQTT 5.0, 1.2: Malformed Packet)."""
    return MqttError(Reason.MALFORMED_PACKET, explanation)


def protocol_error(explanation: str) -> MqttError:
    """What can be read, but is not allowed here (MQTT 5.0, 1.2: Protocol Error)."""
    return MqttError(Reason.PROTOCOL_ERROR, explanation)
