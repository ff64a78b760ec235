"""The description of a connection for those who look in (``broker/inspection.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.descriptions import ConnectionInfo
from amqp_broker.broker.json_values import json_ready_table

if TYPE_CHECKING:
    from amqp_broker.protocols.amqp091.link import Link

PROTOCOL_NAME = "AMQP 0-9-1"


def connection_info(connection: Link) -> ConnectionInfo:
    """Describe a connection; one that has not opened a virtual host yet has empty names."""
    peer = connection.peer
    name = connection.client_properties.get("connection_name")
    return ConnectionInfo(
        name=peer.connection_name,
        user_provided_name=name if isinstance(name, str) else None,
        user=connection.user_name,
        vhost=connection.virtual_host_name,
        host=peer.our_host,
        port=peer.our_port,
        peer_host=peer.host,
        peer_port=peer.port,
        protocol=PROTOCOL_NAME,
        auth_mechanism=connection.auth_mechanism,
        ssl=peer.tls is not None,
        ssl_protocol=peer.tls.version if peer.tls is not None else None,
        ssl_cipher=peer.tls.cipher if peer.tls is not None else None,
        state=connection.state_name,
        timeout=connection.heartbeat_s,
        frame_max=connection.frame_size_bytes_max,
        channel_max=connection.channels_max,
        channels=connection.channel_count,
        connected_at=connection.connected_at_ms,
        client_properties=json_ready_table(connection.client_properties),
        recv_oct=connection.received_bytes,
        send_oct=connection.sent_bytes,
        send_pend=connection.waiting_bytes,
    )
