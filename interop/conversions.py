"""`python -m interop.conversions`: random messages from AMQP 1.0 and 0-9-1 to both, on RabbitMQ 4.0 and on ours as it.

Each message is published once with either protocol, and read with both; what comes of it is compared section by
section, value by value with its type. Not compared: the order of maps, and headers that only we have.

Ends with exit code 0 when nothing differed, 1 when something did, 2 when there is no RabbitMQ 4.0 to compare with.
"""

from __future__ import annotations

import argparse
import random
import sys
import uuid
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, Final

from amqp_broker.protocols.amqp10 import typed
from amqp_broker.protocols.amqp10.compound import Array, Described, Map
from amqp_broker.protocols.amqp10.decoding import decode
from amqp_broker.protocols.amqp10.performatives import ACCEPTED, TRANSFER
from interop import brokers
from interop.amqp10_client import Amqp10Client
from interop.brokers import OURS, RABBITMQ, Choice
from interop.codec import T
from interop.raw_client import ChannelUnderTest, Queue, Received
from interop.under_test import BrokerUnderTest
from tests.support.amqp10_client import section

SERIES: Final = "4.0"
REPLY_TIMEOUT_S: Final = 10.0
QUEUE: Final = "conversions"
OURS_ALONE: Final = frozenset({"x-amqp-1.0-sections"})  # headers that keep what AMQP 0-9-1 cannot say
SHOWN_MAX: Final = 10
INITIAL_DELIVERY_COUNT: Final = 0xFFFF_FFFB  # what either says of a new link

Make = Callable[[random.Random], Any]


# --- values


def text(chance: random.Random, size_max: int = 12) -> str:
    """A short text, rarely a long one."""
    size = chance.choice([0, 1, chance.randrange(size_max), chance.choice([3, 255, 256, 300])])
    return "".join(chance.choice("abcäß€-.x/ %") for _ in range(size))


def ascii_text(chance: random.Random) -> str:
    return "".join(chance.choice("abc-/.;=") for _ in range(chance.randrange(1, 12)))


SCALARS_10: Final[list[Make]] = [
    lambda chance: None,
    lambda chance: chance.random() < 0.5,
    text,
    lambda chance: typed.Symbol(ascii_text(chance)),
    lambda chance: typed.UByte(chance.randrange(2**8)),
    lambda chance: typed.UShort(chance.randrange(2**16)),
    lambda chance: typed.UInt(chance.choice([0, 255, 256, 2**32 - 1])),
    lambda chance: typed.ULong(chance.choice([0, 255, 256, 2**63 - 1])),
    lambda chance: typed.Byte(chance.randrange(-(2**7), 2**7)),
    lambda chance: typed.Short(chance.randrange(-(2**15), 2**15)),
    lambda chance: typed.Int(chance.choice([-1, 0, 127, 128, -(2**31)])),
    lambda chance: chance.choice([0, -1, 127, 128, -129, 2**63 - 1, -(2**63)]),
    lambda chance: typed.Float(chance.choice([0.0, 0.5, -2.0])),
    lambda chance: chance.choice([0.0, 0.1, -1e300]),
    lambda chance: typed.Timestamp(chance.choice([0, 999, 1000, 1_700_000_000_123])),
    lambda chance: chance.randbytes(chance.choice([0, 1, 5, 300])),
]


def value_10(chance: random.Random, depth: int = 2) -> Any:
    """A value that message annotations may have."""
    kind = chance.random()
    if depth and kind < 0.1:
        return [value_10(chance, depth - 1) for _ in range(chance.randrange(3))]
    if depth and kind < 0.2:
        return Map([(typed.Symbol(f"k{n}"), value_10(chance, depth - 1)) for n in range(chance.randrange(3))])
    return chance.choice(SCALARS_10[1:])(chance)  # RabbitMQ 4.0 fails with a null in annotations


def message_id(chance: random.Random) -> Any:
    makers: list[Make] = [
        lambda chance: None,
        text,
        lambda chance: f"urn:uuid:{uuid.UUID(bytes=chance.randbytes(16))}",
        lambda chance: typed.Uuid(chance.randbytes(16)),
        lambda chance: typed.ULong(chance.choice([0, 7, 2**64 - 1])),
        lambda chance: chance.randbytes(4),
    ]
    return chance.choice(makers)(chance)


