"""The records of what is defined: virtual hosts, users, exchanges, queues, bindings. Each is a field table.

Theory of operation. For each kind a function makes the fields of its record, and one beside it has them written when
such a thing is new or has changed. A new kind gets a number in ``kinds.py``, these two functions, and in
``restoring.py`` one that puts what a record says back into a broker. Exchanges, queues and bindings that are imported
together share records, of so many of them that writing all of a large file is done at once.

Messages have another form (``message_records.py``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from amqp_broker.access.users import User
from amqp_broker.broker.client_session import ClientSession
from amqp_broker.broker.parameters import Parameter, Parameters
from amqp_broker.broker.persistence.durability import Durability
from amqp_broker.broker.persistence.kinds import NOT_KEPT, RecordKind
from amqp_broker.broker.retained_message import RetainedMessage
from amqp_broker.broker.virtual_host_properties import Metadata, VirtualHostLimits
from amqp_broker.wire.strings import encode_longstr
from amqp_broker.wire.table import RECORD_DEPTH, Table, decode_table, encode_table

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.binding import Binding
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.base import Queue

_SIZE: Final = struct.Struct(">I")
_INTEGER: Final = struct.Struct(">q")


class KeptVirtualHost(Protocol):
    """The parts of a virtual host that have records of their own, and the references of these."""

    reference: int
    limits: VirtualHostLimits
    limits_reference: int
    metadata: Metadata
    metadata_reference: int
    parameters: Parameters

    @property
    def name(self) -> str:
        """Its name."""
        ...


# --- virtual hosts


def virtual_host_fields(virtual_host: KeptVirtualHost) -> Table:
    """The fields of VIRTUAL_HOST."""
    return {"name": virtual_host.name}


def keep_virtual_host(durability: Durability, virtual_host: KeptVirtualHost) -> None:
    """A virtual host was created."""
    virtual_host.reference = durability.keep(RecordKind.VIRTUAL_HOST, virtual_host_fields(virtual_host))


def forget_virtual_host(durability: Durability, virtual_host: KeptVirtualHost) -> None:
    """A virtual host is gone, with its parameters; what else was in it was forgotten before."""
    for parameter in virtual_host.parameters.values():
        durability.forget(parameter)
    durability.drop(virtual_host.limits_reference)
    durability.drop(virtual_host.metadata_reference)
    virtual_host.limits_reference = virtual_host.metadata_reference = NOT_KEPT
    durability.forget(virtual_host)


def limits_fields(virtual_host: KeptVirtualHost) -> Table:
    """The fields of LIMITS."""
    limits = virtual_host.limits
    return {
        "virtual_host": virtual_host.name,
        "connections_max": limits.connections_max,
        "queues_max": limits.queues_max,
    }


def keep_limits(durability: Durability, virtual_host: KeptVirtualHost) -> None:
    """The limits of a virtual host were changed."""
    before = virtual_host.limits_reference
    virtual_host.limits_reference = durability.keep(RecordKind.LIMITS, limits_fields(virtual_host))
    durability.drop(before)


def metadata_fields(virtual_host: KeptVirtualHost) -> Table:
    """The fields of METADATA."""
    metadata = virtual_host.metadata
    return {
        "virtual_host": virtual_host.name,
        "description": metadata.description,
        "tags": list(metadata.tags),
        "default_queue_type": metadata.default_queue_type,
        "is_protected": metadata.is_protected,
    }


def keep_metadata(durability: Durability, virtual_host: KeptVirtualHost) -> None:
    """What is said of a virtual host was changed."""
    before = virtual_host.metadata_reference
    virtual_host.metadata_reference = durability.keep(RecordKind.METADATA, metadata_fields(virtual_host))
    durability.drop(before)


# --- parameters, and policies among them


def parameter_fields(parameter: Parameter) -> Table:
    """The fields of PARAMETER."""
    return {
        "virtual_host": parameter.virtual_host,
        "component": parameter.component,
        "name": parameter.name,
        "value": parameter.text(),
    }


def keep_parameter(durability: Durability, parameter: Parameter) -> None:
    """A parameter was set, or has another value."""
    before = parameter.reference
    parameter.reference = durability.keep(RecordKind.PARAMETER, parameter_fields(parameter))
    durability.drop(before)


# --- users


def user_fields(user: User) -> Table:
    """The fields of USER."""
    permissions: Table = {
        name: [permission.configure.source, permission.write.source, permission.read.source]
        for name, permission in user.permissions.items()
    }
    topic_permissions: Table = {
        name: {exchange: [permission.write, permission.read] for exchange, permission in by_exchange.items()}
        for name, by_exchange in user.topic_permissions.items()
    }
    return {
        "name": user.name,
        "password_hash": user.password_hash.value,
        "hashing_algorithm": user.password_hash.algorithm,
        "tags": list(user.tags),
        "permissions": permissions,
        "topic_permissions": topic_permissions,
        "connections_max": user.limits.connections_max,
        "channels_max": user.limits.channels_max,
    }


def keep_user(durability: Durability, user: User) -> None:
    """A user was created or changed."""
    before = user.reference
    user.reference = durability.keep(RecordKind.USER, user_fields(user))
    durability.drop(before)


# --- exchanges, queues, bindings


def exchange_fields(
    virtual_host: str, name: str, type_name: str, auto_delete: bool, internal: bool, arguments: Table
) -> Table:
    """The fields of EXCHANGE."""
    return {
        "virtual_host": virtual_host,
        "name": name,
        "type": type_name,
        "auto_delete": auto_delete,
        "internal": internal,
        "arguments": arguments,
    }


def keep_exchange(durability: Durability, virtual_host: str, exchange: Exchange) -> None:
    """An exchange was declared."""
    if exchange.durable:
        fields = exchange_fields(
            virtual_host, exchange.name, exchange.type_name, exchange.auto_delete, exchange.internal, exchange.table
        )
        exchange.reference = durability.keep(RecordKind.EXCHANGE, fields)


def queue_fields(virtual_host: str, name: str, auto_delete: bool, arguments: Table) -> Table:
    """The fields of QUEUE."""
    return {"virtual_host": virtual_host, "name": name, "auto_delete": auto_delete, "arguments": arguments}


def keep_queue(durability: Durability, queue: Queue) -> None:
    """A queue was declared."""
    if queue.durable:
        fields = queue_fields(queue.virtual_host.name, queue.name, queue.auto_delete, queue.table)
        queue.reference = durability.keep(RecordKind.QUEUE, fields)


def binding_fields(
    virtual_host: str, source: str, is_to_queue: bool, destination: str, routing_key: str, arguments: Table
) -> Table:
    """The fields of BINDING."""
    return {
        "virtual_host": virtual_host,
        "source": source,
        "to_queue": is_to_queue,
        "destination": destination,
        "routing_key": routing_key,
        "arguments": arguments,
    }


def keep_binding(durability: Durability, virtual_host: str, binding: Binding) -> None:
    """A binding was made."""
    if binding.is_durable:
        source, destination = binding.source.name, binding.destination.name
        fields = binding_fields(
            virtual_host, source, binding.is_to_queue, destination, binding.routing_key, binding.arguments
        )
        binding.reference = durability.keep(RecordKind.BINDING, fields)


def encode_together(kind: RecordKind, fields: Table) -> bytes:
    """One of the definitions in a DEFINITIONS record, which is some of these, one after the other."""
    return bytes((kind,)) + encode_table(fields, RECORD_DEPTH)


def decode_together(payload: bytes) -> Iterator[tuple[int, Table]]:
    """Read a DEFINITIONS record: kind and fields of each, in the order of the claims."""
    offset = 0
    while offset < len(payload):
        kind = payload[offset]
        fields, offset = decode_table(payload, offset + 1, RECORD_DEPTH)
        yield kind, fields


# --- retained messages and clients' sessions


def encode_retained(virtual_host: str, message: RetainedMessage) -> bytes:
    """The payload of RETAINED: a table as any other, put together here, for every device may say such messages."""
    header, body = message.header, message.body
    fields = b"".join(
        (
            b"\x0cvirtual_hostS",
            encode_longstr(virtual_host),
            b"\x05topicS",
            encode_longstr(message.topic),
            b"\x06headerx",
            _SIZE.pack(len(header)),
            header,
            b"\x04bodyx",
            _SIZE.pack(len(body)),
            body,
            b"\x0fexpires_wall_msl",
            _INTEGER.pack(message.expires_wall_ms),
        )
    )
    return _SIZE.pack(len(fields)) + fields


def keep_retained(
    durability: Durability, virtual_host: str, message: RetainedMessage, before: RetainedMessage | None
) -> None:
    """A topic has another retained message."""
    replaced = before.reference if before is not None else NOT_KEPT
    if durability.has_journal:
        payload = encode_retained(virtual_host, message)
        message.reference = durability.replace_encoded(replaced, RecordKind.RETAINED, payload)


def session_fields(virtual_host: str, session: ClientSession) -> Table:
    """The fields of SESSION; without a will there is none of it, as before there were any."""
    fields: Table = {
        "virtual_host": virtual_host,
        "client_id": session.client_id,
        "expiry_s": session.expiry_s,
        "queues": list(session.queue_names),
    }
    will = session.will
    if will is not None:
        fields["will"] = {
            "user": will.user_name,
            "exchange": will.exchange,
            "routing_key": will.routing_key,
            "header": will.header,
            "body": will.body,
            "topic": will.topic,
            "delay_s": will.delay_s,
        }
    return fields


def keep_session(durability: Durability, virtual_host: str, session: ClientSession) -> None:
    """A client's session is new, or was changed."""
    fields = session_fields(virtual_host, session)
    session.reference = durability.replace(session.reference, RecordKind.SESSION, fields)


