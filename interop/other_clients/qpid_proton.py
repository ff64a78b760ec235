"""Apache Qpid Proton, a client of AMQP 1.0: qpid_proton.py PORT SCENARIO QUEUE DEAD. Each scenario prints what it sees.

Runs with whatever Python has ``proton`` (PyPI: python-qpid-proton; Debian: python3-qpid-proton).
"""

import sys
import uuid
from typing import Any

import proton  # type: ignore[import-not-found, unused-ignore]
from proton import (  # type: ignore[import-not-found, unused-ignore]
    Array,
    Data,
    Described,
    Disposition,
    Link,
    Message,
    byte,
    char,
    decimal32,
    float32,
    int32,
    short,
    symbol,
    timestamp,
    ubyte,
    uint,
    ulong,
    ushort,
)
from proton.reactor import Filter, LinkOption  # type: ignore[import-not-found, unused-ignore]
from proton.utils import BlockingConnection, SendException  # type: ignore[import-not-found, unused-ignore]

port, scenario, name, dead_name = sys.argv[1:5]
QUEUE = "/queues/" + name
NULL_BODY = b"\0\x53\x77\x40"  # which Proton leaves out


def connect(**options: Any) -> Any:
    options = {"user": "guest", "password": "guest", "allowed_mechs": "PLAIN", "timeout": 10, **options}
    return BlockingConnection(f"amqp://127.0.0.1:{port}", **options)


def shown(value: Any) -> Any:
    """A value with the type that proton has read."""
    if isinstance(value, dict):
        return {str(key): shown(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)) and not isinstance(value, Described):
        return [shown(one) for one in value]
    if isinstance(value, Array):
        return ("array", [shown(one) for one in value.elements])
    if isinstance(value, memoryview):
        value = bytes(value)
    return f"{type(value).__name__}:{value}"


def said(*words: Any) -> None:
    print(*[word if isinstance(word, str) else shown(word) for word in words])


EVERY: dict[str, Any] = {
    "durable": True,
    "priority": 7,
    "ttl": 600.0,
    "annotations": {symbol("x-here"): "yes", symbol("x-opt-number"): ubyte(5), symbol("x-opt-list"): [1, "a"]},
    "id": uuid.UUID(int=7),
    "user_id": b"guest",
    "address": "/queues/to",
    "subject": "subject",
    "reply_to": "reply",
    "correlation_id": ulong(12),
    "content_type": symbol("text/plain"),
    "content_encoding": symbol("gzip"),
    "expiry_time": 9_000_000_000.0,
    "creation_time": 1000.123,
    "group_id": "group",
    "group_sequence": 3,
    "reply_to_group_id": "reply group",
    "properties": {
        "text": "x", "long": 5, "ubyte": ubyte(3), "ushort": ushort(4), "uint": uint(5), "ulong": ulong(6),
        "byte": byte(-1), "short": short(-2), "int": int32(-3), "float": float32(0.5), "double": 0.1, "yes": True,
        "none": None, "time": timestamp(1000), "symbol": symbol("s"), "bytes": b"\x01\xff", "uuid": uuid.UUID(int=9),
        "char": char("c"), "decimal": decimal32(77),
    },
}  # fmt: skip

BODIES: dict[str, tuple[Any, bool]] = {
    "value": ("text", False),
    "number": (uint(77), False),
    "map": ({"a": 1, "b": [True, None]}, False),
    "list": ([1, "two"], False),
    "array": (Array(proton.UNDESCRIBED, Data.INT, 1, 2), False),
    "data": (b"data", True),
    "large": (b"x" * 200_000, True),
}


def fields_of(message: Any) -> dict[str, Any]:
    return {one: getattr(message, one) for one in ("first_acquirer", "delivery_count", *EVERY)}


def messages(connection: Any) -> None:
    """Whatever is sent comes as it was sent, whichever kind the body has."""
    sender = connection.create_sender(QUEUE)
    receiver = connection.create_receiver(QUEUE, credit=1)
    for kind, (body, inferred) in BODIES.items():
        message = Message(body=body, inferred=inferred)
        for field, value in EVERY.items():
            setattr(message, field, value)
        said(kind, str(sender.send(message).remote_state))
        got = receiver.receive(timeout=10)
        said("body", len(got.body) if kind == "large" else got.body, str(got.inferred))
        if kind == "value":
            for field, value in fields_of(got).items():
                said("field " + field, value)
        receiver.accept()


