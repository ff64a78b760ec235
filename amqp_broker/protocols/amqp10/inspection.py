"""The description of a connection of AMQP 1.0 for those who look in (``broker/inspection.py``): its sessions as
channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo

if TYPE_CHECKING:
    from amqp_broker.protocols.amqp10.context import ConnectionContext, SessionContext

PROTOCOL = "AMQP 1-0"


def connection_info(connection: ConnectionContext) -> ConnectionInfo:
    """Describe a connection; one that has not logged in yet has empty names."""
    peer = connection.peer
    properties: dict[str, Any] = {
        "".join((key, "")): _plain(value) for key, value in connection.client_properties.pairs if isinstance(key, str)
    }
    return ConnectionInfo(
        name=peer.connection_name,
        user_provided_name=connection.container or None,
        user=connection.user_name,
        vhost=connection.virtual_host_name,
        host=peer.our_host,
        port=peer.our_port,
        peer_host=peer.host,
        peer_port=peer.port,
        protocol=PROTOCOL,
        auth_mechanism=connection.mechanism,
        ssl=peer.tls is not None,
        ssl_protocol=peer.tls.version if peer.tls is not None else None,
        ssl_cipher=peer.tls.cipher if peer.tls is not None else None,
        state=connection.state_name,
        timeout=connection.idle_ms // 1000,
        frame_max=connection.frame_bytes_max,
        channel_max=connection.channel_max,
        channels=connection.channel_count,
        connected_at=connection.connected_at_ms,
        client_properties=properties,
        recv_oct=connection.received_bytes,
        send_oct=connection.sent_bytes,
        send_pend=connection.waiting_bytes,
    )


def _plain(value: Any) -> object:
    """A value of the client's properties as JSON has it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return "".join((value, ""))
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else str(value)


def channel_info(session: SessionContext, unconfirmed_count: int, consumer_count: int) -> ChannelInfo:
    """Describe a session as a channel."""
    connection = session.connection
    peer = connection.peer
    return ChannelInfo(
        name=f"{peer.connection_name} ({session.number})",
        number=session.number,
        user=connection.user_name,
        vhost=connection.virtual_host_name,
        connection_name=peer.connection_name,
        peer_host=peer.host,
        peer_port=peer.port,
        confirm=True,
        transactional=False,
        prefetch_count=0,
        global_prefetch_count=0,
        consumer_count=consumer_count,
        messages_unacknowledged=len(session.unsettled),
        messages_unconfirmed=unconfirmed_count,
        messages_uncommitted=0,
        acks_uncommitted=0,
        state="running",
        message_stats=session.counts.stats(),
    )
