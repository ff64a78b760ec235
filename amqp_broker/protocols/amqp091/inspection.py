"""The description of a connection for those who look in (``broker/inspection.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.descriptions import ConnectionInfo
from amqp_broker.broker.json_values import json_ready_table
from amqp_broker.session.inspection import describe_connection

if TYPE_CHECKING:
    from amqp_broker.protocols.amqp091.link import Link

PROTOCOL_NAME = "AMQP 0-9-1"


def connection_info(connection: Link) -> ConnectionInfo:
    """Describe a connection; one that has not opened a virtual host yet has empty names."""
    name = connection.client_properties.get("connection_name")
    return describe_connection(
        connection,
        protocol=PROTOCOL_NAME,
        state=connection.state_name,
        timeout_s=connection.heartbeat_s,
        client_properties=json_ready_table(connection.client_properties),
        own_name=name if isinstance(name, str) else None,
        auth_mechanism=connection.auth_mechanism,
        frame_bytes_max=connection.frame_size_bytes_max,
        channels_max=connection.channels_max,
    )
