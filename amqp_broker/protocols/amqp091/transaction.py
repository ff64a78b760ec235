"""The work that a transactional channel has put off: publishes, and settlements of messages it got.

At commit the publishes go first, then the settlements (RabbitMQ docs, "Broker Semantics"). A publish's route was
found when it came; its errors were reported then. Where an exchange on the way counts messages (a deduplicating one
does), the route is found at the commit: what is rolled back, or lost with a crash, has not been there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from amqp_broker.broker.message import Address, Digest
from amqp_broker.broker.observer import Settlement
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.unacknowledged import Unacknowledged
from amqp_broker.errors import AmqpError, precondition_failed

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.virtual_host import VirtualHost

PUBLISH_EFFORT: Final = 1  # beside one for each queue (``works.py``)


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
Settle = Callable[[Settlement, list[Unacknowledged]], Iterator[None]]  # in slices
Unsettle = Callable[[dict[int, Unacknowledged]], None]


class Transaction:
    """One transaction of a channel."""

    def __init__(self) -> None:
        self.settled_count = 0  # deliveries whose settlement was put off
        self.is_accepted = False  # whether it is committed, and no queue refused one of its messages
        self._is_refused = False
        self._publications: deque[Publication] = deque()
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

    def commit(self, broker: Broker, virtual_host: VirtualHost, route: Route, settle: Settle) -> Iterator[None]:
        """Do all of it, in slices where it is much; what it rejects is dead-lettered here. Then ``check_accepted``.

        A crash finds all of it or nothing: until all is done, nothing is written. While another transaction is under
        way it is done in one go, or those who wait for the disk would wait for one after the other.

        Args:
            route: the channel's way of putting a publication into its queues; its arguments are the fields of one.
            settle: the channel's way of settling deliveries.
        """
        slices = chain(self._publish_all(broker, virtual_host, route), self._settle_all(broker, settle))
        if broker.durability.hold():
            try:
                yield from slices
            finally:
                broker.durability.release()
        else:
            for _ in slices:
                pass
        self.is_accepted = not self._is_refused

    def check_accepted(self) -> None:
        """See that all was done.

        Raises:
            AmqpError: 406, a queue refused one of the messages, or there was no finding out where one is to go.
        """
        if not self.is_accepted:
            raise precondition_failed("partial tx completion")

    def _publish_all(self, broker: Broker, virtual_host: VirtualHost, route: Route) -> Iterator[None]:
        effort = 0
        publications = self._publications
        while publications:
            if effort >= broker.works.slice_messages:
                effort = 0
                yield
            publication = publications.popleft()  # else all of them would be given free in one go
            effort += PUBLISH_EFFORT
            exchange = virtual_host.exchanges.get(publication.address.exchange)
            try:
                queues = _queues_now(virtual_host, exchange, publication)
            except AmqpError:  # what a package brings fails, which is in the log
                self._is_refused = True
                continue
            effort += len(queues)
            if exchange is not None:
                exchange.published_in += 1
                exchange.published_out += len(queues)
            if not route(*publication._replace(queues=queues)):
                self._is_refused = True

    def _settle_all(self, broker: Broker, settle: Settle) -> Iterator[None]:
        effort = 0
        for settlement, deliveries in self._settlements:
            if effort >= broker.works.slice_messages:
                effort = 0
                yield
            effort += len(deliveries)
            yield from settle(settlement, list(deliveries.values()))
            if settlement is Settlement.REJECTED:
                yield from broker.publish_dead_letters_in_slices()

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