def maybe(chance: random.Random, make: Make) -> Any:
    return make(chance) if chance.random() < 0.5 else None


def message_10(chance: random.Random) -> bytes:
    """A whole message of AMQP 1.0."""
    made = b""
    if chance.random() < 0.7:
        durable = maybe(chance, lambda one: one.random() < 0.5)
        priority = maybe(chance, lambda one: typed.UByte(one.randrange(12)))
        ttl = maybe(chance, lambda one: typed.UInt(one.choice([600_000, 4_000_000_000])))
        made += section(0x70, [durable, priority, ttl])
    if chance.random() < 0.2:
        made += section(0x71, Map([(typed.Symbol("x-hop"), value_10(chance))]))
    if chance.random() < 0.6:
        names = ["x-here", "x-opt-mine", "x-Z", "x-other", "x-basic-type", "x-exchange", "x-routing-key", "x-death"]
        pairs: list[tuple[Any, Any]] = [
            (typed.Symbol(name), value_10(chance)) for name in chance.sample(names[:4], chance.randrange(4))
        ]
        pairs += [(typed.Symbol(name), text(chance, 9)) for name in chance.sample(names[4:7], chance.randrange(2))]
        made += section(0x72, Map(pairs))
    if chance.random() < 0.7:
        made += section(0x73, properties_10(chance))
    if chance.random() < 0.6:
        names = ["n", "x-app", "ä", "CC-less", "long" * 70]
        pairs = [(name, chance.choice(SCALARS_10)(chance)) for name in chance.sample(names, chance.randrange(5))]
        made += section(0x74, Map(pairs))
    made += body_10(chance)
    if chance.random() < 0.3:
        made += section(0x78, Map([(typed.Symbol("x-foot"), value_10(chance))]))
    return made


def properties_10(chance: random.Random) -> list[Any]:
    return [
        message_id(chance),
        maybe(chance, lambda one: b"guest"),
        maybe(chance, lambda one: "/queues/elsewhere"),
        maybe(chance, text),
        maybe(chance, text),
        message_id(chance),
        maybe(chance, lambda one: typed.Symbol(ascii_text(one))),
        maybe(chance, lambda one: typed.Symbol(ascii_text(one))),
        maybe(chance, lambda one: typed.Timestamp(9_000_000_000_000)),
        maybe(chance, lambda one: typed.Timestamp(one.choice([0, 1_700_000_000_123]))),
        maybe(chance, text),
        maybe(chance, lambda one: typed.UInt(one.randrange(2**32))),
        maybe(chance, text),
    ]


def body_10(chance: random.Random) -> bytes:
    kind = chance.randrange(4)
    if kind == 0:
        return section(0x75, chance.randbytes(chance.choice([0, 3, 300])))
    if kind == 1:
        return b"".join(section(0x75, chance.randbytes(size)) for size in chance.choices([0, 1, 256], k=2))
    if kind == 2:
        return b"".join(section(0x76, [value_10(chance) for _ in range(2)]) for _ in range(chance.randrange(1, 3)))
    return section(0x77, value_10(chance))


SCALARS_091: Final[list[Make]] = [
    lambda chance: T("V", None),
    lambda chance: T("t", chance.random() < 0.5),
    lambda chance: T("b", chance.randrange(-128, 128)),
    lambda chance: T("B", chance.randrange(256)),
    lambda chance: T("s", chance.randrange(-(2**15), 2**15)),
    lambda chance: T("u", chance.randrange(2**16)),
    lambda chance: T("I", chance.choice([-1, 0, 2**31 - 1])),
    lambda chance: T("i", chance.choice([0, 2**32 - 1])),
    lambda chance: T("l", chance.choice([-1, 0, 2**63 - 1])),
    lambda chance: T("f", chance.choice([0.5, -2.0])),
    lambda chance: T("d", chance.choice([0.1, -1e300])),
    lambda chance: T("S", text(chance)),
    lambda chance: T("S", chance.choice([b"\xff\xfe", b"a\0b", b"x" * 4096, b"x" * 4097])),
    lambda chance: T("x", chance.randbytes(3)),
    lambda chance: T("T", chance.choice([0, 1_700_000_000])),
]


