"""The description of a stream connection for those who look in (``broker/inspection.py``): as one with one channel, and
what it has of its own, publishers and subscriptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo
from amqp_broker.session.inspection import describe_channel, describe_connection

if TYPE_CHECKING:
    from amqp_broker.protocols.stream.link import Link
    from amqp_broker.protocols.stream.publishing import Publisher, Publishing
    from amqp_broker.protocols.stream.subscribing import Subscribing, Subscription


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


def publisher_info(publisher: Publisher) -> dict[str, Any]:
    """Describe a publisher, but for whose it is and where it publishes to."""
    return {
        "publisher_id": publisher.number,
        "reference": publisher.reference,
        "published": publisher.published_count,
        "confirmed": publisher.confirmed_count,
        "errored": 0,  # what is not confirmed has no publisher
    }


def subscription_info(subscription: Subscription) -> dict[str, Any]:
    """Describe a subscription, but for whose it is and what it reads."""
    last_offset = max(subscription.next_offset - 1, 0)
    return {
        "subscription_id": subscription.number,
        "properties": dict(subscription.properties),
        "active": subscription.is_active,
        "activity_status": "up" if subscription.is_active else "waiting",
        "credits": subscription.credit,
        "consumed": subscription.delivered_count,
        "offset": last_offset,
        "offset_lag": max(0, subscription.stream.end_offset - 1 - last_offset),
    }
