"""Hypothesis's side: random programs, with names from small pools, so that what one operation does matters to the next.

A program begins with queues, exchanges and bindings; what follows uses mostly what is there, with arguments that are
right, and in one operation of twelve anything at all. What is time-dependent expires at once or never. Half of the
programs have a leaning: transactions, quorum queues, several consumers of few queues.

Not here: streams and plugins' exchange types, which only one of the two brokers has; and what would end in differences
that are listed and have no one place where they show (interop/differences.py): in a program with a quorum queue that
refuses publishers all publish on one channel (quorum-refusal-per-channel), and one that limits deliveries of a quorum
queue has no prefetch (quorum-credit).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from interop.codec import T
from interop.fuzz.player import EXCHANGES, LAST_REPLY_TO, ODD_NAME, QUEUES
from interop.fuzz.program import ABORT, CHANNELS_EACH_CONNECTION, Operation, Program, op
from interop.raw_client import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx

Draw = Callable[[st.SearchStrategy[Any]], Any]
Values = dict[str, tuple[Any, ...]]

A_DAY_MS = 86_400_000
WILD_PERCENT = 8

BUILT_IN_EXCHANGES = ("amq.direct", "amq.fanout", "amq.topic", "amq.match", "amq.headers")
ANY_QUEUE = (*QUEUES, "", "amq.q", ODD_NAME)
ANY_EXCHANGE = (*EXCHANGES, *BUILT_IN_EXCHANGES, "", "amq.x", "amq.rabbitmq.trace", ODD_NAME)
KEYS = ("a", "a.b", "q0", "q1", "a.b.c", "", "é", ".", "b")
BINDING_KEYS = ("a", "#", "a.#", "*.b", "a.b", "*", "", "#.b.#", "q0", "é", "*.*", "#.c")
CONSUMER_TAGS = ("c0", "c1", "c2", "c3", "c4", "c5", "")
WRONG_VALUES = (
    T("S", "1"), T("S", ""), T("I", -1), T("I", 0), T("l", 2**40), T("l", 315_360_000_001), T("t", True), T("d", 1.5),
    T("V", None), T("A", []), T("F", {}), T("b", 1), T("s", 2), T("B", 255), T("x", b"bytes"), T("D", (1, 25)),
    T("T", 1),
)  # fmt: skip

LIMITS: Values = {
    "x-max-length": (1, 2, 3, 0),
    "x-max-length-bytes": (4, 0, 8),
    "x-overflow": ("drop-head", "reject-publish", "reject-publish-dlx"),
}
DEAD_LETTERING: Values = {
    "x-dead-letter-exchange": ("", "x0", "x1", "amq.fanout"),
    "x-dead-letter-routing-key": ("q0", "q1", "q2", "a"),
}
OTHER_QUEUE_ARGUMENTS: Values = {
    "x-message-ttl": (0, A_DAY_MS, T("l", 315_360_000_000)),
    "x-expires": (A_DAY_MS,),
    "x-max-priority": (2, 1, 5, 255),
    "x-single-active-consumer": (True, False),
    "x-queue-mode": ("lazy", "default"),
    "x-queue-version": (1, 2),
    "x-delivery-limit": (0, 1, 2),
    "x-queue-master-locator": ("min-masters", "client-local"),
    "x-unknown": (1, "text"),
    "x-queue-type": ("classic",),
}
ALL_QUEUE_ARGUMENTS: Values = {
    **LIMITS, **DEAD_LETTERING, **OTHER_QUEUE_ARGUMENTS,
    "x-overflow": (*LIMITS["x-overflow"], "drop-tail"),
    "x-max-priority": (2, 256, 0),
    "x-queue-type": ("classic", "quorum", "other"),
    "x-queue-mode": ("lazy", "other"),
    "x-queue-version": (1, 3),
    "x-expires": (0, A_DAY_MS),
    "x-consumer-timeout": (A_DAY_MS,),
}  # fmt: skip

HEADERS: Values = {
    "h": (1, 1, "1", T("l", 1), T("d", 1.0), True, T("V", None)),
    "g": ("s", "s", 2, T("x", b"s")),
    "x-h": (1, 1, "s"),
}
MATCHES = ("all", "any", "all-with-x", "any-with-x")
MESSAGE_HEADERS: Values = {
    **HEADERS,
    "CC": (["q1"], ["q0", "q1"], ["a"], []),
    "BCC": (["q2"], ["q0"], ["a.b"]),
    "nested": ({"a": [1, {"b": "c"}]}, [], T("D", (2, 314)), T("T", 5), T("f", 0.5)),
    "x-death": ("wrong", []),
}
WRONG_MESSAGE_HEADERS: Values = {"CC": ("q1", [1], T("V", None)), "BCC": ("q1", [1]), **MESSAGE_HEADERS}
PROPERTIES: Values = {
    "priority": (1, 2, 0, 5, 255),
    "expiration": ("0", "0", str(A_DAY_MS)),
    "user_id": ("guest",),
    "reply_to": ("q0", "amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to"),
    "correlation_id": ("1", ""),
    "message_id": ("m", ""),
    "content_type": ("text/plain",),
    "content_encoding": ("gzip",),
    "timestamp": (0, 1_700_000_000),
    "message_type": ("t",),
    "app_id": ("app",),
    "cluster_id": ("c",),
}
WRONG_PROPERTIES: Values = {
    **PROPERTIES,
    "delivery_mode": (0, 3, 1),
    "expiration": ("abc", "-1", "", "1.5", "315360000001", " 1", "1 "),
    "user_id": ("bob", ""),
    "reply_to": ("", "amq.rabbitmq.reply-to"),
}

# Made once: making a strategy takes longer than drawing from it.
_UP_TO = [st.integers(0, last) for last in range(256)]


class _Author:
    """Draws one operation after another, and remembers roughly what there will be."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._wild = False
        self._channel = 0
        self._queues: list[str] = []
        self._exchanges: list[str] = []
        self._consumers: list[tuple[int, str]] = []
        self._receiving: list[int] = []
        self._transactional: set[int] = set()
        self._leaning = self.choose(_LEANINGS)
        self._has_prefetch = False
        self._limits_deliveries = False
        self._refuses_publishers = False

    # Chances

    def chance(self, percent: int) -> bool:
        """True this often."""
        return bool(self._draw(_UP_TO[99]) >= 100 - percent)

    def choose(self, items: Any) -> Any:
        return items[self._draw(_UP_TO[len(items) - 1])]

    def flags(self, **percents: int) -> dict[str, bool]:
        """Those flags that are set."""
        return {name: True for name, percent in percents.items() if self.chance(percent)}

    def some(self, values: Values, percent: int, *, typed: bool = True) -> dict[str, Any]:
        """A few of these keys, each with one of its values; in a wild operation also with a value of another type."""
        chosen: dict[str, Any] = {}
        names = tuple(values)
        while self.chance(percent):
            name = self.choose(names)
            chosen[name] = self.choose(WRONG_VALUES if typed and self._wild and self.chance(40) else values[name])
        return chosen

    # The whole

    def operation(self, index: int) -> Operation:
        """The next one."""
        self._wild = index > 4 and self.chance(WILD_PERCENT)
        self._channel = self.choose(_CHANNELS)
        if index < len(_OPENING):
            make = _OPENING[index]
        else:
            make = self.choose(_WILD_WEIGHTED if self._wild else self._leaning.weighted)
        operation: Operation = make(self)
        if operation.method is Basic.Publish:
            operation.fields["body"] = f"m{index}".encode()  # its own, so that messages can be told apart
        return operation

    def op(self, method: Any, **fields: Any) -> Operation:
        return op(self._channel, method, **fields)

    def queue(self) -> str:
        if self._wild and self.chance(50):
            return str(self.choose(ANY_QUEUE))
        return str(self.choose(self._queues or QUEUES))

    def exchange(self) -> str:
        if self._wild and self.chance(50):
            return str(self.choose(ANY_EXCHANGE))
        return str(self.choose([*self._exchanges, self.choose(BUILT_IN_EXCHANGES)]))

    # Queues and exchanges

    def queue_declare(self) -> Operation:
        name = self.choose(ANY_QUEUE if self._wild else QUEUES)
        if self.chance(10):
            return self.op(Queue.Declare, queue=name, passive=True)
        if not self._wild and name in self._queues and self.chance(70):
            name = next((each for each in QUEUES if each not in self._queues), name)
        self._queues = [*{*self._queues, name}] if name in QUEUES else self._queues
        self._queues.sort()
        if not self._wild and self.chance(self._leaning.quorum_percent):
            return self.quorum_queue(name)
        fields: dict[str, Any] = self.flags(durable=40, exclusive=7, auto_delete=7)
        if self._wild:
            return self.op(
                Queue.Declare,
                queue=name,
                arguments=self.some(ALL_QUEUE_ARGUMENTS, 60),
                **fields,
                **self.flags(nowait=20),
            )
        arguments = self.some(LIMITS, 35) | self.dead_lettering() | self.some(OTHER_QUEUE_ARGUMENTS, 25)
        if arguments:
            fields["arguments"] = arguments
        return self.op(Queue.Declare, queue=name, **fields)

    def quorum_queue(self, name: str) -> Operation:
        arguments = {"x-queue-type": "quorum"} | self.dead_lettering() | self.some(LIMITS, 25)
        if arguments.get("x-overflow") == "reject-publish-dlx":
            del arguments["x-overflow"]
        self._refuses_publishers |= arguments.get("x-overflow") == "reject-publish"
        if self.chance(50) and not self._has_prefetch:
            self._limits_deliveries = True
            arguments["x-delivery-limit"] = self.choose((0, 1, 2))
        if self.chance(15):
            arguments["x-single-active-consumer"] = True
        return self.op(Queue.Declare, queue=name, durable=True, arguments=arguments)

    def dead_lettering(self) -> dict[str, Any]:
        if not self.chance(40):
            return {}
        arguments = {"x-dead-letter-exchange": self.choose(DEAD_LETTERING["x-dead-letter-exchange"])}
        if arguments["x-dead-letter-exchange"] == "" or self.chance(40):
            arguments["x-dead-letter-routing-key"] = self.choose(DEAD_LETTERING["x-dead-letter-routing-key"])
        return arguments

    def queue_delete(self) -> Operation:
        name = self.queue()
        fields = self.flags(if_unused=25, if_empty=25, nowait=5)
        if name in self._queues and len(self._queues) > 1 and not fields:
            self._queues.remove(name)
        return self.op(Queue.Delete, queue=name, **fields)

    def queue_purge(self) -> Operation:
        return self.op(Queue.Purge, queue=self.queue(), **self.flags(nowait=5))

    def exchange_declare(self) -> Operation:
        name = self.choose(ANY_EXCHANGE if self._wild else EXCHANGES)
        if not self._wild and name in self._exchanges:
            name = next((each for each in EXCHANGES if each not in self._exchanges), name)
        if name in EXCHANGES and name not in self._exchanges:
            self._exchanges.append(name)
        kind = self.choose(("direct", "fanout", "topic", "headers"))
        if self._wild and self.chance(10):
            kind = self.choose(("x-nope", ""))
        fields: dict[str, Any] = self.flags(durable=30, auto_delete=8, internal=3)
        if self._wild:
            fields |= self.flags(passive=30, nowait=20)
        if self.chance(25):
            choices = WRONG_VALUES if self._wild and self.chance(30) else (*EXCHANGES, "amq.fanout")
            fields["arguments"] = {"alternate-exchange": self.choose(choices)}
        return self.op(Exchange.Declare, exchange=name, exchange_type=kind, **fields)

    def exchange_delete(self) -> Operation:
        name = self.exchange()
        fields = self.flags(if_unused=50, nowait=5)
        if name in self._exchanges and not fields:
            self._exchanges.remove(name)
        return self.op(Exchange.Delete, exchange=name, **fields)

    # Bindings

    def binding(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"routing_key": self.choose(BINDING_KEYS)}
        if self.chance(35):
            arguments = self.some(HEADERS, 60)
            if self.chance(70):
                arguments["x-match"] = self.choose(("some", 1, *MATCHES) if self._wild else MATCHES)
            fields["arguments"] = arguments
        return fields

    def queue_bind(self) -> Operation:
        return self.op(
            Queue.Bind, queue=self.queue(), exchange=self.exchange(), **self.binding(), **self.flags(nowait=3)
        )

    def queue_unbind(self) -> Operation:
        return self.op(Queue.Unbind, queue=self.queue(), exchange=self.exchange(), **self.binding())

    def exchange_bind(self) -> Operation:
        # A binding between two built-in exchanges would outlive the program.
        destination = self.choose(("", "amq.x", *EXCHANGES) if self._wild else self._exchanges or EXCHANGES)
        method = Exchange.Unbind if self.chance(15) else Exchange.Bind
        return self.op(method, source=self.exchange(), destination=destination, **self.binding())

    # Messages

    def publish(self) -> Operation:
        properties = self.some(WRONG_PROPERTIES if self._wild else PROPERTIES, 30, typed=False)
        if self.chance(40):
            properties["delivery_mode"] = 2
        if self.chance(25):
            properties["headers"] = self.some(WRONG_MESSAGE_HEADERS if self._wild else MESSAGE_HEADERS, 60)
        exchange, key = self.exchange(), self.choose(KEYS)
        if self.chance(55):  # straight to a queue
            exchange, key = "", self.queue()
        elif self.chance(6):
            exchange, key = "", LAST_REPLY_TO
        if self._refuses_publishers:
            self._channel = 0
        fields: dict[str, Any] = self.flags(mandatory=20)
        if self._wild:
            fields |= self.flags(immediate=5)
        return self.op(Basic.Publish, exchange=exchange, routing_key=key, **fields, properties=properties)

    def get(self) -> Operation:
        fields = self.flags(no_ack=25)
        if not fields:
            self._receiving.append(self._channel)
        return self.op(Basic.Get, queue=self.queue(), **fields)

    def consume(self) -> Operation:
        tag = str(self.choose(CONSUMER_TAGS))
        if not self._wild:  # a tag is used once on a channel; the same one on another channel is another consumer
            tag = next((each for each in CONSUMER_TAGS if (self._channel, each) not in self._consumers), "")
        self._consumers.append((self._channel, tag))
        if self.chance(6):
            no_ack = not (self._wild and self.chance(50))
            return self.op(Basic.Consume, queue="amq.rabbitmq.reply-to", consumer_tag=tag, no_ack=no_ack)
        fields: dict[str, Any] = self.flags(no_ack=20, exclusive=6, no_local=3)
        if self.chance(20):
            choices = WRONG_VALUES if self._wild and self.chance(50) else (1, -1, 5, T("l", 2**40))
            fields["arguments"] = {"x-priority": self.choose(choices)}
        if self._wild and tag:
            fields |= self.flags(nowait=20)
        if "no_ack" not in fields:
            self._receiving.append(self._channel)
        return self.op(Basic.Consume, queue=self.queue(), consumer_tag=tag, **fields)

    def cancel(self) -> Operation:
        if self._consumers and not self._wild:
            self._channel, tag = self._consumers.pop(self._draw(_UP_TO[len(self._consumers) - 1]))
        else:
            tag = self.choose(CONSUMER_TAGS)
        return self.op(Basic.Cancel, consumer_tag=tag, **self.flags(nowait=5))

    def qos(self) -> Operation:
        counts = (0,) if self._limits_deliveries else (1, 2, 0, 3)
        fields: dict[str, Any] = {"prefetch_count": self.choose(counts), **self.flags(global_=25)}
        self._has_prefetch |= fields["prefetch_count"] > 0
        if self._wild and self.chance(20):
            fields["prefetch_size"] = 10
        return self.op(Basic.Qos, **fields)

    # Settling

    def which(self) -> dict[str, int]:
        if self._receiving:
            self._channel = self.choose(self._receiving[-4:])
        if self._wild and self.chance(40):
            return {"delivery_tag": self.choose((0, 1, 2, 99))}
        return {"delivery": self.choose((0, 0, 0, 1, 2))}

    def ack(self) -> Operation:
        return self.op(Basic.Ack, **self.which(), **self.flags(multiple=25))

    def nack(self) -> Operation:
        return self.op(Basic.Nack, **self.which(), **self.flags(multiple=25), requeue=self.chance(50))

    def reject(self) -> Operation:
        return self.op(Basic.Reject, **self.which(), requeue=self.chance(50))

    def recover(self) -> Operation:
        method = Basic.RecoverAsync if self.chance(20) else Basic.Recover
        return self.op(method, requeue=not (self._wild and self.chance(30)))

    # Channels and connections

    def transaction(self) -> Operation:
        if self._transactional and not self._wild and self.chance(85):
            self._channel = self.choose(sorted(self._transactional))
            return self.op(self.choose((Tx.Commit, Tx.Commit, Tx.Rollback)))
        if self._wild:
            return self.op(self.choose((Tx.Commit, Tx.Rollback, Tx.Select)))
        self._transactional.add(self._channel)
        return self.op(Tx.Select)

    def confirm(self) -> Operation:
        return self.op(Confirm.Select, **self.flags(nowait=10))

    def flow(self) -> Operation:
        return self.op(Channel.Flow, active=False)

    def channel_open(self) -> Operation:
        return self.op(Channel.Open)

    def channel_close(self) -> Operation:
        self._forget(self._channel)
        return self.op(Channel.Close, reply_code=200, reply_text="bye")

    def connection_end(self) -> Operation:
        connection = self._channel // CHANNELS_EACH_CONNECTION
        for index in range(CHANNELS_EACH_CONNECTION):
            self._forget(connection * CHANNELS_EACH_CONNECTION + index)
        if self.chance(50):
            return self.op(ABORT)
        return self.op(Connection.Close, reply_code=200, reply_text="bye")

    def _forget(self, channel: int) -> None:
        self._transactional.discard(channel)
        self._consumers = [each for each in self._consumers if each[0] != channel]


