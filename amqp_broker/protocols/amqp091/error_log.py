"""The log line of an error that closes a channel or a connection: who it was, what was asked for, what was wrong."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from amqp_broker.errors import AmqpError
from amqp_broker.logs import log_event
from amqp_broker.wire.methods import method_name

if TYPE_CHECKING:
    from amqp_broker.protocols.amqp091.link import Link


def log_error(connection: Link, number: int, error: AmqpError, method_ids: tuple[int, int]) -> None:
    """Write the line: a warning for a channel that is closed, an error for a connection.

    Args:
        number: of the channel on which it was found; 0 for the connection itself.
        method_ids: class and method id of the method that failed.
    """
    name = connection.client_properties.get("connection_name")
    is_of_connection = error.is_hard or number == 0
    log_event(
        logging.ERROR if is_of_connection else logging.WARNING,
        "connection error" if is_of_connection else "channel error",
        peer=str(connection.peer),
        connection_name=name if isinstance(name, str) else None,
        user=connection.user_name,
        vhost=connection.virtual_host_name,
        channel=number or None,
        method=method_name(method_ids),
        code=int(error.code),
        reason=str(error),
    )
