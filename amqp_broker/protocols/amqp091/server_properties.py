"""The properties of the broker in ``connection.start``.

Clients choose their ways by it: kombu looks at product and version, aiormq at the capabilities.
"""

from __future__ import annotations

import platform

from amqp_broker import __version__
from amqp_broker.behaviour import BEHAVIOURS
from amqp_broker.settings import Settings
from amqp_broker.wire.table import Table

CAPABILITIES = (
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
)


def server_properties(settings: Settings, cluster_name: str) -> Table:
    """The table of ``connection.start``, with RabbitMQ's keys and two of our own."""
    return {
        "capabilities": dict.fromkeys(CAPABILITIES, True),
        "cluster_name": cluster_name,
        "copyright": "Copyright the amqp-broker authors.",
        "information": "Licensed under the Apache License, Version 2.0.",
        "platform": f"Python {platform.python_version()}",
        "product": settings.product,
        "version": settings.product_version or BEHAVIOURS[settings.behave_like].version,
        "broker": "amqp-broker",
        "broker_version": __version__,
    }
