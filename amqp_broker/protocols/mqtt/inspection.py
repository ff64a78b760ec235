"""The description of an MQTT connection for those who look in (``broker/inspection.py``): as one with one channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo
from amqp_broker.session.inspection import describe_channel, describe_connection

if TYPE_CHECKING:
    from amqp_broker.protocols.mqtt.delivering import Delivering
    from amqp_broker.protocols.mqtt.link import Link
    from amqp_broker.protocols.mqtt.publishing import Publishing
    from amqp_broker.protocols.mqtt.subscribing import Subscribing

VERSIONS: Final = {3: "3.1", 4: "3.1.1", 5: "5.0"}  # by the level of the protocol


def connection_info(connection: Link) -> ConnectionInfo:
    """Describe a connection; one that has not logged in yet has empty names."""
    version = VERSIONS.get(connection.level, "")
    return describe_connection(
        connection,
        protocol=f"MQTT {version}".rstrip(),
        state=connection.state_name,
        timeout_s=connection.keep_alive_s,
        client_properties={"product": "MQTT client", "client_id": connection.client_id},
    )


def channel_info(
    connection: Link, publishing: Publishing, subscribing: Subscribing, delivering: Delivering
) -> ChannelInfo:
    """Describe what stands for the channel of an open connection."""
    return describe_channel(
        connection,
        connection.counts,
        prefetch_count=delivering.receive_maximum,
        consumer_count=subscribing.consumer_count,
        unacknowledged_count=len(delivering.unacknowledged),
        unconfirmed_count=publishing.unconfirmed_count,
    )