def outcomes(connection: Any) -> None:
    sender = connection.create_sender(QUEUE)
    receiver = connection.create_receiver(QUEUE, credit=1)
    sender.send(Message(body="one"))
    for way in ("released", "failed", "annotated", "rejected"):
        got = receiver.receive(timeout=10)
        said(way, [got.first_acquirer, got.delivery_count, got.annotations])
        if way == "released":
            receiver.release(delivered=False)
        elif way == "rejected":
            receiver.reject()
        else:
            delivery = receiver.fetcher.unsettled.popleft()
            delivery.local.failed = True
            if way == "annotated":
                delivery.local.annotations = {symbol("x-opt-why"): "busy", symbol("x-other"): 9}
            delivery.update(Disposition.MODIFIED)
            delivery.settle()
    dead = connection.create_receiver("/queues/" + dead_name, credit=1)
    got = dead.receive(timeout=10)
    said("dead", [got.body, got.first_acquirer, sorted(map(str, got.annotations))])
    dead.accept()


def full(connection: Any) -> None:
    """What a full queue refuses is rejected, what is for no queue released."""
    sender = connection.create_sender(QUEUE)
    for _ in range(3):
        try:
            said(str(sender.send(Message(body="x")).remote_state))
        except SendException as error:
            said("refused", str(error.state))
    nowhere = connection.create_sender("/exchanges/amq.direct/nobody")
    try:
        nowhere.send(Message(body="x"))
    except SendException as error:
        said("nowhere", str(error.state))


def stream(connection: Any) -> None:
    sender = connection.create_sender(QUEUE)
    for number in range(4):
        sender.send(Message(body=f"m{number}"))
    for what, value in (("first", "first"), ("offset", ulong(2)), ("next", "next")):
        wanted = {symbol("rabbitmq:stream-offset-spec"): Described(symbol("rabbitmq:stream-offset-spec"), value)}
        receiver = connection.create_receiver(QUEUE, credit=1, name=what, options=[Filter(wanted)])
        if what == "next":
            sender.send(Message(body="later"))
        got = receiver.receive(timeout=10)
        said(what, [got.body, got.annotations["x-stream-offset"]])
        receiver.accept()
        receiver.close()


class Paired(LinkOption):  # type: ignore[misc, unused-ignore]
    """One of a pair of links to the broker itself, as RabbitMQ's own clients have it."""

    def apply(self, link: Any) -> None:
        link.source.address = link.target.address = "/management"
        link.snd_settle_mode = Link.SND_SETTLED
        link.properties = {symbol("paired"): True}


def management(connection: Any) -> None:
    sender = connection.create_sender("/management", name="pair", options=[Paired()])
    receiver = connection.create_receiver("/management", name="pair", credit=10, options=[Paired()])

    def asked(method: str, target: str, body: Any = None) -> Any:
        message = Message(id=ulong(7), subject=method, address=target, reply_to="$me", body=body, inferred=False)
        delivery = sender.link.delivery(method)
        sender.link.stream(message.encode() + (NULL_BODY if body is None else b""))
        sender.link.advance()
        delivery.settle()
        answer = receiver.receive(timeout=10)
        return [answer.subject, answer.correlation_id == 7, answer.body]

    wanted = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
    status, _, declared = asked("PUT", QUEUE, wanted)
    said("declared", status, [declared[one] for one in ("type", "durable", "message_count", "exclusive")])
    binding = {"source": "amq.direct", "destination_queue": name, "binding_key": "k", "arguments": {}}
    said("bound", asked("POST", "/bindings", binding))
    said("deleted", asked("DELETE", QUEUE))
    said("missing", asked("GET", QUEUE)[:2])


def logins(_: Any) -> None:
    for what, options in (
        ("right", {}),
        ("wrong", {"password": "no"}),
        ("anonymous", {"user": None, "password": None, "allowed_mechs": "ANONYMOUS"}),
    ):
        try:
            connect(**options).close()
            said(what, "in")
        except proton.ProtonException as error:
            said(what, type(error).__name__, str(error).split("'")[-2] if "'" in str(error) else str(error)[:60])


connection = None if scenario == "logins" else connect()
globals()[scenario](connection)
if connection is not None:
    connection.close()
said("closed")
