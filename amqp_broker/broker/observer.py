"""Observers of a broker at work: traces, the broker inside tests. They see what happens and change nothing.

An observer has a method for each kind of event; ``Onlooker`` has them all and does nothing, for those who want a few.
``Observers`` are all that one broker has. Where something happens it is asked first whether anybody looks on, so that
nobody there costs one comparison; an event is put into words only for those who do.

Holds no counters (``counters.py``), which would cost too much this way.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from amqp_broker.compilation import mypyc_attr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from amqp_broker.broker.connections import OpenConnection
    from amqp_broker.broker.dead_letter import DeathReason
    from amqp_broker.broker.descriptions import ChannelInfo
    from amqp_broker.broker.host import Host
    from amqp_broker.broker.message import Address, Message
    from amqp_broker.broker.ports import Driver
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.queues.consumers import Consumer
    from amqp_broker.errors import AmqpError


class Channel(Protocol):
    """The channel on which a client publishes and consumes; a protocol without channels has what stands for one."""

    @property
    def number(self) -> int:
        """Among those of its connection, from 1."""
        ...

    @property
    def connection(self) -> OpenConnection:
        """Whose it is."""
        ...

    def inspect(self) -> ChannelInfo:
        """Describe it."""
        ...


class Passage:
    """A message on its way in: a client's publish, or a dead letter.

    Args:
        virtual_host: where.
        address: exchange and routing keys.
        header: the content header.
        body: the body.
        queues: that its route names; none when it went nowhere.
        accepted: by all of these; False when one refused it because it is full.
        error: it was refused with this before it was routed.

    ``is_cycle`` says of a dead letter that its route led to queues only where it had died.
    """

    __slots__ = ("accepted", "address", "body", "error", "header", "is_cycle", "queues", "virtual_host")

    # No NamedTuple: compiled, that would ask for the classes of its fields before their modules are there.
    def __init__(
        self,
        virtual_host: Host,
        address: Address,
        header: bytes,
        body: bytes,
        queues: Sequence[Queue],
        accepted: bool,
        error: AmqpError | None = None,
    ) -> None:
        self.virtual_host = virtual_host
        self.address = address
        self.header = header
        self.body = body
        self.queues = queues
        self.accepted = accepted
        self.error = error
        self.is_cycle = False


class Settlement(StrEnum):
    """The settlement of a delivery."""

    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    REQUEUED = "requeued"
    ABANDONED = "abandoned"  # its channel ended before the client said anything


class Kind(StrEnum):
    """A kind of thing that can be declared and deleted."""

    EXCHANGE = "exchange"
    QUEUE = "queue"
    BINDING = "binding"
    VIRTUAL_HOST = "virtual host"
    USER = "user"
    PERMISSION = "permission"
    TOPIC_PERMISSION = "topic permission"
    POLICY = "policy"  # an operator's, too
    PARAMETER = "parameter"


class Subject:
    """The thing that was declared or deleted.

    Args:
        kind: of what.
        virtual_host: its name; empty for a user, and for a virtual host itself.
        name: of a permission, its user's; of a binding, its source's.
        thing: as the broker has it: ``Exchange``, ``Queue``, ``Binding``, ``VirtualHost``, ``User``, ``Permission``.
    """

    __slots__ = ("kind", "name", "thing", "virtual_host")

    def __init__(self, kind: Kind, virtual_host: str, name: str, thing: object) -> None:
        self.kind = kind
        self.virtual_host = virtual_host
        self.name = name
        self.thing = thing


class Happening:
    """An event that is told by name, as RabbitMQ's are: ``user.tags.set``, ``consumer.created``.

    Args:
        name: of the event.
        details: all that there is to say.
        by: the user who did it; empty for the broker.
    """

    __slots__ = ("by", "details", "name")

    def __init__(self, name: str, details: Mapping[str, Any], by: str) -> None:
        self.name = name
        self.details = details
        self.by = by


class Observer(Protocol):
    """An observer of the broker. It is called in the middle of the broker's work, and must ask for no more of it."""

    def published(self, channel: Channel, passage: Passage) -> None:
        """A client's publish was routed, or refused."""

    def delivered(
        self, channel: Channel, queue: Queue, message: Message, consumer: Consumer | None, *, no_ack: bool
    ) -> None:
        """A message went to a client; without a consumer, the client asked for it by ``basic.get``."""

    def settled(self, channel: Channel, queue: Queue, messages: Sequence[Message], settlement: Settlement) -> None:
        """Deliveries of a queue are settled."""

    def died(self, queue: Queue, message: Message, reason: DeathReason, passage: Passage | None) -> None:
        """A message died in a queue and has left it: as a dead letter, or for good."""

    def refused(self, connection: OpenConnection, error: AmqpError) -> None:
        """A client is told of an error, which ends its channel or connection; it need not have logged in."""

    def opened(self, connection: OpenConnection, channel: Channel | None) -> None:
        """A connection is open or, where one is given, a channel of it."""

    def closed(self, connection: OpenConnection, channel: Channel | None, reason: str) -> None:
        """It has ended; channels that are open go with their connection, and are still there when it is told."""

    def declared(self, subject: Subject, by: str) -> None:
        """Something was created or, as users and permissions can be, changed; by this user, empty for the broker."""

    def deleted(self, subject: Subject, by: str) -> None:
        """Something was deleted, or has gone by itself."""

    def happened(self, happening: Happening) -> None:
        """Something else happened: to a user, a consumer, an alarm, a login."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Onlooker:
    """An observer to derive from: it takes no notice of anything."""

    def published(self, channel: Channel, passage: Passage) -> None:
        """See ``Observer``, as for all of these."""

    def delivered(
        self, channel: Channel, queue: Queue, message: Message, consumer: Consumer | None, *, no_ack: bool
    ) -> None:
        """Take no notice."""

    def settled(self, channel: Channel, queue: Queue, messages: Sequence[Message], settlement: Settlement) -> None:
        """Take no notice."""

    def died(self, queue: Queue, message: Message, reason: DeathReason, passage: Passage | None) -> None:
        """Take no notice."""

    def refused(self, connection: OpenConnection, error: AmqpError) -> None:
        """Take no notice."""

    def opened(self, connection: OpenConnection, channel: Channel | None) -> None:
        """Take no notice."""

    def closed(self, connection: OpenConnection, channel: Channel | None, reason: str) -> None:
        """Take no notice."""

    def declared(self, subject: Subject, by: str) -> None:
        """Take no notice."""

    def deleted(self, subject: Subject, by: str) -> None:
        """Take no notice."""

    def happened(self, happening: Happening) -> None:
        """Take no notice."""


class Observers:
    """All who look on at one broker. One that raises is told to the driver, and harms neither the others nor clients.

    Args:
        driver: told what an observer has raised.
    """

    def __init__(self, driver: Driver) -> None:
        self.present = False  # whether there is any for messages: to be asked before what happens to one is told
        self.present_for_changes = False  # whether there is any at all: to be asked before anything else is told
        self._driver = driver
        self._observers: tuple[Observer, ...] = ()
        self._of_messages: tuple[Observer, ...] = ()

    def add(self, observer: Observer, *, of_messages: bool = True) -> None:
        """Tell somebody everything from now on, after those who were here before.

        Args:
            of_messages: also what happens to messages, which costs something for each.
        """
        self._observers = (*self._observers, observer)
        if of_messages:
            self._of_messages = (*self._of_messages, observer)
        self._look()

    def remove(self, observer: Observer) -> None:
        """Tell somebody nothing more."""
        self._observers = tuple([other for other in self._observers if other is not observer])
        self._of_messages = tuple([other for other in self._of_messages if other is not observer])
        self._look()

    def _look(self) -> None:
        self.present = bool(self._of_messages)
        self.present_for_changes = bool(self._observers)

    def _tell(self, event: Callable[[Observer], None], observers: tuple[Observer, ...]) -> None:
        for observer in observers:
            try:
                event(observer)
            except (Exception, SystemExit) as error:
                self._driver.observer_failed(observer, error)

    def published(self, channel: Channel, passage: Passage) -> None:
        """A publish was routed, or refused."""
        self._tell(lambda observer: observer.published(channel, passage), self._of_messages)

    def delivered(
        self, channel: Channel, queue: Queue, message: Message, consumer: Consumer | None, *, no_ack: bool
    ) -> None:
        """A message went to a client."""
        self._tell(
            lambda observer: observer.delivered(channel, queue, message, consumer, no_ack=no_ack), self._of_messages
        )

    def settled(self, channel: Channel, queue: Queue, messages: Sequence[Message], settlement: Settlement) -> None:
        """Deliveries are settled."""
        self._tell(lambda observer: observer.settled(channel, queue, messages, settlement), self._of_messages)

    def died(self, queue: Queue, message: Message, reason: DeathReason, passage: Passage | None) -> None:
        """A message died."""
        self._tell(lambda observer: observer.died(queue, message, reason, passage), self._of_messages)

    def refused(self, connection: OpenConnection, error: AmqpError) -> None:
        """A client is told of an error."""
        self._tell(lambda observer: observer.refused(connection, error), self._observers)

    def opened(self, connection: OpenConnection, channel: Channel | None = None) -> None:
        """A connection or a channel is open."""
        self._tell(lambda observer: observer.opened(connection, channel), self._observers)

    def closed(self, connection: OpenConnection, channel: Channel | None, reason: str) -> None:
        """A connection or a channel has ended."""
        self._tell(lambda observer: observer.closed(connection, channel, reason), self._observers)

    def declared(self, kind: Kind, virtual_host: str, name: str, thing: object, by: str) -> None:
        """Something was created or changed."""
        subject = Subject(kind, virtual_host, name, thing)
        self._tell(lambda observer: observer.declared(subject, by), self._observers)

    def deleted(self, kind: Kind, virtual_host: str, name: str, thing: object, by: str) -> None:
        """Something was deleted."""
        subject = Subject(kind, virtual_host, name, thing)
        self._tell(lambda observer: observer.deleted(subject, by), self._observers)

    def happened(self, name: str, details: Mapping[str, Any], by: str) -> None:
        """Something else happened."""
        happening = Happening(name, details, by)
        self._tell(lambda observer: observer.happened(happening), self._observers)
