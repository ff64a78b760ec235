"""The restoring of definitions from their records into a broker when it starts (``definitions.py`` has them written).

Fields that this release does not know are passed over; what it cannot do without, or cannot give its meaning, raises,
and the start ends with what it says (``recovery.py``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from amqp_broker.access.passwords import SHA256, PasswordHash
from amqp_broker.access.patterns import Pattern
from amqp_broker.access.users import Permission, TopicPermission, User, UserLimits
from amqp_broker.broker.arguments import (
    DEFAULT_QUEUE_TYPE,
    EARLIER_SUBSCRIPTION,
    OWN_SUBSCRIPTION,
    QUEUE_TYPE,
    SUBSCRIPTION_ARGUMENT,
)
from amqp_broker.broker.client_session import KeptSubscription
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.last_will import LastWill
from amqp_broker.broker.parameters import Parameter
from amqp_broker.broker.persistence.kinds import RecordKind
from amqp_broker.broker.policy_checks import CHECKS, kept_policy
from amqp_broker.broker.problems import NotValid
from amqp_broker.broker.queues.replayable import ReplayableQueue
from amqp_broker.broker.retained_message import RetainedMessage
from amqp_broker.broker.sent_messages import SentMessages
from amqp_broker.broker.virtual_host_properties import Metadata, VirtualHostLimits
from amqp_broker.wire.table import FieldValue, Table, type_name

if TYPE_CHECKING:
    from amqp_broker.broker.contents import Contents
    from amqp_broker.broker.delayed.holder import Holder
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.queues.past import Past
    from amqp_broker.broker.virtual_host import VirtualHost


class NotUnderstood(ValueError):
    """A record says something that this release cannot give its meaning."""


# --- reading fields


def text_field(fields: Table, name: str) -> str:
    """A field that must be there, and hold text.

    Raises:
        NotUnderstood: it is not, or does not. The same holds for the functions below.
    """
    return _text(name, fields.get(name))


def _text(name: str, value: FieldValue) -> str:
    if not isinstance(value, str):
        raise _unexpected(name, "text", value)
    return value


def integer_field(fields: Table, name: str) -> int:
    """A field that must be there, and hold an integer."""
    return _integer(name, fields.get(name))


def _integer(name: str, value: FieldValue) -> int:
    if not isinstance(value, int):
        raise _unexpected(name, "an integer", value)
    return int(value)


def boolean_field(fields: Table, name: str) -> bool:
    """A field that must be there, and say yes or no."""
    value = fields.get(name)
    if not isinstance(value, bool):
        raise _unexpected(name, "a boolean", value)
    return value


def table_field(fields: Table, name: str) -> Table:
    """A field that must be there, and hold a table."""
    return _table(name, fields.get(name))


def _table(name: str, value: FieldValue) -> Table:
    if not isinstance(value, dict):
        raise _unexpected(name, "a table", value)
    return value


def list_field(fields: Table, name: str) -> list[FieldValue]:
    """A field that must be there, and hold a list."""
    return _list(name, fields.get(name))


def _list(name: str, value: FieldValue) -> list[FieldValue]:
    if not isinstance(value, list):
        raise _unexpected(name, "a list", value)
    return value


def bytes_field(fields: Table, name: str) -> bytes:
    """A field that must be there, and hold bytes."""
    value = fields.get(name)
    if not isinstance(value, bytes):
        raise _unexpected(name, "bytes", value)
    return value


def limit_field(fields: Table, name: str) -> int | None:
    """A field that holds an integer, or nothing, or is not there, which are the same."""
    value = fields.get(name)
    return None if value is None else _integer(name, value)


def _unexpected(name: str, expected: str, value: FieldValue) -> NotUnderstood:
    found = "nothing" if value is None else f"a value of type {type_name(value)}"
    return NotUnderstood(f"'{name}' should be {expected} and is {found}")


class Restored:
    """The things that are back while a journal is read, and what is to be done about records that were replaced.

    Args:
        broker: into which it is read.
    """

    def __init__(self, broker: Contents) -> None:
        self.broker = broker
        self.queues: dict[int, Queue] = {}  # by the references of their records
        self.exchanges: dict[int, Exchange] = {}  # likewise
        self.holders: dict[int, Holder] = {}  # of what exchanges hold back, likewise
        self.pasts: dict[int, Past] = {}  # of what queues got, likewise
        self.dropped: list[int] = []
        self.to_remove: list[Callable[[], None]] = []

    def virtual_host(self, name: str) -> VirtualHost:
        """The virtual host of a name; made when its record is missing or still to come."""
        return self.broker.virtual_hosts.get(name) or self.broker.add_virtual_host(name)

    def drop(self, reference: int) -> None:
        """A record means nothing any more."""
        self.dropped.append(reference)

    def drop_older(self, reference: int) -> None:
        """Something has a newer record: the one before, if there is any (0 when not), means nothing any more."""
        if reference:
            self.dropped.append(reference)

    def remove_later(self, remove: Callable[[], None]) -> None:
        """Something is there twice: the older one is removed when everything is back."""
        self.to_remove.append(remove)


# --- virtual hosts


def restore_virtual_host(restored: Restored, reference: int, fields: Table) -> None:
    """Put a virtual host back."""
    virtual_host = restored.virtual_host(text_field(fields, "name"))
    restored.drop_older(virtual_host.reference)
    virtual_host.reference = reference


def restore_limits(restored: Restored, reference: int, fields: Table) -> None:
    """Put the limits of a virtual host back, if it is still there."""
    virtual_host = restored.broker.virtual_hosts.get(text_field(fields, "virtual_host"))
    if virtual_host is None:
        restored.drop(reference)
        return
    virtual_host.limits = VirtualHostLimits(limit_field(fields, "connections_max"), limit_field(fields, "queues_max"))
    restored.drop_older(virtual_host.limits_reference)
    virtual_host.limits_reference = reference


def restore_metadata(restored: Restored, reference: int, fields: Table) -> None:
    """Put back what is said of a virtual host."""
    virtual_host = restored.virtual_host(text_field(fields, "virtual_host"))
    default = fields.get("default_queue_type")
    virtual_host.metadata = Metadata(
        text_field(fields, "description"),
        tuple(_text("tags", tag) for tag in list_field(fields, "tags")),
        None if default is None else _text("default_queue_type", default),
        fields.get("is_protected") is True,  # older releases had no protection
    )
    restored.drop_older(virtual_host.metadata_reference)
    virtual_host.metadata_reference = reference


# --- parameters, and policies among them


def restore_parameter(restored: Restored, reference: int, fields: Table) -> None:
    """Put a parameter back, and a policy into force for what comes after it; for the rest when all is back."""
    host_name, component, name = (text_field(fields, field) for field in ("virtual_host", "component", "name"))
    parameter = Parameter(host_name, component, name, json.loads(text_field(fields, "value")), reference)
    host = restored.virtual_host(host_name) if host_name else None
    apply_to = restored.broker.queue_types.apply_to
    parameters = restored.broker.global_parameters if host is None else host.parameters
    before = parameters.get((component, name))
    restored.drop_older(before.reference if before is not None else 0)
    parameters[component, name] = parameter
    if host is not None and component in CHECKS:
        if not isinstance(parameter.value, dict):
            raise NotUnderstood(f"policy '{name}' is none: it should be an object")
        try:
            host.policies.put(component, kept_policy(component, name, parameter.value, apply_to))
        except NotValid as error:
            raise NotUnderstood(f"policy '{name}': {'; '.join(error.problems)}") from error


# --- users


def restore_user(restored: Restored, reference: int, fields: Table) -> None:
    """Put a user back, with permissions and limits."""
    password_hash = fields.get("password_hash")
    if not isinstance(password_hash, bytes):
        raise _unexpected("password_hash", "bytes", password_hash)
    stored = PasswordHash(_text("hashing_algorithm", fields.get("hashing_algorithm", SHA256)), password_hash)
    tags = tuple(_text("tags", tag) for tag in list_field(fields, "tags"))
    user = User(text_field(fields, "name"), stored, tags, reference=reference)
    user.limits = UserLimits(limit_field(fields, "connections_max"), limit_field(fields, "channels_max"))
    for virtual_host, value in table_field(fields, "permissions").items():
        configure, write, read = (Pattern(_text("permissions", source)) for source in _list("permissions", value))
        user.permissions[virtual_host] = Permission(configure, write, read)
    for virtual_host, value in _table("topic_permissions", fields.get("topic_permissions", {})).items():
        user.topic_permissions[virtual_host] = {
            exchange: _topic_permission(patterns) for exchange, patterns in _table("topic_permissions", value).items()
        }
    before = restored.broker.users.get(user.name)
    restored.drop_older(before.reference if before is not None else 0)
    restored.broker.users.put(user)


def _topic_permission(value: FieldValue) -> TopicPermission:
    write, read = (_text("topic_permissions", source) for source in _list("topic_permissions", value))
    return TopicPermission(write, read)


# --- exchanges, queues, bindings


def restore_exchange(restored: Restored, reference: int, fields: Table) -> None:
    """Put an exchange back."""
    virtual_host = restored.virtual_host(text_field(fields, "virtual_host"))
    name, type_of_exchange = text_field(fields, "name"), text_field(fields, "type")
    if type_of_exchange not in virtual_host.exchange_types:
        raise NotUnderstood(f"exchange '{name}' is of type {type_of_exchange!r}, which this release does not have")
    before = virtual_host.exchanges.get(name)
    if before is not None:
        restored.remove_later(lambda: virtual_host.remove_exchange(before))
    exchange = virtual_host.add_exchange(
        name,
        type_of_exchange,
        durable=True,
        auto_delete=boolean_field(fields, "auto_delete"),
        internal=boolean_field(fields, "internal"),
        table=table_field(fields, "arguments"),
    )
    exchange.reference = reference
    restored.exchanges[reference] = exchange


def restore_queue(restored: Restored, reference: int, fields: Table) -> None:
    """Put a queue back, empty."""
    virtual_host = restored.virtual_host(text_field(fields, "virtual_host"))
    name = text_field(fields, "name")
    table = _with_subscription(name, table_field(fields, "arguments"))
    queue_type = table.get(QUEUE_TYPE, DEFAULT_QUEUE_TYPE)
    if queue_type not in virtual_host.queue_types:
        raise NotUnderstood(f"queue '{name}' is of type {queue_type!r}, which this release does not have")
    before = virtual_host.queues.get(name)
    if before is not None:
        del restored.queues[before.reference]
        restored.remove_later(lambda: virtual_host.remove_queue(before))
    queue = virtual_host.add_queue(
        name, durable=True, auto_delete=boolean_field(fields, "auto_delete"), owner=None, table=table
    )
    queue.reference = reference
    restored.queues[reference] = queue


def _with_subscription(name: str, table: Table) -> Table:
    """The arguments of a queue; those that it would have now, if it is one of MQTT's of a release that knew them by
    their names: a client's own had ``x-expires``, one that clients share that or nothing, and both the type that their
    virtual host had for queues without one."""
    others = [key for key in table if key != QUEUE_TYPE]
    whose = ""
    if name.startswith("mqtt-subscription-") and name.endswith("qos1") and others == ["x-expires"]:
        whose = OWN_SUBSCRIPTION
    elif name.startswith("mqtt-shared-") and "/" in name and others in ([], ["x-expires"]):
        whose = EARLIER_SUBSCRIPTION
    return {SUBSCRIPTION_ARGUMENT: whose, QUEUE_TYPE: table.get(QUEUE_TYPE, DEFAULT_QUEUE_TYPE)} if whose else table


def restore_binding(restored: Restored, reference: int, fields: Table) -> None:
    """Put a binding back, if both of its ends are still there."""
    virtual_host = restored.virtual_host(text_field(fields, "virtual_host"))
    source = virtual_host.exchanges.get(text_field(fields, "source"))
    name = text_field(fields, "destination")
    is_to_queue = boolean_field(fields, "to_queue")
    destination = (virtual_host.queues if is_to_queue else virtual_host.exchanges).get(name)
    if source is None or destination is None:
        restored.drop(reference)
        return
    routing_key, arguments = text_field(fields, "routing_key"), table_field(fields, "arguments")
    binding = source.bindings.get(Binding(source, destination, routing_key, arguments).identity)
    if binding is None:
        binding = virtual_host.add_binding(source, destination, routing_key, arguments)
    restored.drop_older(binding.reference)
    binding.reference = reference


# --- how far a queue has handed its messages out


def restore_handed_out(restored: Restored, reference: int, fields: Table) -> None:
    """Put the marks of a queue back, if it is still there."""
    queue = restored.queues.get(integer_field(fields, "queue"))
    marks = [_integer("marks", mark) for mark in list_field(fields, "marks")]
    if queue is None:
        restored.drop(reference)
        return
    if not queue.adopt_marks(marks):
        raise NotUnderstood(f"it holds {len(marks)} marks for {queue}, which has {len(queue.handed_out_through)}")
    restored.drop_older(queue.handed_out_reference)
    queue.handed_out_reference = reference


def restore_state(restored: Restored, reference: int, fields: Table) -> None:
    """Put back what a queue's type keeps beside messages, if the queue is still there."""
    queue = restored.queues.get(integer_field(fields, "queue"))
    if queue is None:
        restored.drop(reference)
        return
    if not queue.restore_state(fields):
        raise NotUnderstood(f"it holds what {queue} cannot have beside its messages: {fields}")
    restored.drop_older(queue.state_reference)
    queue.state_reference = reference


