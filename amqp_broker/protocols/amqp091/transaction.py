"""The work that a transactional channel has put off: publishes, and settlements of messages it got.

At commit the publishes go first, then the settlements (RabbitMQ docs, "Broker Semantics"). A publish's route was
found when it came; its errors were reported then. Where an exchange on the way counts messages (a deduplicating one
does), the route is found at the commit: what is rolled back, or lost with a crash, has not been there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from amqp_broker.broker.message import Address, Digest
from amqp_broker.broker.observer import Settlement
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.errors import AmqpError, precondition_failed

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.virtual_host import VirtualHost


class Publication(NamedTuple):
    """A publish that was checked and routed."""

    queues: tuple[Queue, ...] | None  # None where they are found at the commit
    address: Address
    header: bytes
    body: bytes
    digest: Digest
    mandatory: bool
    number: int  # among the channel's publishes, from 1; 0 without confirms


Route = Callable[..., bool]  # returns whether all queues took it
Settle = Callable[[Settlement, list[Unacknowledged]], None]
Unsettle = Callable[[dict[int, Unacknowledged]], None]


class Transaction:
    """One transaction of a channel."""

    def __init__(self) -> None:
        self.settled_count = 0  # deliveries whose settlement was put off
        self._publications: list[Publication] = []
        self._settlements: list[tuple[Settlement, dict[int, Unacknowledged]]] = []

    @property
    def publication_count(self) -> int:
        """How many publishes were put off."""
        return len(self._publications)

    def publish(self, publication: Publication) -> None:
        """Put a publish off."""
        self._publications.append(publication)

    def settle(self, settlement: Settlement, deliveries: dict[int, Unacknowledged]) -> None:
        """Put an acknowledgement or rejection off; the deliveries can't be settled again meanwhile."""
        self._settlements.append((settlement, deliveries))
        self.settled_count += len(deliveries)

    def deliveries(self) -> list[Unacknowledged]:
        """The deliveries whose settlement was put off: until the commit they are nobody's but the client's."""
        return [delivery for _, deliveries in self._settlements for delivery in deliveries.values()]

    def commit(self, broker: Broker, virtual_host: VirtualHost, route: Route, settle: Settle) -> None:
        """Do all of it in one go, so that a crash finds all of it or nothing: what it rejects is dead-lettered here.

        Args:
            route: the channel's way of putting a publication into its queues; its arguments are the fields of one.
            settle: the channel's way of settling deliveries.

        Raises:
            AmqpError: 406, a queue refused one of the messages, or there was no finding out where one is to go.
        """
        accepted = True
        for publication in self._publications:
            exchange = virtual_host.exchanges.get(publication.address.exchange)
            try:
                queues = _queues_now(virtual_host, exchange, publication)
            except AmqpError:  # what a package brings fails, which is in the log
                accepted = False
                continue
            if exchange is not None:
                exchange.published_in += 1
                exchange.published_out += len(queues)
            accepted = route(*publication._replace(queues=queues)) and accepted
        for settlement, deliveries in self._settlements:
            settle(settlement, list(deliveries.values()))
        if self._has_rejections:
            broker.publish_dead_letters()
        if not accepted:
            raise precondition_failed("partial tx completion")

    @property
    def _has_rejections(self) -> bool:
        return any(settlement is Settlement.REJECTED for settlement, _ in self._settlements)

    def roll_back(self, unsettle: Unsettle) -> None:
        """Forget the publishes; what was settled is unacknowledged again, which ``unsettle`` sees to."""
        for _, deliveries in self._settlements:
            unsettle(deliveries)


def _queues_now(virtual_host: VirtualHost, exchange: Exchange | None, publication: Publication) -> tuple[Queue, ...]:
    """The queues that a publish is for, by their names: one may have gone since, or been declared again."""
    address = publication.address
    if publication.queues is None:
        if exchange is None:
            return ()
        keys, header, body, digest = address.routing_keys, publication.header, publication.body, publication.digest
        return virtual_host.ingress.route(exchange, keys, header, body, digest)
    holders = [queue for queue in publication.queues if queue.holds_back]
    names = [queue.name for queue in publication.queues if not queue.holds_back]
    wanted = dict.fromkeys(names if address.exchange else address.routing_keys)
    found = [virtual_host.queues.get(name) for name in wanted]
    return (*[queue for queue in found if queue is not None], *holders)