_WEIGHTS: dict[Callable[[_Author], Operation], int] = {
    _Author.publish: 34, _Author.get: 12, _Author.consume: 8, _Author.ack: 6, _Author.nack: 7, _Author.reject: 4,
    _Author.queue_declare: 4, _Author.queue_bind: 5, _Author.exchange_declare: 2, _Author.exchange_bind: 3,
    _Author.qos: 3, _Author.recover: 2, _Author.cancel: 2, _Author.queue_purge: 1, _Author.queue_delete: 1,
    _Author.queue_unbind: 1, _Author.exchange_delete: 1, _Author.transaction: 2, _Author.confirm: 2,
    _Author.channel_close: 2, _Author.connection_end: 1,
}  # fmt: skip


class _Leaning:
    """What a program does more often than others."""

    def __init__(self, *, quorum_percent: int = 7, **more: int) -> None:
        self.quorum_percent = quorum_percent
        weights = {make: weight + more.get(make.__name__, 0) for make, weight in _WEIGHTS.items()}
        self.weighted = tuple(make for make, weight in weights.items() for _ in range(weight))


_PLAIN = _Leaning()
_LEANINGS = (
    _PLAIN, _PLAIN, _PLAIN,
    _Leaning(transaction=16, queue_delete=4, queue_declare=3, ack=4, get=4, exchange_delete=2, queue_unbind=2),
    _Leaning(quorum_percent=70, queue_declare=4, recover=3, ack=3, nack=6, reject=3),
    _Leaning(consume=10, cancel=6, qos=5, ack=8, nack=6, channel_close=2, recover=2),
)  # fmt: skip
_WILD_WEIGHTED = (
    *_WEIGHTS, _Author.publish, _Author.publish, _Author.queue_declare, _Author.queue_declare, _Author.queue_declare,
    _Author.exchange_declare, _Author.flow, _Author.channel_open,
)  # fmt: skip
_OPENING = (
    _Author.queue_declare, _Author.queue_declare, _Author.exchange_declare, _Author.queue_bind, _Author.queue_bind,
    _Author.publish, _Author.publish,
)  # fmt: skip
_CHANNELS = (0, 0, 0, 0, 1, 2, 2, 3)


@st.composite
def programs(draw: Draw, operations: int) -> Program:
    """A program of so many operations."""
    author = _Author(draw)
    return [author.operation(index) for index in range(operations)]
