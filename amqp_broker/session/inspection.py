"""The description of a connection of any protocol for those who look in (``broker/inspection.py``).

What a protocol knows alone it hands over. The channels of AMQP 0-9-1 describe themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo

if TYPE_CHECKING:
    from amqp_broker.broker.counters import ChannelCounts
    from amqp_broker.session.connection import ClientConnection


def describe_connection(
    connection: ClientConnection,
    *,
    protocol: str,
    state: str,
    timeout_s: int,
    client_properties: dict[str, object],
    own_name: str | None = None,
    auth_mechanism: str = "",
    frame_bytes_max: int = 0,
    channels_max: int = 1,
) -> ConnectionInfo:
    """Describe a connection; one that has not logged in yet has empty names.

    Args:
        connection: which.
        protocol: with its version, as lists show it.
        state: how it is, in the words of RabbitMQ's lists.
        timeout_s: between heartbeats; 0 for none.
        client_properties: what the client has said of itself.
        own_name: what it calls itself.
        auth_mechanism: by which it has logged in.
        frame_bytes_max: 0 where no size was agreed on.
        channels_max: how many channels it may have, or what stands for them.
    """
    peer = connection.peer
    return ConnectionInfo(
        type="direct" if peer.direct_name else "network",
        name=peer.connection_name,
        user_provided_name=own_name,
        user=connection.user_name,
        vhost=connection.virtual_host_name,
        host=peer.our_host,
        port=peer.our_port,
        peer_host=peer.host,
        peer_port=peer.port,
        protocol=protocol,
        auth_mechanism=auth_mechanism,
        ssl=peer.tls is not None,
        ssl_protocol=peer.tls.version if peer.tls is not None else None,
        ssl_cipher=peer.tls.cipher if peer.tls is not None else None,
        state=state,
        timeout=timeout_s,
        frame_max=frame_bytes_max,
        channel_max=channels_max,
        channels=connection.channel_count,
        connected_at=connection.connected_at_ms,
        client_properties=client_properties,
        recv_oct=connection.received_bytes,
        send_oct=connection.sent_bytes,
        send_pend=connection.waiting_bytes,
    )


def describe_channel(
    connection: ClientConnection,
    counts: ChannelCounts,
    *,
    number: int = 1,
    prefetch_count: int = 0,
    consumer_count: int = 0,
    unacknowledged_count: int = 0,
    unconfirmed_count: int = 0,
    uncommitted_count: int = 0,
    uncommitted_settlement_count: int = 0,
) -> ChannelInfo:
    """Describe what stands for a channel of an open connection: the connection itself, or a session of AMQP 1.0.

    Args:
        connection: whose.
        counts: what went through it.
        number: which one.
        prefetch_count: how many messages the client takes before it settles one; 0 for any number.
        consumer_count: how many consumers it has.
        unacknowledged_count: how many messages wait for their settlement.
        unconfirmed_count: how many published ones wait for their confirm.
        uncommitted_count: how many are in open transactions.
        uncommitted_settlement_count: how many settlements are.
    """
    peer = connection.peer
    return ChannelInfo(
        name=f"{peer.connection_name} ({number})",
        number=number,
        user=connection.user_name,
        vhost=connection.virtual_host_name,
        connection_name=peer.connection_name,
        peer_host=peer.host,
        peer_port=peer.port,
        confirm=True,
        transactional=False,
        prefetch_count=prefetch_count,
        global_prefetch_count=0,
        consumer_count=consumer_count,
        messages_unacknowledged=unacknowledged_count,
        messages_unconfirmed=unconfirmed_count,
        messages_uncommitted=uncommitted_count,
        acks_uncommitted=uncommitted_settlement_count,
        state="running",
        message_stats=counts.stats(),
    )