def restore_stream_sequence(restored: Restored, reference: int, fields: Table) -> None:
    """Put back the last publishing id of a publisher, if the stream is still there."""
    _restore_tracked(restored, RecordKind.STREAM_SEQUENCE, reference, fields)


def restore_stream_offset(restored: Restored, reference: int, fields: Table) -> None:
    """Put back how far a consumer is, if the stream is still there."""
    _restore_tracked(restored, RecordKind.STREAM_OFFSET, reference, fields)


def _restore_tracked(restored: Restored, kind: RecordKind, reference: int, fields: Table) -> None:
    queue = restored.queues.get(integer_field(fields, "queue"))
    name, value = text_field(fields, "name"), int.from_bytes(bytes_field(fields, "value"), "big")
    if queue is None:
        restored.drop(reference)
        return
    older = queue.restore_tracked(kind, name, value, reference)
    if older is None:
        raise NotUnderstood(f"it is about {queue}, which is no stream")
    restored.drop_older(older)


# --- retained messages and clients' sessions


def restore_holder(restored: Restored, reference: int, fields: Table) -> None:
    """Put back that an exchange holds messages back, if it is still there; what it holds comes behind this."""
    virtual_host = restored.broker.virtual_hosts.get(text_field(fields, "virtual_host"))
    name = text_field(fields, "exchange")
    exchange = None if virtual_host is None else virtual_host.exchanges.get(name)
    if virtual_host is None or exchange is None:
        restored.drop(reference)
        return
    holder = virtual_host.holder_of(exchange)
    restored.drop_older(holder.reference)
    holder.reference = reference
    restored.holders[reference] = holder


