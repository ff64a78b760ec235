"""Hypothesis's side: random programs, with names from small pools, so that what one operation does matters to the next.

Most operations are sensible and some are wrong; all that is time-dependent expires at once or never.

Not here: streams and plugins' exchange types, which only one of the two brokers has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from interop.codec import T
from interop.fuzz.player import EXCHANGES, LAST_REPLY_TO, QUEUES
from interop.fuzz.program import ABORT, Operation, Program, op
from interop.raw_client import Basic, Channel, Confirm, Connection, Exchange, Queue, Tx

Draw = Callable[[st.SearchStrategy[Any]], Any]

A_DAY_MS = 86_400_000
BUILT_IN_EXCHANGES = ("amq.direct", "amq.fanout", "amq.topic", "amq.match", "amq.headers")
KEYS = ("a", "q0", "q1", "q2", "a.b", "", "#", "*", "*.b", "a.#", "#.b.#", "a.b.c", ".", "é")
CONSUMER_TAGS = ("c0", "c1", "c2", "c3", "")
WRONG_VALUES = (
    T("S", "1"), T("S", ""), T("I", -1), T("I", 0), T("l", 2**40), T("l", 315_360_000_001), T("t", True), T("d", 1.5),
    T("V", None), T("A", []), T("F", {}), T("b", 1), T("s", 2), T("B", 255), T("x", b"bytes"), T("D", (1, 25)),
    T("T", 1),
)  # fmt: skip

QUEUE_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "x-max-length": (1, 2, 0, 3),
    "x-max-length-bytes": (3, 0, 8),
    "x-overflow": ("drop-head", "reject-publish", "reject-publish-dlx", "drop-tail"),
    "x-dead-letter-exchange": ("", "x0", "x1", "x2", "amq.fanout"),
    "x-dead-letter-routing-key": ("q0", "q1", "q2", "a"),
    "x-message-ttl": (0, A_DAY_MS, T("l", 315_360_000_000)),
    "x-expires": (A_DAY_MS, 0),
    "x-max-priority": (2, 1, 5, 255, 256, 0),
    "x-single-active-consumer": (True, False),
    "x-queue-type": ("classic", "quorum", "other"),
    "x-queue-mode": ("lazy", "default", "other"),
    "x-queue-version": (1, 2, 3),
    "x-delivery-limit": (0, 1, 2),
    "x-queue-master-locator": ("min-masters", "client-local", "other"),
    "x-consumer-timeout": (A_DAY_MS,),
    "x-unknown": (1, "text"),
}
HEADERS: dict[str, tuple[Any, ...]] = {
    "h": (1, "1", T("l", 1), T("d", 1.0), True, T("V", None)),
    "g": ("s", 2, T("x", b"s")),
    "x-h": (1, "s"),
}
MATCHES = ("all", "any", "all-with-x", "any-with-x", "some", 1)


# Made once: making a strategy takes longer than drawing from it.
_UP_TO = [st.integers(0, last) for last in range(128)]


def chance(draw: Draw, percent: int) -> bool:
    """True this often."""
    return bool(draw(_UP_TO[99]) >= 100 - percent)


def choose(draw: Draw, items: tuple[Any, ...]) -> Any:
    return items[draw(_UP_TO[len(items) - 1])]


def flags(draw: Draw, **percents: int) -> dict[str, bool]:
    """Those flags that are set."""
    return {name: True for name, percent in percents.items() if chance(draw, percent)}


def some(draw: Draw, values: dict[str, tuple[Any, ...]], more_percent: int, wrong_percent: int = 0) -> dict[str, Any]:
    """A few of these keys, each with one of its values or, now and then, with a value of a wrong type."""
    chosen: dict[str, Any] = {}
    names = tuple(values)
    while chance(draw, more_percent):
        name = choose(draw, names)
        chosen[name] = choose(draw, WRONG_VALUES if chance(draw, wrong_percent) else values[name])
    return chosen


def queue(draw: Draw) -> str:
    """A queue; now and then the last one declared on the channel, or one of a reserved name."""
    if chance(draw, 5):
        return str(choose(draw, ("", "amq.q")))
    return str(choose(draw, (*QUEUES, "q0", "q1")))


def exchange(draw: Draw) -> str:
    if chance(draw, 25):
        return str(choose(draw, ("", *BUILT_IN_EXCHANGES, "amq.x", "amq.rabbitmq.trace")))
    return str(choose(draw, (*EXCHANGES, "x0", "x1")))


def key(draw: Draw) -> str:
    return str(choose(draw, KEYS))


def queue_declare(draw: Draw) -> Operation:
    fields = flags(draw, durable=40, exclusive=12, auto_delete=12, nowait=3)
    if chance(draw, 10):
        return op(0, Queue.Declare, queue=queue(draw), passive=True)
    arguments = some(draw, QUEUE_ARGUMENTS, 50, 6)
    if arguments.get("x-queue-type") == "quorum" and chance(draw, 80):  # else hardly any would be accepted
        fields = {"durable": True}
    if "x-dead-letter-exchange" not in arguments and chance(draw, 25):
        arguments["x-dead-letter-exchange"] = choose(draw, QUEUE_ARGUMENTS["x-dead-letter-exchange"])
    return op(0, Queue.Declare, queue=queue(draw), **fields, **({"arguments": arguments} if arguments else {}))


def queue_delete(draw: Draw) -> Operation:
    return op(0, Queue.Delete, queue=queue(draw), **flags(draw, if_unused=20, if_empty=20, nowait=3))


def queue_purge(draw: Draw) -> Operation:
    return op(0, Queue.Purge, queue=queue(draw), **flags(draw, nowait=3))


def binding_arguments(draw: Draw) -> dict[str, Any]:
    if chance(draw, 70):
        return {}
    arguments = some(draw, HEADERS, 60)
    if chance(draw, 70):
        arguments["x-match"] = choose(draw, MATCHES)
    return {"arguments": arguments}


def queue_bind(draw: Draw) -> Operation:
    return op(
        0, Queue.Bind, queue=queue(draw), exchange=exchange(draw), routing_key=key(draw), **binding_arguments(draw),
        **flags(draw, nowait=3),
    )  # fmt: skip


def queue_unbind(draw: Draw) -> Operation:
    return op(
        0, Queue.Unbind, queue=queue(draw), exchange=exchange(draw), routing_key=key(draw), **binding_arguments(draw)
    )


def exchange_declare(draw: Draw) -> Operation:
    kind = choose(draw, ("direct", "fanout", "topic", "headers"))
    if chance(draw, 2):
        kind = choose(draw, ("x-nope", ""))
    arguments: dict[str, Any] = {}
    if chance(draw, 20):
        arguments["alternate-exchange"] = choose(draw, WRONG_VALUES if chance(draw, 8) else (*EXCHANGES, "amq.fanout"))
    elif chance(draw, 3):
        arguments["x-unknown"] = 1
    return op(
        0, Exchange.Declare, exchange=exchange(draw), exchange_type=kind,
        **flags(draw, durable=30, auto_delete=15, internal=8, passive=8, nowait=3),
        **({"arguments": arguments} if arguments else {}),
    )  # fmt: skip


def exchange_delete(draw: Draw) -> Operation:
    return op(0, Exchange.Delete, exchange=exchange(draw), **flags(draw, if_unused=30, nowait=3))


def exchange_bind(draw: Draw) -> Operation:
    # A binding between two built-in exchanges would outlive the program.
    source, destination = exchange(draw), choose(draw, (*EXCHANGES, *EXCHANGES, "", "amq.x"))
    method = Exchange.Unbind if chance(draw, 20) else Exchange.Bind
    return op(
        0, method, source=source, destination=destination, routing_key=key(draw), **binding_arguments(draw),
        **flags(draw, nowait=3),
    )  # fmt: skip


PROPERTIES: dict[str, tuple[Any, ...]] = {
    "delivery_mode": (2, 2, 2, 1, 0, 3),
    "priority": (1, 2, 0, 5, 255),
    "expiration": ("0", str(A_DAY_MS), "abc", "-1", "", "1.5", "315360000001"),
    "user_id": ("guest", "guest", "bob", ""),
    "reply_to": ("q0", "amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to", ""),
    "correlation_id": ("1", ""),
    "message_id": ("m", ""),
    "content_type": ("text/plain",),
    "content_encoding": ("gzip",),
    "timestamp": (0, 1_700_000_000),
    "message_type": ("t",),
    "app_id": ("app",),
    "cluster_id": ("c",),
}
MESSAGE_HEADERS: dict[str, tuple[Any, ...]] = {
    **HEADERS,
    "CC": (["q1"], ["q0", "q1"], ["a"], [], "q1", [1], T("V", None)),
    "BCC": (["q2"], ["q0"], ["a.b"], "q1", [1]),
    "nested": ({"a": [1, {"b": "c"}]}, [], T("D", (2, 314)), T("T", 5), T("f", 0.5)),
    "x-death": ("wrong", []),
}


def publish(draw: Draw) -> Operation:
    properties = some(draw, PROPERTIES, 35)
    if chance(draw, 30):
        properties["delivery_mode"] = 2
    if chance(draw, 25):
        properties["headers"] = some(draw, MESSAGE_HEADERS, 60)
    target, routing_key = exchange(draw), key(draw)
    if chance(draw, 45):  # straight to a queue
        target, routing_key = "", queue(draw)
    elif chance(draw, 4):
        target, routing_key = "", LAST_REPLY_TO
    return op(
        0, Basic.Publish, exchange=target, routing_key=routing_key, **flags(draw, mandatory=20),
        **({"immediate": True} if chance(draw, 1) and chance(draw, 50) else {}), properties=properties,
    )  # fmt: skip


def get(draw: Draw) -> Operation:
    return op(0, Basic.Get, queue=queue(draw), **flags(draw, no_ack=35))


def consume(draw: Draw) -> Operation:
    tag = str(choose(draw, CONSUMER_TAGS))
    if chance(draw, 8):
        return op(0, Basic.Consume, queue="amq.rabbitmq.reply-to", consumer_tag=tag, no_ack=not chance(draw, 10))
    arguments: dict[str, Any] = {}
    if chance(draw, 20):
        arguments["x-priority"] = choose(draw, WRONG_VALUES if chance(draw, 10) else (1, -1, 5, T("l", 2**40)))
    return op(
        0, Basic.Consume, queue=queue(draw), consumer_tag=tag,
        **flags(draw, no_ack=25, exclusive=10, no_local=3, nowait=3 if tag else 0),
        **({"arguments": arguments} if arguments else {}),
    )  # fmt: skip


def cancel(draw: Draw) -> Operation:
    return op(0, Basic.Cancel, consumer_tag=choose(draw, CONSUMER_TAGS), **flags(draw, nowait=3))


def qos(draw: Draw) -> Operation:
    fields: dict[str, Any] = {"prefetch_count": choose(draw, (1, 2, 0, 3)), **flags(draw, global_=30)}
    if chance(draw, 2):
        fields["prefetch_size"] = 10
    return op(0, Basic.Qos, **fields)


def which_delivery(draw: Draw) -> dict[str, int]:
    if chance(draw, 4):
        return {"delivery_tag": choose(draw, (0, 1, 2, 99))}
    return {"delivery": choose(draw, (0, 0, 0, 1, 2))}


def ack(draw: Draw) -> Operation:
    return op(0, Basic.Ack, **which_delivery(draw), **flags(draw, multiple=25))


def nack(draw: Draw) -> Operation:
    return op(0, Basic.Nack, **which_delivery(draw), **flags(draw, multiple=25), requeue=chance(draw, 50))


def reject(draw: Draw) -> Operation:
    return op(0, Basic.Reject, **which_delivery(draw), requeue=chance(draw, 50))


def recover(draw: Draw) -> Operation:
    return op(0, Basic.RecoverAsync if chance(draw, 20) else Basic.Recover, requeue=not chance(draw, 4))


def transaction(draw: Draw) -> Operation:
    return op(0, choose(draw, (Tx.Commit, Tx.Select, Tx.Rollback)))


def confirm(draw: Draw) -> Operation:
    return op(0, Confirm.Select, **flags(draw, nowait=10))


def flow(draw: Draw) -> Operation:
    return op(0, Channel.Flow, active=False)


def channel_open(draw: Draw) -> Operation:
    return op(0, Channel.Open)


def channel_close(draw: Draw) -> Operation:
    return op(0, Channel.Close, reply_code=200, reply_text="bye")


def connection_end(draw: Draw) -> Operation:
    if chance(draw, 50):
        return op(0, ABORT)
    return op(0, Connection.Close, reply_code=200, reply_text="bye")


MAKERS: dict[Callable[[Draw], Operation], int] = {
    publish: 28, get: 12, queue_declare: 12, queue_bind: 9, consume: 9, ack: 5, nack: 5, exchange_declare: 6,
    exchange_bind: 4, reject: 3, qos: 3, recover: 2, cancel: 2, queue_purge: 2, queue_delete: 2, queue_unbind: 2,
    exchange_delete: 2, transaction: 2, confirm: 2, channel_close: 1, connection_end: 1,
}  # fmt: skip
RARE_MAKERS = (flow, channel_open)
_WEIGHTED = tuple(maker for maker, weight in MAKERS.items() for _ in range(weight))
_CHANNELS = (0, 0, 0, 0, 1, 2, 2, 3)


@st.composite
def programs(draw: Draw, operations: int) -> Program:
    """A program of so many operations. The body of each message is its own, so that messages can be told apart."""
    program: Program = []
    for index in range(operations):
        make = choose(draw, RARE_MAKERS) if chance(draw, 1) and chance(draw, 30) else choose(draw, _WEIGHTED)
        operation = make(draw)._replace(channel=choose(draw, _CHANNELS))
        if operation.method is Basic.Publish:
            operation.fields["body"] = f"m{index}".encode()
        program.append(operation)
    return program