def value_091(chance: random.Random, depth: int = 2) -> T:
    kind = chance.random()
    if depth and kind < 0.12:
        return T("A", [value_091(chance, depth - 1) for _ in range(chance.randrange(3))])
    if depth and kind < 0.24:
        return T("F", {f"k{n}": value_091(chance, depth - 1) for n in range(chance.randrange(3))})
    made: T = chance.choice(SCALARS_091)(chance)
    return made


def properties_091(chance: random.Random) -> dict[str, Any]:
    """The properties of a message of AMQP 0-9-1."""
    made: dict[str, Any] = {
        "content_type": ascii_text(chance),
        "content_encoding": ascii_text(chance),
        "delivery_mode": chance.choice([1, 2]),
        "priority": chance.randrange(12),
        "correlation_id": chance.choice(["c", f"urn:uuid:{uuid.UUID(bytes=chance.randbytes(16))}"]),
        "message_id": chance.choice(["m", f"urn:uuid:{uuid.UUID(bytes=chance.randbytes(16))}"]),
        "reply_to": chance.choice(["r", "amq.gen-x", "a/b"]),
        "expiration": chance.choice(["600000", "4000000000"]),
        "timestamp": chance.choice([0, 1_700_000_000]),
        "message_type": text(chance, 9)[:80],
        "user_id": "guest",
        "app_id": text(chance, 9)[:80],
    }
    chosen = {name: value for name, value in made.items() if chance.random() < 0.5}
    names = ["n", "x-here", "x-opt-mine", "ä", "xy", "x-Z"]
    headers = {name: value_091(chance) for name in chance.sample(names, chance.randrange(5))}
    if headers:
        chosen["headers"] = headers
    return chosen


# --- what came


def shown(value: Any) -> Any:
    """A value with its type, and maps in one order, to be compared."""
    if isinstance(value, Map):
        return ("map", sorted((repr(shown(key)), shown(one)) for key, one in value.pairs), 0)
    if isinstance(value, list):
        return ("list", [shown(one) for one in value], 0)
    if isinstance(value, Array):
        return ("array", [shown(one) for one in value.items], 0)
    if isinstance(value, Described):
        return ("described", shown(value.descriptor), shown(value.value))
    return (type(value).__name__, repr(value), 0)


def sections_shown(payload: bytes) -> list[str]:
    """The sections of a message of AMQP 1.0, one a line."""
    lines: list[str] = []
    offset = 0
    while offset < len(payload):
        one, offset = decode(payload, offset)
        code, value = int(one.descriptor), one.value
        if isinstance(value, Map) and not value.pairs:
            continue
        if code == 0x70:  # what is left out is what it says by itself
            value = [*value, *[None] * (5 - len(value))]
            value[4] = value[4] or typed.UInt(0)
        if code == 0x73:
            while value and value[-1] is None:
                value.pop()
        if isinstance(value, Map):
            lines += [f"{code:#x} {shown(key)} {shown(item)}" for key, item in value.pairs]
        elif isinstance(value, list) and code in (0x70, 0x73):
            lines += [f"{code:#x} field {place} {shown(item)}" for place, item in enumerate(value)]
        else:
            lines.append(f"{code:#x} {shown(value)}")
    return [*sorted(line for line in lines if line < "0x75"), *[line for line in lines if line >= "0x75"]]


def field_shown(value: Any) -> str:
    if isinstance(value, T):
        if value.tag == "F":
            return f"F{sorted((name, field_shown(one)) for name, one in value.value.items())}"
        if value.tag == "A":
            return f"A{[field_shown(one) for one in value.value]}"
        raw = value.value.encode("utf-8", "surrogateescape") if isinstance(value.value, str) else value.value
        return f"{value.tag} {raw!r}"
    return repr(value)


def message_shown(got: Received) -> list[str]:
    """A message of AMQP 0-9-1, one property or header a line."""
    properties = dict(got.typed_properties or {})
    headers = properties.pop("headers", None) or {}
    lines = [f"{name} {field_shown(value)}" for name, value in properties.items()]
    lines += [f"header {name} {field_shown(value)}" for name, value in headers.items() if name not in OURS_ALONE]
    return [*sorted(lines), f"body {got.body!r}"]


