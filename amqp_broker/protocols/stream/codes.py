"""The numbers of the stream protocol: commands, and what is answered (RabbitMQ, "Stream Protocol Reference")."""

from __future__ import annotations

from typing import Final

PROTOCOL: Final = "stream"  # as counters call it

# Commands. An answer has the command's number with the highest bit set.
DECLARE_PUBLISHER: Final = 1
PUBLISH: Final = 2
PUBLISH_CONFIRM: Final = 3
PUBLISH_ERROR: Final = 4
QUERY_PUBLISHER_SEQUENCE: Final = 5
DELETE_PUBLISHER: Final = 6
SUBSCRIBE: Final = 7
DELIVER: Final = 8
CREDIT: Final = 9
STORE_OFFSET: Final = 10
QUERY_OFFSET: Final = 11
UNSUBSCRIBE: Final = 12
CREATE: Final = 13
DELETE: Final = 14
METADATA: Final = 15
METADATA_UPDATE: Final = 16
PEER_PROPERTIES: Final = 17
SASL_HANDSHAKE: Final = 18
SASL_AUTHENTICATE: Final = 19
TUNE: Final = 20
OPEN: Final = 21
CLOSE: Final = 22
HEARTBEAT: Final = 23
ROUTE: Final = 24
PARTITIONS: Final = 25
CONSUMER_UPDATE: Final = 26
EXCHANGE_COMMAND_VERSIONS: Final = 27
STREAM_STATS: Final = 28
CREATE_SUPER_STREAM: Final = 29
DELETE_SUPER_STREAM: Final = 30
ANSWER: Final = 0x8000

# What a client may ask for, and up to which version.
VERSIONS_MAX: Final = {
    DECLARE_PUBLISHER: 1,
    PUBLISH: 2,
    QUERY_PUBLISHER_SEQUENCE: 1,
    DELETE_PUBLISHER: 1,
    SUBSCRIBE: 1,
    CREDIT: 1,
    STORE_OFFSET: 1,
    QUERY_OFFSET: 1,
    UNSUBSCRIBE: 1,
    CREATE: 1,
    DELETE: 1,
    METADATA: 1,
    CLOSE: 1,
    HEARTBEAT: 1,
    ROUTE: 1,
    PARTITIONS: 1,
    STREAM_STATS: 1,
    CREATE_SUPER_STREAM: 1,
    DELETE_SUPER_STREAM: 1,
}

# What is answered.
OK: Final = 1
STREAM_DOES_NOT_EXIST: Final = 2
SUBSCRIPTION_ID_ALREADY_EXISTS: Final = 3
SUBSCRIPTION_ID_DOES_NOT_EXIST: Final = 4
STREAM_ALREADY_EXISTS: Final = 5
STREAM_NOT_AVAILABLE: Final = 6
SASL_MECHANISM_NOT_SUPPORTED: Final = 7
AUTHENTICATION_FAILURE: Final = 8
SASL_ERROR: Final = 9
SASL_CHALLENGE: Final = 10
SASL_AUTHENTICATION_FAILURE_LOOPBACK: Final = 11
VIRTUAL_HOST_ACCESS_FAILURE: Final = 12
UNKNOWN_FRAME: Final = 13
FRAME_TOO_LARGE: Final = 14
INTERNAL_ERROR: Final = 15
ACCESS_REFUSED: Final = 16
PRECONDITION_FAILED: Final = 17
PUBLISHER_DOES_NOT_EXIST: Final = 18
NO_OFFSET: Final = 19
SASL_CANNOT_CHANGE_MECHANISM: Final = 20
SASL_CANNOT_CHANGE_USER_NAME: Final = 21

# What is counted of them, by RabbitMQ's names.
COUNTED: Final = {
    STREAM_DOES_NOT_EXIST: "stream_does_not_exist",
    SUBSCRIPTION_ID_ALREADY_EXISTS: "subscription_id_already_exists",
    SUBSCRIPTION_ID_DOES_NOT_EXIST: "subscription_id_does_not_exist",
    STREAM_ALREADY_EXISTS: "stream_already_exists",
    STREAM_NOT_AVAILABLE: "stream_not_available",
    SASL_MECHANISM_NOT_SUPPORTED: "sasl_mechanism_not_supported",
    AUTHENTICATION_FAILURE: "authentication_failure",
    SASL_ERROR: "sasl_error",
    SASL_CHALLENGE: "sasl_challenge",
    SASL_AUTHENTICATION_FAILURE_LOOPBACK: "sasl_authentication_failure_loopback",
    VIRTUAL_HOST_ACCESS_FAILURE: "vhost_access_failure",
    UNKNOWN_FRAME: "unknown_frame",
    FRAME_TOO_LARGE: "frame_too_large",
    INTERNAL_ERROR: "internal_error",
    ACCESS_REFUSED: "access_refused",
    PRECONDITION_FAILED: "precondition_failed",
    PUBLISHER_DOES_NOT_EXIST: "publisher_does_not_exist",
}

# Where a subscription begins.
OFFSET_NONE: Final = 0
OFFSET_FIRST: Final = 1
OFFSET_LAST: Final = 2
OFFSET_NEXT: Final = 3
OFFSET_NUMBER: Final = 4
OFFSET_TIMESTAMP: Final = 5
