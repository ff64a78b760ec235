"""``python -m benchmarks.observers``: what those who look on cost, for each message that is published and delivered.

One broker in memory, without sockets and journal; one connection publishes to a queue and consumes it without
acknowledgements, in chunks as they come from a socket. What is measured is the processor's time of the whole process,
the best of several runs. The rounds go by turns, so that a machine which is slower for a while is so for all.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from pamqp import base, body, commands, frame, header

from amqp_broker.access.client import Peer
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.drops import Drops
from amqp_broker.broker.message import Address
from amqp_broker.broker.ports import PassiveDriver
from amqp_broker.broker.traced_messages import Wanted
from amqp_broker.protocols.amqp091.connection import Connection
from amqp_broker.server.clock import SystemClock
from amqp_broker.settings import Settings
from amqp_broker.wire import strings

CHUNK_MESSAGES = 100
BODY_BYTES = 100


class TracingDriver(PassiveDriver):
    """The driver of a broker whose traces somebody writes."""

    def writes_traces(self) -> bool:
        return True


class Scene:
    """A broker with a client that is about to publish.

    Args:
        prepare: turns on what is to be measured.
        routing_key: of what is published; there is a queue ``q``.
        settings: by name, where they differ from the defaults.
    """

    def __init__(self, prepare: Callable[[Broker], None], routing_key: str = "q", **settings: str) -> None:
        self.broker = Broker(Settings(**settings), SystemClock(), TracingDriver())  # type: ignore[arg-type]
        self.broker.open()
        self._connection = Connection(self.broker, Peer("127.0.0.1", 40000, True), lambda: None)
        self._connect()
        prepare(self.broker)
        content = header.ContentHeader(0, BODY_BYTES, commands.Basic.Properties(message_id="m", delivery_mode=1))
        message = (commands.Basic.Publish(routing_key=routing_key), content, body.ContentBody(b"b" * BODY_BYTES))
        self._chunk = b"".join(frame.marshal(one, 1) for one in message) * CHUNK_MESSAGES

    def _connect(self) -> None:
        self._hear(b"AMQP\x00\x00\x09\x01")
        self._say(0, commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US"))
        self._say(0, commands.Connection.TuneOk(2047, 131_072, 0))
        self._say(0, commands.Connection.Open("/"))
        self._say(1, commands.Channel.Open())
        for name in ("q", "copies", "events"):
            self._say(1, commands.Queue.Declare(queue=name))
            self._say(1, commands.Basic.Consume(queue=name, no_ack=True))
        self._say(1, commands.Queue.Bind(queue="copies", exchange="amq.rabbitmq.trace", routing_key="#"))
        if "amq.rabbitmq.event" in self.broker.virtual_hosts["/"].exchanges:
            self._say(1, commands.Queue.Bind(queue="events", exchange="amq.rabbitmq.event", routing_key="#"))

    def _say(self, channel: int, method: base.Frame) -> None:
        self._hear(frame.marshal(method, channel))

    def _hear(self, data: bytes) -> None:
        self._connection.receive(data)
        while self.broker.is_unfinished:
            self.broker.go_on()
        while output := self._connection.take_output():
            self._connection.output_sent(sum(map(len, output)))
        if self.broker.has_file_traces:
            self.broker.file_traces.take()

    def run(self, chunks: int) -> float:
        """Publish; returns the processor's time for each message, in microseconds."""
        began_s = time.process_time()
        for _ in range(chunks):
            self._hear(self._chunk)
        return (time.process_time() - began_s) / (chunks * CHUNK_MESSAGES) * 1e6


def _nothing(broker: Broker) -> None:
    pass


def _uncounted(broker: Broker) -> None:
    class Uncounted(Drops):  # not where it is compiled: nothing can derive from it then
        def unroutable(self, virtual_host: str, address: Address, user: str | None) -> None:
            pass

    for host in broker.virtual_hosts.values():
        host.drops = Uncounted(broker.clock)


def _firehose(broker: Broker) -> None:
    broker.firehose.turn_on(broker.virtual_hosts["/"])


def _file_trace(broker: Broker) -> None:
    broker.file_traces.add(broker.virtual_hosts["/"], "t", {"format": "json", "pattern": "#"}, "benchmark")


def _trace(wanted: Wanted) -> Callable[[Broker], None]:
    return lambda broker: broker.message_traces.start(wanted, "benchmark")


def scenes() -> dict[str, Scene]:
    """All that is measured, by what is on."""
    found = {
        "nobody looks on": Scene(_nothing),
        "event exchange with a listener": Scene(_nothing, event_exchange="on"),
        "trace of a message id that no message has": Scene(_trace(Wanted(message_id="other"))),
        "trace of one message of 1000": Scene(_trace(Wanted(sample=1000))),
        "trace of all messages": Scene(_trace(Wanted())),
        "firehose, its copies consumed": Scene(_firehose),
        "firehose and a trace to a file": Scene(_file_trace),
        "unroutable, counted": Scene(_nothing, routing_key="nobody"),
    }
    if strings.__file__.endswith(".py"):
        found["unroutable, not counted"] = Scene(_uncounted, routing_key="nobody")
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=20, help=f"in each round, of {CHUNK_MESSAGES} messages")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    found = scenes()
    best = dict.fromkeys(found, float("inf"))
    for _ in range(given.rounds):
        for name, scene in found.items():
            best[name] = min(best[name], scene.run(given.chunks))
    print(f"{'':<45}{'messages/s':>12}{'us each':>10}")
    for name, microseconds in best.items():
        print(f"{name:<45}{1e6 / microseconds:>12,.0f}{microseconds:>10.2f}")


if __name__ == "__main__":
    main()