def subscription_fields(virtual_host: str, session: ClientSession, topic_filter: str) -> Table:
    """The fields of SUBSCRIPTION."""
    return {
        "virtual_host": virtual_host,
        "client_id": session.client_id,
        "filter": topic_filter,
        "options": session.subscriptions[topic_filter].options,
    }


def keep_subscription(durability: Durability, virtual_host: str, session: ClientSession, topic_filter: str) -> None:
    """A subscription of a session is new, or was changed."""
    subscription = session.subscriptions[topic_filter]
    fields = subscription_fields(virtual_host, session, topic_filter)
    subscription.reference = durability.replace(subscription.reference, RecordKind.SUBSCRIPTION, fields)


def forget_session(durability: Durability, session: ClientSession) -> None:
    """A session has ended, or ends with its connection from now on."""
    for subscription in session.subscriptions.values():
        durability.forget(subscription)
    if session.reference or session.ids_reference:
        durability.drop(session.reference)
        durability.drop(session.ids_reference)
        session.reference = session.ids_reference = NOT_KEPT
        durability.changed()


def packet_ids_fields(virtual_host: str, session: ClientSession) -> Table:
    """The fields of PACKET_IDS. What was sent is told by the reference of its message; without one it does not last."""
    sent = session.sent.kept()
    return {
        "virtual_host": virtual_host,
        "client_id": session.client_id,
        "received": list(session.received),
        "released": list(session.released),
        "sent": list(sent.values()),
        "sent_messages": list(sent),
    }


def keep_packet_ids(durability: Durability, virtual_host: str, session: ClientSession) -> None:
    """The packet identifiers that a session has in use are others."""
    fields = packet_ids_fields(virtual_host, session)
    session.ids_reference = durability.replace(session.ids_reference, RecordKind.PACKET_IDS, fields)
