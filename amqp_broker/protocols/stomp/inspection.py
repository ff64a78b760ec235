"""The description of a STOMP connection for those who look in (``broker/inspection.py``): as one with one channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo

if TYPE_CHECKING:
    from amqp_broker.protocols.stomp.link import Link
    from amqp_broker.protocols.stomp.publishing import Publishing
    from amqp_broker.protocols.stomp.subscribing import Subscribing
    from amqp_broker.protocols.stomp.transactions import Transactions


def connection_info(connection: Link) -> ConnectionInfo:
    """Describe a connection; one that has not logged in yet has empty names."""
    peer = connection.peer
    return ConnectionInfo(
        name=peer.connection_name,
        user_provided_name=None,
        user=connection.user_name,
        vhost=connection.virtual_host_name,
        host=peer.our_host,
        port=peer.our_port,
        peer_host=peer.host,
        peer_port=peer.port,
        protocol=f"STOMP {connection.version}".rstrip(),
        auth_mechanism="",
        ssl=peer.tls is not None,
        ssl_protocol=peer.tls.version if peer.tls is not None else None,
        ssl_cipher=peer.tls.cipher if peer.tls is not None else None,
        state=connection.state_name,
        timeout=max(connection.heart_beat_s),
        frame_max=0,
        channel_max=1,
        channels=connection.channel_count,
        connected_at=connection.connected_at_ms,
        client_properties={"product": "STOMP client"},
        recv_oct=connection.received_bytes,
        send_oct=connection.sent_bytes,
        send_pend=connection.waiting_bytes,
    )


def channel_info(
    connection: Link, publishing: Publishing, subscribing: Subscribing, transactions: Transactions
) -> ChannelInfo:
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
        consumer_count=subscribing.consumer_count,
        messages_unacknowledged=len(subscribing.unacknowledged),
        messages_unconfirmed=publishing.unconfirmed_count,
        messages_uncommitted=transactions.message_count,
        acks_uncommitted=transactions.settlement_count,
        state="running",
        message_stats=connection.counts.stats(),
    )
