"""``python -m benchmarks.firehose``: what the firehose costs, ours beside RabbitMQ with its own.

A message is published to a queue and delivered without acknowledgements; with the firehose on, both of its copies are
consumed as well. The brokers and both ways go by turns. What is measured is the processor's time of the broker's
processes for each message, and the rate; what those who look on cost without sockets is ``benchmarks/observers.py``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack

from pamqp import commands

from benchmarks.brokers import await_rest, cpu_s
from benchmarks.client import Client
from benchmarks.frames import publish
from interop.brokers import OurBroker, RabbitMQ

BODY = b"b" * 100
CHUNK_MESSAGES = 50
AHEAD_MESSAGES = 2_000  # so many may be on their way


class Course:
    """One broker with a client.

    Args:
        process: the broker.
    """

    def __init__(self, process: OurBroker | RabbitMQ) -> None:
        self.process = process
        self._client = Client(process.address)
        for name in ("q", "copies"):
            self._client.call(commands.Queue.Declare(queue=name))
            self._client.call(commands.Basic.Consume(queue=name, no_ack=True))
        self._client.call(commands.Queue.Bind(queue="copies", exchange="amq.rabbitmq.trace", routing_key="#"))
        self._chunk = publish("", "q", BODY).frames * CHUNK_MESSAGES

    def turn(self, *, is_on: bool) -> None:
        """Turn the firehose on or off."""
        if isinstance(self.process, RabbitMQ):
            self.process.ctl("trace_on" if is_on else "trace_off")
        else:
            self.process.ctl("vhosts", "trace", "/", "on" if is_on else "off")

    def run(self, count: int, copies: int) -> tuple[float, float]:
        """Publish; returns the rate, and the processor's time for each message in microseconds.

        Args:
            copies: how many deliveries come of each message.
        """
        await_rest(self.process.pid)
        began_s, began_cpu_s = time.monotonic(), cpu_s(self.process.pid)
        published = delivered = 0
        while delivered < count * copies:
            while published < count and published - delivered // copies < AHEAD_MESSAGES:
                self._client.socket.sendall(self._chunk)
                published += CHUNK_MESSAGES
            delivered += self._deliveries(self._client.socket.recv(1_048_576))
        took_s, took_cpu_s = time.monotonic() - began_s, cpu_s(self.process.pid) - began_cpu_s
        return count / took_s, took_cpu_s / count * 1e6

    def _deliveries(self, data: bytes) -> int:
        """How many have come whole: by their last frames, the bodies."""
        client = self._client
        client.rest += data
        place = found = 0
        while len(client.rest) - place >= 7:
            size = int.from_bytes(client.rest[place + 3 : place + 7], "big") + 8
            if len(client.rest) - place < size:
                break
            found += client.rest[place] == 3
            place += size
        client.rest = client.rest[place:]
        return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000, help="in each round")
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    figures: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        courses = {}
        for process in (OurBroker(), RabbitMQ()):
            stack.callback(process.stop)
            courses[process.kind] = Course(process)
        for _ in range(given.rounds):
            for is_on in (False, True):
                for kind, course in courses.items():
                    course.turn(is_on=is_on)
                    found = course.run(given.messages, 3 if is_on else 1)
                    figures.setdefault((kind, is_on), []).append(found)
    print(f"{'':<24}{'messages/s':>12}{'us of CPU each':>16}   (medians of {given.rounds})")
    for (kind, is_on), found_all in figures.items():
        rate, microseconds = (statistics.median(one) for one in zip(*found_all, strict=True))
        print(f"{kind + (', firehose' if is_on else ''):<24}{rate:>12,.0f}{microseconds:>16.1f}")


if __name__ == "__main__":
    main()
