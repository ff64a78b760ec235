"""Random conversations of several clients with one broker: the steps, and who plays them.

A step is a small value that says what a client does next; a ``Stage`` plays it and then holds the broker's state
against its invariants. Holds no test.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import strategies as st
from pamqp import base, body, commands, frame, header, heartbeat

from amqp_broker.protocols.amqp091.states import ChannelState
from amqp_broker.wire.methods import METHOD_CLASSES
from tests.support.client import Client, Sendable, publish_frames, split
from tests.support.memory_broker import MemoryBroker

CLIENTS = 2
HIGH_WATER_BYTES = 4096
MESSAGE_BYTES_MAX = 20_000
FRAME_BYTES_MAX = 4096

# What is declared, always alike, so that declaring is seldom a mistake.
QUEUES: dict[str, dict[str, Any]] = {
    "a": {},
    "b": {"arguments": {"x-max-priority": 3}},
    "c": {"arguments": {"x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a"}},
    "d": {"arguments": {"x-max-length": 2, "x-dead-letter-exchange": "x"}},
    "e": {"arguments": {"x-max-length": 1, "x-overflow": "reject-publish"}},
    "f": {"arguments": {"x-max-length-bytes": 90, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": "y"}},
    "g": {"arguments": {"x-single-active-consumer": True, "x-expires": 100}},
    "h": {"arguments": {"x-queue-type": "quorum", "x-delivery-limit": 1}, "durable": True},
    "i": {"auto_delete": True, "arguments": {"x-message-ttl": 0, "x-dead-letter-exchange": "y"}},
    "j": {"exclusive": True},
}
EXCHANGES: dict[str, dict[str, Any]] = {
    "x": {"exchange_type": "direct", "arguments": {"alternate-exchange": "y"}},
    "y": {"exchange_type": "fanout", "auto_delete": True},
    "z": {"exchange_type": "topic", "internal": True},
}
REPLY_TO = "amq.rabbitmq.reply-to"

QUEUE_NAMES = st.sampled_from("aaabbcdefgghi")
ANY_QUEUE_NAMES = st.sampled_from([*QUEUES, "", REPLY_TO, "missing"])
EXCHANGE_NAMES = st.sampled_from(["", "", "", "amq.topic", "amq.fanout", "amq.headers", "amq.direct", "x", "y"])
ANY_EXCHANGE_NAMES = st.sampled_from(["", *EXCHANGES, "amq.fanout", "missing"])
BINDABLE_NAMES = st.sampled_from(["amq.topic", "amq.fanout", "amq.headers", "amq.direct", *EXCHANGES])
KEYS = st.sampled_from(["a", "a", "a", "b", "c", "d", "e", "f", "g", "h", "i", "", "a.b", "#", "*", "a.#"])
HEADERS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"h": 1},
        {"CC": ["a", "d"]},
        {"CC": ["a"], "BCC": ["b"]},
        {"x-death": "nonsense"},
        {"x-death": [{"queue": "a", "reason": "expired"}]},
    ]
)
BINDING_ARGUMENTS = st.sampled_from([{}, {"h": 1}, {"x-match": "any", "h": 1}])
BODIES = st.sampled_from([b"", b"x", b"y" * 40, b"z" * 3000, b"w" * 9000])
FLAGS = st.booleans()
SELDOM = st.sampled_from([False] * 7 + [True])

DECLARATIONS = st.one_of(
    QUEUE_NAMES.map(lambda name: commands.Queue.Declare(queue=name, **QUEUES[name])),
    QUEUE_NAMES.map(lambda name: commands.Queue.Declare(queue=name, nowait=True, **QUEUES[name])),
    st.just(commands.Queue.Declare(queue="", exclusive=True)),
    st.sampled_from(sorted(EXCHANGES)).map(lambda name: commands.Exchange.Declare(exchange=name, **EXCHANGES[name])),
    st.builds(
        commands.Queue.Bind,
        queue=QUEUE_NAMES,
        exchange=BINDABLE_NAMES,
        routing_key=KEYS,
        arguments=BINDING_ARGUMENTS,
    ),
    st.builds(commands.Exchange.Bind, destination=BINDABLE_NAMES, source=BINDABLE_NAMES, routing_key=KEYS),
)
REMOVALS = st.one_of(
    st.builds(
        commands.Queue.Unbind,
        queue=QUEUE_NAMES,
        exchange=BINDABLE_NAMES,
        routing_key=KEYS,
        arguments=BINDING_ARGUMENTS,
    ),
    st.builds(commands.Exchange.Unbind, destination=BINDABLE_NAMES, source=BINDABLE_NAMES, routing_key=KEYS),
    st.builds(commands.Queue.Purge, queue=QUEUE_NAMES),
    st.builds(commands.Queue.Delete, queue=QUEUE_NAMES, if_unused=SELDOM, if_empty=SELDOM, nowait=FLAGS),
    st.builds(commands.Exchange.Delete, exchange=st.sampled_from(sorted(EXCHANGES)), if_unused=SELDOM),
)
CONSUMING = st.one_of(
    st.builds(commands.Basic.Qos, prefetch_count=st.integers(0, 3), global_=SELDOM),
    st.builds(
        commands.Basic.Consume,
        queue=QUEUE_NAMES,
        consumer_tag=st.sampled_from(["", "s", "s", "t", "t"]),
        no_ack=SELDOM,
        exclusive=SELDOM,
        nowait=SELDOM,
        arguments=st.sampled_from([{}, {}, {"x-priority": 1}]),
    ),
    st.builds(commands.Basic.Consume, queue=QUEUE_NAMES, consumer_tag=st.sampled_from("st")),
    st.just(commands.Basic.Consume(queue=REPLY_TO, no_ack=True, consumer_tag="r")),
    st.builds(commands.Basic.Cancel, consumer_tag=st.sampled_from("rst"), nowait=FLAGS),
    st.builds(commands.Basic.Get, queue=QUEUE_NAMES, no_ack=SELDOM),
    st.builds(commands.Basic.Get, queue=QUEUE_NAMES),
    st.just(commands.Basic.Recover(True)),
)
CHANNEL_METHODS = st.sampled_from([commands.Channel.Close(200, "bye", 0, 0), commands.Channel.Flow(True)])
DELIVERY_TAGS = st.integers(0, 8) | st.just(2**40)
MISTAKES = st.one_of(
    st.sampled_from(
        [
            commands.Channel.Open(),
            commands.Channel.CloseOk(),
            commands.Connection.Close(200, "bye", 0, 0),
            commands.Connection.CloseOk(),
            commands.Connection.Open("/"),
            commands.Basic.Recover(False),
            commands.Basic.Qos(prefetch_size=1),
            commands.Queue.DeclareOk("a", 0, 0),
            commands.Connection.UpdateSecret("s", "r"),
            commands.Tx.Select(),
            commands.Tx.Commit(),
            commands.Confirm.Select(),
        ]
    ),
    st.builds(commands.Basic.Ack, delivery_tag=DELIVERY_TAGS, multiple=FLAGS),
    st.builds(commands.Basic.Nack, delivery_tag=DELIVERY_TAGS, multiple=FLAGS, requeue=FLAGS),
    st.builds(commands.Basic.Reject, delivery_tag=DELIVERY_TAGS, requeue=FLAGS),
    st.builds(
        commands.Queue.Declare,
        queue=ANY_QUEUE_NAMES,
        passive=FLAGS,
        exclusive=FLAGS,
        arguments=st.sampled_from([{}, {"x-message-ttl": "soon"}, {"x-max-length": 5}]),
    ),
    st.builds(
        commands.Exchange.Declare,
        exchange=ANY_EXCHANGE_NAMES,
        exchange_type=st.sampled_from(["direct", "headers", "odd"]),
        passive=FLAGS,
    ),
    st.builds(commands.Queue.Bind, queue=ANY_QUEUE_NAMES, exchange=ANY_EXCHANGE_NAMES, arguments=BINDING_ARGUMENTS),
    st.builds(commands.Exchange.Delete, exchange=ANY_EXCHANGE_NAMES),
    st.builds(commands.Queue.Delete, queue=ANY_QUEUE_NAMES),
    st.builds(commands.Basic.Consume, queue=ANY_QUEUE_NAMES, consumer_tag=st.sampled_from("st"), no_ack=FLAGS),
    st.builds(commands.Basic.Get, queue=ANY_QUEUE_NAMES),
)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 9),
        "expiration": st.sampled_from(["0", "30", "30", "600"]),
        "headers": HEADERS,
        "reply_to": st.just("a"),
        "user_id": st.just("guest"),
    },
)
WRONG_PROPERTIES = st.sampled_from(
    [{"user_id": "bob"}, {"expiration": "soon"}, {"headers": {"CC": "a"}}, {"reply_to": REPLY_TO}]
)


@dataclass(frozen=True)
class Step:
    """A client does something on a channel."""

    client: int
    channel: int


@dataclass(frozen=True)
class Call(Step):
    """It sends a method; politely, it first opens the channel if it must."""

    method: base.Frame
    is_polite: bool = True

    def __repr__(self) -> str:
        return f"Call({self.client}, {self.channel}, {self.method.name} {dict(self.method)}, {self.is_polite})"


@dataclass(frozen=True)
class Settle(Step):
    """It settles one of the deliveries that it has, if any; the index says which."""

    index: int
    method: type[commands.Basic.Ack | commands.Basic.Nack | commands.Basic.Reject]
    multiple: bool
    requeue: bool


@dataclass(frozen=True)
class Publish(Step):
    """It publishes; perhaps not all of the frames."""

    exchange: str
    key: str
    content: bytes
    properties: dict[str, Any]
    mandatory: bool
    frames_left_out: int


@dataclass(frozen=True)
class Raw(Step):
    """It sends a well-formed frame with any payload."""

    kind: int
    payload: bytes


@dataclass(frozen=True)
class Garbage(Step):
    """It sends any bytes."""

    data: bytes


@dataclass(frozen=True)
class Read(Step):
    """It reads what has come."""


@dataclass(frozen=True)
class Lose(Step):
    """Its connection is lost."""


@dataclass(frozen=True)
class Wait(Step):
    """Time passes."""

    duration_ms: int


WHO = {"client": st.sampled_from([0, 0, 1]), "channel": st.sampled_from([1, 2, 2, 3])}
PUBLISHES = st.builds(
    Publish,
    **WHO,
    exchange=EXCHANGE_NAMES,
    key=KEYS,
    content=BODIES,
    properties=PROPERTIES,
    mandatory=FLAGS,
    frames_left_out=st.just(0),
)
SETTLEMENTS = st.builds(
    Settle,
    **WHO,
    index=st.integers(0, 5),
    method=st.sampled_from([commands.Basic.Ack, commands.Basic.Nack, commands.Basic.Reject]),
    multiple=SELDOM,
    requeue=FLAGS,
)
POLITE_STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Read, **WHO),
    st.builds(Call, **WHO, method=DECLARATIONS),
    st.builds(Call, **WHO, method=CONSUMING),
    st.builds(Call, **WHO, method=CONSUMING),
    st.builds(Call, **WHO, method=CHANNEL_METHODS | REMOVALS),
    PUBLISHES,
    PUBLISHES,
    PUBLISHES,
    SETTLEMENTS,
    SETTLEMENTS,
    st.builds(
        Call,
        client=WHO["client"],
        channel=st.just(2),
        method=st.sampled_from([commands.Tx.Commit(), commands.Tx.Rollback()]),
    ),
    st.builds(Wait, **WHO, duration_ms=st.sampled_from([1, 30, 60, 1_000])),
)
METHOD_PAYLOADS = st.builds(
    lambda index, fields: struct.pack(">I", index) + fields,
    st.sampled_from(sorted(METHOD_CLASSES)),
    st.binary(max_size=30) | st.binary(max_size=6).map(lambda names: b"\0\0" + names + bytes(8)),
)
RUDE_STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Call, **WHO, method=MISTAKES),
    st.builds(Call, client=WHO["client"], channel=st.integers(0, 4), method=MISTAKES, is_polite=st.just(False)),
    st.builds(Call, client=WHO["client"], channel=st.integers(0, 4), method=CONSUMING, is_polite=FLAGS),
    st.builds(
        Publish,
        **WHO,
        exchange=ANY_EXCHANGE_NAMES,
        key=KEYS,
        content=BODIES,
        properties=PROPERTIES | WRONG_PROPERTIES,
        mandatory=FLAGS,
        frames_left_out=st.integers(0, 1),
    ),
    st.builds(
        Raw,
        client=WHO["client"],
        channel=st.integers(0, 4),
        kind=st.sampled_from([1, 1, 1, 2, 3, 8, 9]),
        payload=METHOD_PAYLOADS | st.binary(max_size=40),
    ),
    st.builds(Garbage, **WHO, data=st.binary(min_size=1, max_size=30)),
    st.builds(Lose, **WHO),
)


def programs(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    """Long programs as often as short ones; a list left to itself is mostly short."""
    return st.integers(1, 80).flatmap(lambda length: st.lists(steps, min_size=length, max_size=length))


# What a polite client says first on each of its channels: so there is always a transaction, and somebody with confirms.
SETUP_OF_CHANNEL: dict[int, list[base.Frame]] = {
    1: [],
    2: [commands.Tx.Select(), commands.Basic.Qos(prefetch_count=2)],
    3: [commands.Confirm.Select(), commands.Basic.Qos(prefetch_count=1)],
    4: [],
}


class Stage:
    """A broker, its clients, and what is always true of them."""

    client_type: ClassVar[type[Client]] = Client

    def __init__(self) -> None:
        self.broker = MemoryBroker(outbound_high_water_bytes=HIGH_WATER_BYTES, message_size_bytes_max=MESSAGE_BYTES_MAX)
        self.clients = [self._connect() for _ in range(CLIENTS)]
        self._prepare()

    def _connect(self) -> Client:
        return self.client_type(self.broker).open(frame_max=FRAME_BYTES_MAX)

    def _prepare(self) -> None:
        """All that a program declares is there already, so that a short one meets something."""
        channel = self.clients[0].channel(1)
        for name, properties in EXCHANGES.items():
            channel.exchange(name, properties["exchange_type"], properties.get("arguments"))
        for name, properties in QUEUES.items():
            channel.call(commands.Queue.Declare(queue=name, **properties))
        channel.bind("a", "y")

    def play(self, step: Step) -> None:
        """Do one step, and look whether all is well."""
        client = self.clients[step.client]
        match step:
            case Call():
                if step.is_polite:
                    self._make_ready(client, step.channel, step.method)
                client.send(step.method, channel=step.channel)
            case Settle():
                self._settle(client, step)
            case Publish():
                self._make_ready(client, step.channel)
                frames: list[Sendable] = publish_frames(
                    step.exchange, step.key, step.content, FRAME_BYTES_MAX, step.mandatory, **step.properties
                )
                client.send(*frames[: len(frames) - step.frames_left_out], channel=step.channel)
            case Raw():
                packed = struct.pack(">BHI", step.kind, step.channel, len(step.payload)) + step.payload
                client.send_bytes(packed + b"\xce")
            case Garbage():
                client.send_bytes(step.data)
            case Read():
                self.check_output(client)
            case Lose():
                client.connection.lost("reset by peer")
            case Wait():
                self.broker.advance(step.duration_ms)
        self.look()
        if client.is_finished():
            self.leave(step.client)

    def look(self) -> None:
        """See whether all is well between two steps."""
        self.broker.check_invariants()

    def _make_ready(self, client: Client, number: int, method: base.Frame | None = None) -> None:
        """Do first what makes it likely that a step is no mistake: open the channel, free the consumer tag."""
        if number == 0:
            return
        channel = client.connection.channels.get(number)
        if channel is None or channel.state is ChannelState.CLOSING:
            if channel is not None:
                client.send(commands.Channel.CloseOk(), channel=number)
            client.send(commands.Channel.Open(), *SETUP_OF_CHANNEL[number], channel=number)
            channel = client.connection.channels.get(number)
        if channel is None:
            return
        if isinstance(method, commands.Basic.Consume) and method.consumer_tag in channel.consuming.consumers:
            client.send(commands.Basic.Cancel(method.consumer_tag), channel=number)

    def _settle(self, client: Client, step: Settle) -> None:
        """Settle on the channel that the step names, or else on any that has something to settle."""
        channels = dict(client.connection.channels)
        named = channels.pop(step.channel, None)
        candidates = [one for one in [named, *channels.values()] if one is not None]
        channel = next((one for one in candidates if one.consuming.unacknowledged), named)
        if channel is None:
            return
        tags = [*sorted(channel.consuming.unacknowledged), 0]  # 0: all there are, perhaps none
        tag = tags[step.index % len(tags)]
        method = step.method(tag)
        if isinstance(method, commands.Basic.Ack | commands.Basic.Nack):
            method.multiple = step.multiple or tag == 0
        elif tag == 0:
            return
        if isinstance(method, commands.Basic.Nack | commands.Basic.Reject):
            method.requeue = step.requeue
        client.send(method, channel=channel.number)

    def check_output(self, client: Client) -> None:
        """All that comes is whole frames, none too large, that pamqp can read as well."""
        for raw in split(client.take_bytes()):
            assert len(raw.payload) + 8 <= FRAME_BYTES_MAX
            packed = struct.pack(">BHI", raw.kind, raw.channel, len(raw.payload)) + raw.payload + b"\xce"
            decoded = frame.unmarshal(packed)[2]
            assert isinstance(decoded, base.Frame | header.ContentHeader | body.ContentBody | heartbeat.Heartbeat)

    def leave(self, index: int) -> None:
        """A client goes, whatever it was doing, and another comes in its place."""
        client = self.clients[index]
        client.connection.lost("end of stream")
        self.check_output(client)
        assert client.is_finished()
        assert client.connection.channels == {}
        self.broker.connections.remove(client.connection)
        self.clients[index] = self._connect()

    def end(self) -> None:
        """All clients go: nothing that was theirs is left."""
        for index in range(CLIENTS):
            self.leave(index)
        self.broker.check_invariants()
        for queue in self.broker.virtual_host.queues.values():
            assert queue.unacknowledged_count == 0
            assert len(queue.consumers) == 0
            assert queue.owner is None
        assert self.broker.reply_consumers == {}


class PatientClient(Client):
    """A client whose bytes wait while the broker does not read them, as in a socket."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self._waiting: deque[bytes] = deque()

    def send_bytes(self, data: bytes) -> None:
        self._waiting.append(data)
        self.send_waiting()

    def send_waiting(self) -> None:
        """Let the broker read what it reads now."""
        while self._waiting and not self.connection.is_reading_paused:
            super().send_bytes(self._waiting.popleft())


class BusyStage(Stage):
    """The same while the broker is busy: between two steps it does one slice of what takes long."""

    client_type = PatientClient

    def __init__(self) -> None:
        super().__init__()
        self.broker.goes_on = False

    def look(self) -> None:
        if self.broker.is_unfinished:
            self.broker.go_on()
        self._read_on()
        if not self.broker.is_unfinished:
            super().look()

    def _read_on(self) -> None:
        for client in self.clients:
            assert isinstance(client, PatientClient)
            client.send_waiting()

    def end(self) -> None:
        while self.broker.is_unfinished:
            self.broker.go_on()
            self._read_on()
        self.broker.goes_on = True
        super().end()