def restore_past(restored: Restored, reference: int, fields: Table) -> None:
    """Put back that a queue has a past, if it is still there; what came into it comes behind this."""
    queue = restored.queues.get(integer_field(fields, "queue"))
    if queue is None:
        restored.drop(reference)
        return
    if not isinstance(queue, ReplayableQueue):
        raise NotUnderstood(f"it holds the past of {queue}, which can have none")
    past = queue.past or queue.begin_past()
    restored.drop_older(past.reference)
    past.reference = reference
    restored.pasts[reference] = past


def restore_retained(restored: Restored, reference: int, fields: Table) -> None:
    """Put a retained message back."""
    retained = restored.virtual_host(text_field(fields, "virtual_host")).retained
    message = RetainedMessage(
        text_field(fields, "topic"),
        bytes_field(fields, "header"),
        bytes_field(fields, "body"),
        integer_field(fields, "expires_wall_ms"),
    )
    message.reference = reference
    before = retained.restore(message)
    restored.drop_older(before.reference if before is not None else 0)


def restore_session(restored: Restored, reference: int, fields: Table) -> None:
    """Put a client's session back, whose client is away.

    What an earlier record lists and a later one does not, is no subscription any more.
    """
    sessions = restored.virtual_host(text_field(fields, "virtual_host")).client_sessions
    session = sessions.restore(text_field(fields, "client_id"))
    session.expiry_s = integer_field(fields, "expiry_s")
    session.queue_names = [_text("queues", name) for name in list_field(fields, "queues")]
    session.subscriptions = {name: one for name, one in session.subscriptions.items() if one.reference}
    if "subscriptions" in fields:
        for one in (_table("subscriptions", each) for each in list_field(fields, "subscriptions")):
            subscription = KeptSubscription(table_field(one, "options"))
            session.subscriptions.setdefault(text_field(one, "filter"), subscription)
    session.will = _will(table_field(fields, "will")) if "will" in fields else None
    restored.drop_older(session.reference)
    session.reference = reference


