"""Events of a federation link, as RabbitMQ has them: ``federation.link.status`` at each change, and
``federation.link.removed`` when it has gone (measured on RabbitMQ 3.10). What becomes of them is in
``broker/event_exchange.py``.

Pure; when they are told is up to ``link.py``.
"""

from __future__ import annotations

from typing import Any, Final

from amqp_broker.server.federation.definition import Upstream
from amqp_broker.server.federation.link_name import LinkName
from amqp_broker.wire.table import Timestamp

STATUS: Final = "federation.link.status"
REMOVED: Final = "federation.link.removed"
RUNNING: Final = "running"

Details = dict[str, Any]


def names_of(name: LinkName, upstream: Upstream) -> Details:
    """The headers that name a link."""
    details = {
        "id": name.identity,
        "type": name.kind,
        "vhost": name.virtual_host,
        "upstream": name.upstream,
        name.kind: name.name,
        f"upstream_{name.kind}": name.upstream_name,
    }
    return {**details, "consumer_tag": upstream.consumer_tag} if name.kind == "queue" else details


def status_of(status: str, reason: str, uri: str, connection_name: str, now_ms: int) -> Details:
    """The headers of a change beside the names.

    Args:
        reason: why the link does not run; empty if it does.
        uri: of the upstream, without the user.
        connection_name: of the link's connections.
        now_ms: since 1970.
    """
    details: Details = {"status": status, "uri": uri, "timestamp": Timestamp(now_ms // 1000)}
    if reason:
        details["error"] = reason
    if status == RUNNING:
        details["local_connection"] = connection_name
    return details
