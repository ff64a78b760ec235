"""The description of a STOMP connection for those who look in (``broker/inspection.py``): as one with one channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo
from amqp_broker.session.inspection import describe_channel, describe_connection

if TYPE_CHECKING:
    from amqp_broker.protocols.stomp.link import Link
    from amqp_broker.protocols.stomp.publishing import Publishing
    from amqp_broker.protocols.stomp.subscribing import Subscribing
    from amqp_broker.protocols.stomp.transactions import Transactions


def connection_info(connection: Link) -> ConnectionInfo:
    """Describe a connection; one that has not logged in yet has empty names."""
    return describe_connection(
        connection,
        protocol=f"STOMP {connection.version}".rstrip(),
        state=connection.state_name,
        timeout_s=max(connection.heart_beat_s),
        client_properties={"product": "STOMP client"},
    )


def channel_info(
    connection: Link, publishing: Publishing, subscribing: Subscribing, transactions: Transactions
) -> ChannelInfo:
    """Describe what stands for the channel of an open connection."""
    return describe_channel(
        connection,
        connection.counts,
        consumer_count=subscribing.consumer_count,
        unacknowledged_count=len(subscribing.unacknowledged),
        unconfirmed_count=publishing.unconfirmed_count,
        uncommitted_count=transactions.message_count,
        uncommitted_settlement_count=transactions.settlement_count,
    )