class Side:
    """One broker, with a client of either protocol."""

    def __init__(self, choice: Choice) -> None:
        self._process = choice.start()
        self._under_test = BrokerUnderTest(self._process, "conversions", REPLY_TIMEOUT_S)
        self._begin()

    def _begin(self) -> None:
        self.channel: ChannelUnderTest = self._under_test.channel()
        self.channel.declare(QUEUE, durable=True)
        self.channel.confirm()
        self._confirms = 0
        self.client = Amqp10Client(self._process.address.port)
        self.client.sender(f"/queues/{QUEUE}")
        self.client.receiver(f"/queues/{QUEUE}")
        self._received = INITIAL_DELIVERY_COUNT

    def close(self) -> None:
        self._process.stop()

    def publish_10(self, payload: bytes) -> str:
        outcome = self.client.publish(payload)
        return "accepted" if outcome == ACCEPTED else f"outcome {outcome:#x}"

    def publish_091(self, properties: dict[str, Any]) -> str:
        self.channel.publish("", QUEUE, b"body", **properties)
        self._confirms += 1
        self.channel.await_confirms(self._confirms)
        return "confirmed"

    def read_10(self) -> list[str]:
        self.client.flow(1, 1, count=self._received)
        got = self.client.expect(TRANSFER)
        payload = got.payload
        while got.field(5):
            got = self.client.expect(TRANSFER)
            payload += got.payload
        self._received = (self._received + 1) & 0xFFFF_FFFF
        self.client.settle(got)
        return sections_shown(payload)

    def read_091(self) -> list[str]:
        return message_shown(self.channel.get_one(QUEUE, no_ack=True))

    def tried(self, what: Callable[[], Any]) -> Any:
        """What something gives, or that it ended the conversation, which is begun anew."""
        try:
            return what()
        except (AssertionError, OSError) as error:
            said = str(error).strip().splitlines()
            self._under_test.clean_up()
            self._begin()
            self.channel.call(Queue.Purge, queue=QUEUE)
            return [f"failed: {type(error).__name__}: {said[0] if said else ''}"]


def differences(seed: int, count: int, theirs: Side, ours: Side) -> list[str]:
    """What differs between the two, for so many messages."""
    found: list[str] = []
    for number in range(count):
        chance = random.Random(f"{seed}-{number}")
        from_10 = chance.random() < 0.6
        made: Any = message_10(chance) if from_10 else properties_091(chance)
        for reads_10 in (True, False):
            answers: list[list[str]] = []
            for side in (theirs, ours):
                publish: Callable[[Any], str] = side.publish_10 if from_10 else side.publish_091
                published = side.tried(partial(publish, made))
                is_there = published in ("accepted", "confirmed")
                read = side.tried(side.read_10 if reads_10 else side.read_091) if is_there else []
                answers.append([str(published), *read])
            if answers[0] != answers[1]:
                way = f"{'1.0' if from_10 else '0-9-1'} to {'1.0' if reads_10 else '0-9-1'}"
                lines = [f"message {number}, {way}:"]
                lines += [f"  RabbitMQ {line[:400]}" for line in answers[0] if line not in answers[1]]
                lines += [f"  ours     {line[:400]}" for line in answers[1] if line not in answers[0]]
                found.append("\n".join(lines))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m interop.conversions", description=__doc__)
    parser.add_argument("--messages", type=int, default=300, help="how many messages (300)")
    parser.add_argument("--seed", type=int, default=1, help="the same messages again (1)")
    arguments = parser.parse_args()
    if brokers.find_rabbitmq_4() is None:
        print("RabbitMQ 4.0 is not here (interop/rabbitmq4.sh makes it): nothing to compare with", file=sys.stderr)
        return 2
    with closing(Side(Choice(RABBITMQ, SERIES))) as theirs, closing(Side(Choice(OURS, SERIES))) as ours:
        found = differences(arguments.seed, arguments.messages, theirs, ours)
    print("\n".join(found[:SHOWN_MAX]))
    print(f"{arguments.messages} messages, {len(found)} differences, seed {arguments.seed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
