"""The contents of a broker: virtual hosts, users, parameters of the whole, and the connections that are open.

Holds no rules about who may change it (``administration.py``), and does no work (``broker.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.access.users import User, Users
from amqp_broker.broker.connections import Connections
from amqp_broker.broker.counters import CountsByProtocol
from amqp_broker.broker.exchanges.registry import exchange_types
from amqp_broker.broker.firehose import Firehose
from amqp_broker.broker.parameters import Parameters
from amqp_broker.broker.ports import Clock, Driver
from amqp_broker.broker.problems import NotThere
from amqp_broker.broker.queues.registry import QueueTypes
from amqp_broker.broker.shared import Shared
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.compilation import mypyc_attr
from amqp_broker.settings import Settings

if TYPE_CHECKING:
    from amqp_broker.broker.event_exchange import EventExchange


@mypyc_attr(allow_interpreted_subclasses=True)
class Contents(Shared):
    """All that is in a broker by name; arguments as of ``Shared``."""

    def __init__(self, settings: Settings, clock: Clock, driver: Driver) -> None:
        super().__init__(settings, clock, driver)
        self.exchange_types = exchange_types()
        self.queue_types = QueueTypes()
        self.users = Users()
        self.virtual_hosts: dict[str, VirtualHost] = {}
        self.global_parameters: Parameters = {}
        self.open_connections = Connections()
        self.queues_elsewhere: dict[int, int] = {}  # by shard, what its owner has told (server/sharding/user_counts.py)
        self.firehose = Firehose(self.observers, self.finish_with, settings.node_name or settings.cluster_name)
        self.event_exchange: EventExchange | None = None  # where it is turned on, and its virtual host is here
        self.counts_of_deleted = CountsByProtocol()  # in virtual hosts that are gone

    def add_virtual_host(self, name: str, reference: int = 0) -> VirtualHost:
        """Create a virtual host with the predeclared exchanges.

        Args:
            reference: of its record, when it was read from the journal.
        """
        virtual_host = VirtualHost(self, name, self.exchange_types, self.queue_types)
        virtual_host.reference = reference
        if self.settings.event_exchange == "on" and name == self.settings.default_virtual_host:
            self._make_event_exchange(virtual_host)
        self.virtual_hosts[name] = virtual_host
        return virtual_host

    def _make_event_exchange(self, virtual_host: VirtualHost) -> None:
        from amqp_broker.broker.event_exchange import EventExchange  # only who wants it pays for it

        events = EventExchange(virtual_host, self)
        if self.event_exchange is not None:
            self.observers.remove(self.event_exchange)  # of a virtual host of the same name that is gone
        self.event_exchange = events
        self.observers.add(events, of_messages=False)

    def existing_virtual_host(self, name: str) -> VirtualHost:
        """Look a virtual host up.

        Raises:
            NotThere: there is none of that name.
        """
        virtual_host = self.virtual_hosts.get(name)
        if virtual_host is None:
            raise NotThere(f"there is no virtual host '{name}'")
        return virtual_host

    def existing_user(self, name: str) -> User:
        """Look a user up.

        Raises:
            NotThere: there is none of that name.
        """
        user = self.users.get(name)
        if user is None:
            raise NotThere(f"there is no user '{name}'")
        return user

    @property
    def cluster_name(self) -> str:
        """The name that an administrator gave the cluster, and else the setting."""
        chosen = self.global_parameters.get(("", "cluster_name"))
        if chosen is None or not isinstance(chosen.value, str):
            return self.settings.cluster_name
        return chosen.value

    def queue_count_here(self) -> int:
        """How many queues there are, without those of the other owners of a broker that is divided."""
        return sum(len(virtual_host.queues) for virtual_host in self.virtual_hosts.values())

    def queue_count(self) -> int:
        return self.queue_count_here() + sum(self.queues_elsewhere.values())
