"""The ends of an errand between brokers: another broker, or this one, over a stream in memory.

An address without a host is this broker itself. There the user that it names needs no password; where it names nobody,
it is an administrator. So whoever sets one by HTTP must be one who may be in that virtual host
(``management/api/parameters.py``).
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final

import trio

from amqp_broker.access.client import Peer
from amqp_broker.broker.broker import Broker
from amqp_broker.client.connection import AmqpClient, connected
from amqp_broker.client.failures import BrokerUnreachable
from amqp_broker.client.uri import AmqpUri
from amqp_broker.network.memory_stream import stream_pair

LOCAL_TIMEOUT_S: Final = 5.0
LOCAL_BYTES_MAX: Final = 1_048_576

ServeStream = Callable[[trio.abc.Stream, Peer, str], Awaitable[None]]  # the last is the virtual host


class Ends:
    """The ends of the errands of one broker.

    Args:
        broker: this one, for its users.
        serve_stream: has a conversation of this broker over a stream, about a virtual host.
    """

    def __init__(self, broker: Broker, serve_stream: ServeStream) -> None:
        self._broker = broker
        self._serve_stream = serve_stream

    def connected(
        self, uri: AmqpUri, virtual_host: str, name: str, nursery: trio.Nursery
    ) -> AbstractAsyncContextManager[AmqpClient]:
        """A connection to where an address leads.

        Args:
            virtual_host: where the address is of this broker and names none.
            name: of the connection, for operators.
            nursery: where this broker's side of a conversation with itself runs.

        Raises:
            BrokerUnreachable: nobody may do anything there; inside of it, whatever else ``client.connected`` raises.
        """
        if not uri.is_local:
            return connected(uri, name=name)
        virtual_host = virtual_host if uri.virtual_host is None else uri.virtual_host
        user = uri.user if uri.user is not None else self._administrator_of(virtual_host)
        ours, theirs = stream_pair(LOCAL_BYTES_MAX)
        peer = Peer.within(f"<direct.{secrets.token_hex(8)}>", user)
        nursery.start_soon(self._serve_stream, theirs, peer, virtual_host)
        local = replace(uri, user=None, virtual_host=virtual_host, heartbeat_s=0, timeout_s=LOCAL_TIMEOUT_S)
        return connected(local, name=name, stream=ours)

    def _administrator_of(self, virtual_host: str) -> str:
        """Who acts where the address names nobody: an administrator who may do something there."""
        for user in self._broker.users:
            if "administrator" in user.tags and virtual_host in user.permissions:
                return user.name
        raise BrokerUnreachable(
            f"no administrator may do anything in virtual host '{virtual_host}': name a user, as in amqp://user@/"
        )
