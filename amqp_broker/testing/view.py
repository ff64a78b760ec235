"""The view that a test has of one virtual host, without consuming, and without waiting longer than the traffic needs.

Holds the questions only. Faults are in ``faults.py``, the clock in ``clock.py``, the picture for people in
``picture.py``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.inspection import Inspection
from amqp_broker.broker.message import Message as HeldMessage
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.network.listeners import bracketed
from amqp_broker.session.connection import ClientConnection
from amqp_broker.session.one_channel import OneChannelConnection
from amqp_broker.testing.engine import Engine, NotRunning
from amqp_broker.testing.picture import draw
from amqp_broker.testing.ready_messages import ready_messages
from amqp_broker.testing.records import Message, Published, message_seen
from amqp_broker.testing.runners import Runner

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class ConnectionSeen:
    """A client's open connection, of any protocol.

    ``channel_count`` is the number of channels, or of sessions of AMQP 1.0, and 0 in a protocol that has neither.
    """

    peer: str
    user: str
    virtual_host: str
    channel_count: int
    consumer_tags: tuple[str, ...]
    unacknowledged_count: int
    protocol: str  # with its version, as lists of connections show it


class BindingSeen(NamedTuple):
    """A binding; ``destination_kind`` is ``queue`` or ``exchange``."""

    source: str
    destination_kind: str
    destination: str
    routing_key: str
    arguments: dict[str, Any]


class View:
    """One virtual host of a broker.

    Every question is answered as of now: what clients have sent so far is handled before.

    Args:
        engine: the broker.
        runner: how to reach it.
        virtual_host: its name.
    """

    def __init__(self, engine: Engine, runner: Runner, virtual_host: str) -> None:
        self._engine = engine
        self._runner = runner
        self.virtual_host = virtual_host

    def __repr__(self) -> str:
        where = self.url if self._engine.is_running else "not running"
        return f"<{type(self).__name__} {where}>"

    # --- how clients find it

    @property
    def host(self) -> str:
        """The address that it listens on, the first where there are several."""
        host = self._engine.settings.host[0]
        return "127.0.0.1" if host == "*" else host

    @property
    def port(self) -> int:
        """The port that it listens on; a restart keeps it.

        Raises:
            NotRunning: it was not started yet, and is to listen on any port that is free.
        """
        port = self._engine.settings.port
        if not port:
            raise NotRunning
        return port

    @property
    def url(self) -> str:
        """What a client connects to, user, password and virtual host included."""
        settings = self._engine.settings
        user, password = quote(settings.default_user, safe=""), quote(settings.default_password, safe="")
        return f"amqp://{user}:{password}@{bracketed(self.host)}:{self.port}/{quote(self.virtual_host, safe='')}"

    @property
    def management_url(self) -> str:
        """Where the HTTP API is, without user and password.

        Raises:
            NotRunning: there is none: start it with ``Broker(management_port=0)``.
        """
        settings = self._engine.settings
        if settings.management_port <= 0:
            raise _missing("has no HTTP API", "management_port", 0)
        return f"http://{bracketed(settings.management_host[0])}:{settings.management_port}"

    @property
    def mqtt_url(self) -> str:
        """What an MQTT client connects to; the virtual host is a part of the user name, as RabbitMQ has it.

        Raises:
            NotRunning: it does not listen for MQTT: start it with ``Broker(protocols=["mqtt"])``.
        """
        settings = self._engine.settings
        if settings.mqtt_port <= 0:
            raise _missing("does not listen for MQTT", "protocols", "mqtt")
        user = quote(f"{self.virtual_host}:{settings.default_user}", safe="")
        password = quote(settings.default_password, safe="")
        return f"mqtt://{user}:{password}@{bracketed(self.host)}:{settings.mqtt_port}"

    @property
    def stomp_url(self) -> str:
        """What a STOMP client connects to; the path is the virtual host, which the client says in the header ``host``.

        Raises:
            NotRunning: it does not listen for STOMP: start it with ``Broker(protocols=["stomp"])``.
        """
        settings = self._engine.settings
        if settings.stomp_port <= 0:
            raise _missing("does not listen for STOMP", "protocols", "stomp")
        user, password = quote(settings.default_user, safe=""), quote(settings.default_password, safe="")
        path = quote(self.virtual_host, safe="")
        return f"stomp://{user}:{password}@{bracketed(self.host)}:{settings.stomp_port}/{path}"

    @property
    def stream_url(self) -> str:
        """What a client of RabbitMQ's stream protocol connects to; the path is the virtual host.

        Raises:
            NotRunning: it does not listen for it: start it with ``Broker(protocols=["streams"])``.
        """
        settings = self._engine.settings
        if settings.stream_port <= 0:
            raise _missing("does not listen for streams", "protocols", "streams")
        user, password = quote(settings.default_user, safe=""), quote(settings.default_password, safe="")
        path = quote(self.virtual_host, safe="")
        return f"rabbitmq-stream://{user}:{password}@{bracketed(self.host)}:{settings.stream_port}/{path}"

    @property
    def web_socket_url(self) -> str:
        """What a client of web sockets connects to; it says by a sub-protocol what it speaks: mqtt, v12.stomp, amqp.

        Raises:
            NotRunning: it does not listen for web sockets: start it with ``Broker(protocols=["web-sockets"])``.
        """
        settings = self._engine.settings
        if settings.web_socket_port <= 0:
            raise _missing("has no web sockets", "protocols", "web-sockets")
        return f"ws://{bracketed(self.host)}:{settings.web_socket_port}/ws"

    # --- queues, exchanges, bindings

    def queue(self, name: str) -> QueueView:
        """A queue by its name; it need not exist yet."""
        return QueueView(self, name)

    @property
    def queues(self) -> tuple[str, ...]:
        """The names of all queues."""
        return self._ask(lambda virtual_host: tuple(virtual_host.queues))

    @property
    def exchanges(self) -> tuple[str, ...]:
        """The names of all exchanges but those that every virtual host has."""
        return self._ask(
            lambda virtual_host: tuple(name for name in virtual_host.exchanges if name and not name.startswith("amq."))
        )

    @property
    def bindings(self) -> tuple[BindingSeen, ...]:
        """All bindings, but for those of the default exchange."""

        def bindings(virtual_host: VirtualHost) -> tuple[BindingSeen, ...]:
            return tuple(
                BindingSeen(
                    binding["source"],
                    binding["destination_type"],
                    binding["destination"],
                    binding["routing_key"],
                    binding["arguments"],
                )
                for binding in Inspection(self._engine.broker).bindings(virtual_host.name)
            )

        return self._ask(bindings)

    # --- messages

    @property
    def published(self) -> list[Published]:
        """What clients have published, the oldest first, with where it went and why it went nowhere."""
        return [entry for entry in self._remembered() if entry.died_in is None]

    @property
    def unrouted_count(self) -> int:
        """How many publishes reached no queue, though the test has ordered no fault for them."""
        return self._ask(lambda virtual_host: self._engine.watch.of(virtual_host.name).unrouted.count)

    @property
    def unrouted(self) -> list[Published]:
        """The first ten of them, also when ``published`` has forgotten them."""
        return self._ask(lambda virtual_host: list(self._engine.watch.of(virtual_host.name).unrouted.first))

    @property
    def dead_letters(self) -> list[Published]:
        """What died in queues that have a dead-letter exchange, the oldest first, with where it went from there."""
        return [entry for entry in self._remembered() if entry.died_in is not None]

    def _remembered(self) -> list[Published]:
        return self._ask(lambda virtual_host: list(self._engine.watch.of(virtual_host.name).remembered))

    # --- clients

    @property
    def connections(self) -> list[ConnectionSeen]:
        """The clients that are connected."""

        def connections(virtual_host: VirtualHost) -> list[ConnectionSeen]:
            tags = _consumer_tags(self._engine.broker, virtual_host.name)
            return [
                _connection_seen(connection, tags[connection.peer.connection_name])
                for connection in self._engine.connections(virtual_host.name)
            ]

        return self._ask(connections)

    @property
    def errors(self) -> list[str]:
        """The last hundred errors that clients were told of when their channel or connection was closed."""
        return self._ask(lambda virtual_host: list(self._engine.watch.of(virtual_host.name).errors))

    @property
    def unacknowledged(self) -> dict[str, int]:
        """By queue, how many messages clients have and did not acknowledge yet; also of queues that were deleted."""

        def unacknowledged(virtual_host: VirtualHost) -> dict[str, int]:
            counts = Counter({queue.name: queue.unacknowledged_count for queue in virtual_host.queues.values()})
            for connection in self._engine.connections(virtual_host.name):
                counts.update(
                    delivery.queue.name
                    for _, deliveries in connection.unacknowledged()
                    for delivery in deliveries
                    if virtual_host.queues.get(delivery.queue.name) is not delivery.queue
                )
            return dict(+counts)

        return self._ask(unacknowledged)

    @property
    def given_back(self) -> dict[str, int]:
        """By queue, how many messages came back because their channel ended without settling them, though the test has
        ordered no fault that ended it.
        """
        return self._ask(lambda virtual_host: dict(self._engine.watch.of(virtual_host.name).given_back))

    @property
    def left_open(self) -> list[str]:
        """The peers whose connections ended while they had open channels, by no fault that the test has ordered."""
        return self._ask(lambda virtual_host: list(self._engine.watch.of(virtual_host.name).channels_left_open))

    def picture(self) -> str:
        """All of it in a few lines for people: exchanges, bindings, queues, consumers, the last messages."""
        engine = self._engine
        return self._ask(lambda host: draw(host, engine.connections(host.name), engine.watch.of(host.name)))

    def _never_was(self, answer: object, timeout_s: float) -> TimeoutError:
        return TimeoutError(f"still {answer!r} after {timeout_s:g} s:\n{self.picture()}")

    # --- how it is asked

    def _ask(self, question: Callable[[VirtualHost], Answer]) -> Answer:
        def ask() -> Answer:
            virtual_host = self._engine.broker.virtual_hosts.get(self.virtual_host)
            if virtual_host is None:
                raise LookupError(f"there is no virtual host '{self.virtual_host}'")
            return question(virtual_host)

        return self._runner.look(ask)


def _missing(what: str, setting: str, value: object) -> NotRunning:
    """What tells a test that a setting is missing, and where it stands with the fixture and without."""
    line = f"{setting} = {value}"
    return NotRunning(
        f"the broker {what}: start it with Broker({setting}={value!r}), or for the fixture write '{line}' below "
        "amqp_settings in the ini file"
    )


def _consumer_tags(broker: Broker, virtual_host: str) -> defaultdict[str, list[str]]:
    """The tags of the consumers by the names of their connections, in the order of their channels."""
    tags: defaultdict[str, list[str]] = defaultdict(list)
    consumers = Inspection(broker).consumers(virtual_host)
    for consumer in sorted(consumers, key=lambda consumer: consumer["channel"]["number"]):
        tags[consumer["channel"]["connection_name"]].append(consumer["consumer_tag"])
    return tags


def _connection_seen(connection: ClientConnection, consumer_tags: list[str]) -> ConnectionSeen:
    info = connection.inspect()
    return ConnectionSeen(
        peer=str(connection.peer),
        user=info["user"],
        virtual_host=info["vhost"],
        channel_count=0 if isinstance(connection, OneChannelConnection) else info["channels"],
        consumer_tags=tuple(consumer_tags),
        unacknowledged_count=sum(channel["messages_unacknowledged"] for channel in connection.inspect_channels()),
        protocol=info["protocol"],
    )


class QueueView:
    """One queue. Each property raises LookupError while there is no such queue, but for ``exists``.

    Args:
        view: of its virtual host.
        name: its name.
    """

    def __init__(self, view: View, name: str) -> None:
        self._view = view
        self.name = name

    def __repr__(self) -> str:
        return f"<queue '{self.name}'>"

    @property
    def exists(self) -> bool:
        """Whether there is such a queue."""
        return self.name in self._view.queues

    @property
    def messages(self) -> list[Message]:
        """The messages that are ready, the next one first, in a stream all; they stay where they are."""
        engine = self._view._engine

        def messages(queue: Queue) -> list[Message]:
            ready = ready_messages(engine.broker, queue)
            return [message_seen(message, queue.header_to_deliver(message)) for message in ready]

        return self._ask(messages)

    @property
    def bodies(self) -> list[bytes]:
        """Their bodies."""
        return [message.body for message in self.messages]

    @property
    def unacknowledged(self) -> list[Message]:
        """The messages that clients have and did not acknowledge yet."""
        engine = self._view._engine

        def unacknowledged(queue: Queue) -> list[Message]:
            held: list[HeldMessage] = [
                delivery.message
                for connection in engine.connections(self._view.virtual_host)
                for _, deliveries in connection.unacknowledged()
                for delivery in deliveries
                if delivery.queue is queue
            ]
            return [message_seen(message) for message in sorted(held, key=lambda message: message.position)]

        return self._ask(unacknowledged)

    @property
    def message_count(self) -> int:
        """How many messages are ready."""
        return self._ask(lambda queue: queue.ready_count)

    @property
    def unacknowledged_count(self) -> int:
        """How many messages clients have and did not acknowledge yet."""
        return self._ask(lambda queue: queue.unacknowledged_count)

    @property
    def consumers(self) -> tuple[str, ...]:
        """The tags of its consumers."""
        return self._ask(lambda queue: tuple(consumer.tag for consumer in queue.consumers))

    @property
    def durable(self) -> bool:
        """Whether its definition outlives the broker."""
        return self._ask(lambda queue: queue.durable)

    @property
    def arguments(self) -> dict[str, Any]:
        """Its arguments as they were declared."""
        return self._ask(lambda queue: dict(queue.table))

    def _ask(self, question: Callable[[Queue], Answer]) -> Answer:
        def ask(virtual_host: VirtualHost) -> Answer:
            queue = virtual_host.queues.get(self.name)
            if queue is None:
                there_are = ", ".join(f"'{name}'" for name in virtual_host.queues) or "none at all"
                raise LookupError(f"there is no queue '{self.name}'; there are: {there_are}")
            return question(queue)

        return self._view._ask(ask)
