"""The description of a connection of AMQP 1.0 for those who look in (``broker/inspection.py``): its sessions as
channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo
from amqp_broker.broker.json_values import json_ready_table
from amqp_broker.protocols.amqp10.values import table_of
from amqp_broker.session.inspection import describe_channel, describe_connection

if TYPE_CHECKING:
    from amqp_broker.protocols.amqp10.context import ConnectionContext, SessionContext

PROTOCOL = "AMQP 1-0"


def connection_info(connection: ConnectionContext) -> ConnectionInfo:
    """Describe a connection; one that has not logged in yet has empty names."""
    info = describe_connection(
        connection,
        protocol=PROTOCOL,
        state=connection.state_name,
        timeout_s=connection.idle_ms // 1000,
        client_properties=json_ready_table(table_of(connection.client_properties)),
        own_name=connection.container or None,
        auth_mechanism=connection.mechanism,
        frame_bytes_max=connection.frame_bytes_max,
        channels_max=connection.channel_max,
    )
    if connection.container:
        info["container_id"] = connection.container
    return info


def channel_info(session: SessionContext, unconfirmed_count: int, consumer_count: int) -> ChannelInfo:
    """Describe a session as a channel."""
    connection = session.connection
    return describe_channel(
        connection,
        session.counts,
        number=session.number,
        consumer_count=consumer_count,
        unacknowledged_count=len(session.unsettled),
        unconfirmed_count=unconfirmed_count,
    )
