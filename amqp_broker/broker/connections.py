"""The open connections by user and by virtual host, for limits, and to end them.

Holds no protocol: a connection is whatever has a user, a virtual host, channels and an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from amqp_broker.broker.counters import ChannelCounts
    from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo
    from amqp_broker.broker.queues.unacknowledged import Unacknowledged


class OpenConnection(Protocol):
    """A connection that has opened a virtual host; the session floor's are."""

    @property
    def user_name(self) -> str:
        """The name of the user who has authenticated."""

    @property
    def virtual_host_name(self) -> str:
        """Where."""

    @property
    def counted_as(self) -> str:
        """The protocol that it speaks, as RabbitMQ's metrics call it: ``amqp091``, ``mqtt50``."""
        ...

    @property
    def channel_count(self) -> int:
        """The number of channels that are open."""
        ...

    def close_forcibly(self, explanation: str) -> None:
        """``connection.close`` 320 with these words."""

    def update_room(self) -> None:
        """Whether its consumers may get more has changed (``VirtualHost.are_deliveries_held``)."""

    def channel_counts(self) -> Iterator[ChannelCounts]:
        """What its open channels have counted."""
        ...

    def inspect(self) -> ConnectionInfo:
        """Describe it, for those who look in."""
        ...

    def inspect_channels(self) -> Iterator[ChannelInfo]:
        """Describe its channels."""
        ...

    def unacknowledged(self) -> Iterator[tuple[str, list[Unacknowledged]]]:
        """The deliveries that wait for their settlement, by the names of its channels."""
        ...


class Connections:
    """The open connections of one broker."""

    def __init__(self) -> None:
        self._by_user: dict[str, dict[OpenConnection, None]] = {}
        self._by_virtual_host: dict[str, dict[OpenConnection, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, connection: OpenConnection) -> bool:
        return connection in self._by_user.get(connection.user_name, ())

    def __iter__(self) -> Iterator[OpenConnection]:
        return iter([connection for connections in self._by_user.values() for connection in connections])

    def add(self, connection: OpenConnection) -> None:
        """A connection is open now."""
        self._by_user.setdefault(connection.user_name, {})[connection] = None
        self._by_virtual_host.setdefault(connection.virtual_host_name, {})[connection] = None
        self._count += 1

    def remove(self, connection: OpenConnection) -> None:
        """A connection has ended; one that was never open is none of our business."""
        for name, groups in (
            (connection.user_name, self._by_user),
            (connection.virtual_host_name, self._by_virtual_host),
        ):
            group = groups.get(name, {})
            if connection not in group:
                return
            del group[connection]
            if not group:
                del groups[name]
        self._count -= 1

    def of_user(self, name: str) -> list[OpenConnection]:
        """The connections of a user."""
        return list(self._by_user.get(name, ()))

    def in_virtual_host(self, name: str) -> list[OpenConnection]:
        """The connections in a virtual host."""
        return list(self._by_virtual_host.get(name, ()))

    def channels_of_user(self, name: str) -> int:
        """How many channels a user has open, on all connections."""
        return sum(connection.channel_count for connection in self._by_user.get(name, ()))
