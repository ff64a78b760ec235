"""Events of a shovel, as RabbitMQ has them: ``shovel.worker.status`` at each change, and ``shovel.worker.removed`` when
it has gone (measured on RabbitMQ 3.10). What becomes of them is in ``broker/event_exchange.py``.

Pure; when they are told is up to ``shovel.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from amqp_broker.client.uri import AmqpUri
from amqp_broker.server.shovels.definition import ShovelDefinition

STATUS: Final = "shovel.worker.status"
REMOVED: Final = "shovel.worker.removed"
RUNNING: Final = "running"
PROTOCOL: Final = "amqp091"


def names_of(virtual_host: str, name: str) -> dict[str, Any]:
    """The headers that name a shovel."""
    return {"name": name, "vhost": virtual_host}


def ends_of(definition: ShovelDefinition, source_uri: AmqpUri, destination_uri: AmqpUri) -> dict[str, Any]:
    """The headers with the ends of a shovel that runs; addresses without users."""
    source, destination = definition.source, definition.destination
    details: dict[str, Any] = {
        "src_uri": str(replace(source_uri, user=None)),
        "src_protocol": PROTOCOL,
        "dest_uri": str(replace(destination_uri, user=None)),
        "dest_protocol": PROTOCOL,
    }
    if source.queue:
        details["src_queue"] = source.queue
    else:
        details |= {"src_exchange": source.exchange, "src_exchange_key": source.routing_key}
    if destination.queue:
        details["dest_queue"] = destination.queue
        return details
    told = {"dest_exchange": destination.exchange, "dest_exchange_key": destination.routing_key}
    return details | {key: value for key, value in told.items() if value is not None}
