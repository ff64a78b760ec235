"""Descriptions of each kind of thing for those who look in: typed dictionaries that can be written as JSON as they are.

The fields have the names of RabbitMQ's HTTP API where it has them, because programs that read such lists know those
names. Holds no way of finding out what stands in them (``inspection.py``; connections and channels say it themselves).
"""

from __future__ import annotations

from typing import NotRequired, TypedDict


class QueueInfo(TypedDict):
    """A queue."""

    name: str
    vhost: str
    type: str
    has_replicas: bool  # whether RabbitMQ keeps replicas of one of this type
    durable: bool
    auto_delete: bool
    exclusive: bool
    arguments: dict[str, object]
    policy: str | None  # the name of the one that counts
    operator_policy: str | None
    effective_policy_definition: dict[str, object]  # what both say together
    state: str
    consumers: int
    single_active_consumer_tag: str | None
    messages: int
    messages_ready: int
    messages_unacknowledged: int
    message_bytes_ready: int
    message_bytes_unacknowledged: int
    message_stats: dict[str, int]  # what happened to messages here, ever since it is in memory


class ExchangeInfo(TypedDict):
    """An exchange."""

    name: str
    vhost: str
    type: str
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: dict[str, object]
    policy: str | None  # the name of the one that counts
    operator_policy: str | None
    effective_policy_definition: dict[str, object]  # what both say together
    messages_delayed: NotRequired[int]  # where some may be


ParameterInfo = dict[str, object]  # value, name, and unless it is global vhost and component
PolicyInfo = dict[str, object]  # vhost, name, pattern, apply-to, definition, priority


class BindingInfo(TypedDict):
    """A binding; ``destination_type`` is ``queue`` or ``exchange``."""

    source: str
    vhost: str
    destination: str
    destination_type: str
    routing_key: str
    arguments: dict[str, object]


class ConnectionInfo(TypedDict):
    """A client's open connection, of whatever protocol."""

    type: str  # network, or direct for one of the broker's own
    name: str  # RabbitMQ's: ``peer -> our end``
    user_provided_name: str | None
    user: str
    vhost: str
    host: str  # our end
    port: int
    peer_host: str
    peer_port: int
    protocol: str
    auth_mechanism: str
    ssl: bool
    ssl_protocol: str | None
    ssl_cipher: str | None
    state: str  # running, blocked, closing
    timeout: int  # seconds between heartbeats; 0 for none
    frame_max: int
    channel_max: int
    channels: int
    connected_at: int  # milliseconds since 1970
    client_properties: dict[str, object]
    recv_oct: int
    send_oct: int
    send_pend: int  # bytes that wait to be sent
    container_id: NotRequired[str]  # of AMQP 1.0's clients


class ChannelInfo(TypedDict):
    """A channel of a connection, or what stands for one in a protocol that has none."""

    name: str  # ``connection (number)``
    number: int
    user: str
    vhost: str
    connection_name: str
    peer_host: str
    peer_port: int
    confirm: bool
    transactional: bool
    prefetch_count: int
    global_prefetch_count: int
    consumer_count: int
    messages_unacknowledged: int
    messages_unconfirmed: int
    messages_uncommitted: int
    acks_uncommitted: int
    state: str
    message_stats: dict[str, int]  # what happened to messages here


class ConsumerInfo(TypedDict):
    """A consumer of a queue."""

    consumer_tag: str
    queue: str
    vhost: str
    ack_required: bool
    exclusive: bool
    active: bool
    activity_status: str  # up, single_active, waiting
    prefetch_count: int
    priority: int
    messages_unacknowledged: int
    arguments: dict[str, object]
    channel: ChannelInfo
    offset_lag: NotRequired[int]  # of a stream's: entries between the last one that it was sent and the end


class VirtualHostInfo(TypedDict):
    """A virtual host."""

    name: str
    queues: int
    exchanges: int
    connections: int
    connections_max: int | None
    queues_max: int | None
    description: str
    tags: list[str]
    default_queue_type: str | None
    tracing: bool  # whether the firehose is on


class UserInfo(TypedDict):
    """A user."""

    name: str
    tags: list[str]
    connections: int
    connections_max: int | None
    channels_max: int | None


class TopicPermissionInfo(TypedDict):
    """The permissions of a user on the routing keys of one topic exchange."""

    exchange: str
    write: str
    read: str


class PermissionInfo(TypedDict):
    """The permissions of a user in a virtual host."""

    user: str
    vhost: str
    configure: str
    write: str
    read: str
    topics: list[TopicPermissionInfo]


class Counts(TypedDict):
    """The number of everything there is."""

    virtual_hosts: int
    users: int
    connections: int
    channels: int
    queues: int
    exchanges: int
    consumers: int
    messages: int
    messages_ready: int
    messages_unacknowledged: int