def restore_subscription(restored: Restored, reference: int, fields: Table) -> None:
    """Put back what a client's session has subscribed to with one filter."""
    sessions = restored.virtual_host(text_field(fields, "virtual_host")).client_sessions
    session = sessions.restore(text_field(fields, "client_id"))
    subscription = KeptSubscription(table_field(fields, "options"))
    before = session.subscriptions.get(text_field(fields, "filter"))
    restored.drop_older(before.reference if before is not None else 0)
    subscription.reference = reference
    session.subscriptions[text_field(fields, "filter")] = subscription


def _will(fields: Table) -> LastWill:
    return LastWill(
        text_field(fields, "user"),
        text_field(fields, "exchange"),
        text_field(fields, "routing_key"),
        bytes_field(fields, "header"),
        bytes_field(fields, "body"),
        text_field(fields, "topic"),
        integer_field(fields, "delay_s"),
        None,
    )


def restore_packet_ids(restored: Restored, reference: int, fields: Table) -> None:
    """Put the packet identifiers of a session back."""
    sessions = restored.virtual_host(text_field(fields, "virtual_host")).client_sessions
    session = sessions.restore(text_field(fields, "client_id"))
    received, released, sent, messages = (
        [_integer(name, one) for one in list_field(fields, name)]
        for name in ("received", "released", "sent", "sent_messages")
    )
    session.received, session.released = dict.fromkeys(received), dict.fromkeys(released)
    session.sent = SentMessages()
    for message, packet_id in zip(messages, sent, strict=True):
        session.sent.restore(message, packet_id)
    restored.drop_older(session.ids_reference)
    session.ids_reference = reference


Restorer = Callable[["Restored", int, Table], None]  # what puts back, with the record's reference and its fields

RESTORERS: Final[dict[int, Restorer]] = {
    RecordKind.VIRTUAL_HOST: restore_virtual_host,
    RecordKind.USER: restore_user,
    RecordKind.LIMITS: restore_limits,
    RecordKind.EXCHANGE: restore_exchange,
    RecordKind.QUEUE: restore_queue,
    RecordKind.BINDING: restore_binding,
    RecordKind.HANDED_OUT: restore_handed_out,
    RecordKind.PARAMETER: restore_parameter,
    RecordKind.METADATA: restore_metadata,
    RecordKind.RETAINED: restore_retained,
    RecordKind.SESSION: restore_session,
    RecordKind.SUBSCRIPTION: restore_subscription,
    RecordKind.PACKET_IDS: restore_packet_ids,
    RecordKind.DELAY_HOLDER: restore_holder,
    RecordKind.QUEUE_STATE: restore_state,
    RecordKind.PAST: restore_past,
    RecordKind.STREAM_SEQUENCE: restore_stream_sequence,
    RecordKind.STREAM_OFFSET: restore_stream_offset,
}
