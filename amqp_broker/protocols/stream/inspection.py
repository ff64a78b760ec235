"""The description of a stream connection for those who look in (``broker/inspection.py``): as one with one channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo

if TYPE_CHECKING:
    from amqp_broker.protocols.stream.link import Link
    from amqp_broker.protocols.stream.publishing import Publishing
    from amqp_broker.protocols.stream.subscribing import Subscribing


def connection_info(connection: Link) -> ConnectionInfo:
    """Describe a connection; one that has not logged in yet has empty names."""
    peer = connection.peer
    return ConnectionInfo(
        name=peer.connection_name,
        user_provided_name=connection.client_properties.get("connection_name"),
        user=connection.user_name,
        vhost=connection.virtual_host_name,
        host=peer.our_host,
        port=peer.our_port,
        peer_host=peer.host,
        peer_port=peer.port,
        protocol="stream",
        auth_mechanism=connection.mechanism,
        ssl=peer.tls is not None,
        ssl_protocol=peer.tls.version if peer.tls is not None else None,
        ssl_cipher=peer.tls.cipher if peer.tls is not None else None,
        state=connection.state_name,
        timeout=connection.heartbeat_s,
        frame_max=connection.frame_bytes_max,
        channel_max=1,
        channels=connection.channel_count,
        connected_at=connection.connected_at_ms,
        client_properties=dict(connection.client_properties),
        recv_oct=connection.received_bytes,
        send_oct=connection.sent_bytes,
        send_pend=connection.waiting_bytes,
    )


def channel_info(connection: Link, publishing: Publishing, subscribing: Subscribing) -> ChannelInfo:
    """Describe what stands for the channel of an open connection."""
    peer = connection.peer
    return ChannelInfo(
        name=f"{peer.connection_name} (1)",
        number=1,
        user=connection.user_name,
        vhost=connection.virtual_host_name,
        connection_name=peer.connection_name,
        peer_host=peer.host,
        peer_port=peer.port,
        confirm=True,
        transactional=False,
        prefetch_count=0,
        global_prefetch_count=0,
        consumer_count=len(subscribing.subscriptions),
        messages_unacknowledged=0,
        messages_unconfirmed=publishing.unconfirmed_count,
        messages_uncommitted=0,
        acks_uncommitted=0,
        state="running",
        message_stats=connection.counts.stats(),
    )
