"""The description of a stream connection for those who look in (``broker/inspection.py``): as one with one channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo
from amqp_broker.session.inspection import describe_channel, describe_connection

if TYPE_CHECKING:
    from amqp_broker.protocols.stream.link import Link
    from amqp_broker.protocols.stream.publishing import Publishing
    from amqp_broker.protocols.stream.subscribing import Subscribing


def connection_info(connection: Link) -> ConnectionInfo:
    """Describe a connection; one that has not logged in yet has empty names."""
    return describe_connection(
        connection,
        protocol="stream",
        state=connection.state_name,
        timeout_s=connection.heartbeat_s,
        client_properties=dict(connection.client_properties),
        own_name=connection.client_properties.get("connection_name"),
        auth_mechanism=connection.mechanism,
        frame_bytes_max=connection.frame_bytes_max,
    )


def channel_info(connection: Link, publishing: Publishing, subscribing: Subscribing) -> ChannelInfo:
    """Describe what stands for the channel of an open connection."""
    return describe_channel(
        connection,
        connection.counts,
        consumer_count=len(subscribing.subscriptions),
        unconfirmed_count=publishing.unconfirmed_count,
    )
