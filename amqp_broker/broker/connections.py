"""The open connections by user and by virtual host, for limits, and to end them.

Holds no protocol: a connection is whatever has a user, a virtual host, channels and an end. Of those that are open at
other owners of a divided broker it is told the number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from amqp_broker.broker.counters import ChannelCounts
    from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo
    from amqp_broker.broker.queues.unacknowledged import Unacknowledged


EVERYBODY: Final = ""  # in place of a user's name


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
        self.watchers: tuple[Callable[[str], None], ...] = ()  # told of each user whose connections or channels change
        self._elsewhere: dict[int, dict[str, tuple[int, int]]] = {}  # by shard and user: connections, channels

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
        self.count_changed(connection.user_name)

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
        self.count_changed(connection.user_name)

    def count_changed(self, user: str) -> None:
        """A user has another number of connections or channels."""
        for watcher in self.watchers:
            watcher(user)

    def of_user(self, name: str) -> list[OpenConnection]:
        """The connections of a user."""
        return list(self._by_user.get(name, ()))

    def in_virtual_host(self, name: str) -> list[OpenConnection]:
        """The connections in a virtual host."""
        return list(self._by_virtual_host.get(name, ()))

    def counts_of_user(self, name: str) -> tuple[int, int]:
        """How many connections a user has here, and how many channels on all of them."""
        connections = self._by_user.get(name, {})
        return len(connections), sum([connection.channel_count for connection in connections])

    # --- with those at the other owners of a broker that is divided (server/sharding/user_counts.py)

    def count_in_whole_broker(self) -> int:
        """How many connections there are in the whole broker, for a limit."""
        return self._count + sum([counts.get(EVERYBODY, (0, 0))[0] for counts in self._elsewhere.values()])

    def connection_count_of_user(self, name: str) -> int:
        """How many connections a user has in the whole broker, for a limit."""
        count = len(self._by_user.get(name, ()))
        for counts in self._elsewhere.values():
            count += counts.get(name, (0, 0))[0]
        return count

    def channel_count_of_user(self, name: str) -> int:
        """How many channels a user has open in the whole broker, for a limit."""
        count = self.counts_of_user(name)[1]
        for counts in self._elsewhere.values():
            count += counts.get(name, (0, 0))[1]
        return count

    def note_elsewhere(self, shard: int, user: str, connections: int, channels: int) -> None:
        """The owner of another shard has so many of a user, or of all together."""
        self._elsewhere.setdefault(shard, {})[user] = connections, channels

    def forget_elsewhere(self, shard: int) -> None:
        """What the owner of another shard has is not known any more: it counts as nothing."""
        self._elsewhere.pop(shard, None)
