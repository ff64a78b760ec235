"""AMQP 1.0 side by side: this broker and RabbitMQ 4.0, in turns, with their defaults.

    .venv/bin/python -m benchmarks.amqp10                          all that is installed, two minutes
    .venv/bin/python -m benchmarks.amqp10 --cells 'publish*' --rounds 5

One durable classic queue and messages, durable ones unless it says otherwise, which are published unsettled and count
once the broker has accepted them, and are received from a queue that holds them already, each accepted. The frames are
made beforehand but for their numbers, so the load itself costs little. All brokers run at the same time, idle but for
the one that is asked; shown is the median of the rounds. The 99th percentile is that of the time from a message to its
outcome, or to its delivery, a thousand a second.
"""

from __future__ import annotations

import argparse
import select
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

import pika

from amqp_broker.protocols.amqp10.performatives import ACCEPTED, DISPOSITION, FLOW, TRANSFER, composite, performative
from amqp_broker.protocols.amqp10.typed import UInt
from benchmarks.brokers import OURS, await_rest, cpu_s, empty_write_cache
from benchmarks.brokers import _environment as environment_of
from benchmarks.streams import installed
from interop.amqp10_client import Amqp10Client, Frame
from interop.brokers import OurBroker, RabbitMQ, find_rabbitmq_4

DURATION_S: Final = 2.0
WARMING_S: Final = 0.5
PATIENCE_S: Final = 60.0
BACKLOG: Final = 20_000
CREDIT: Final = 1_000
UNSETTLED_MAX: Final = 1_000
PACED_PER_S: Final = 1_000
WINDOW: Final = 2**31 - 1
DURABLE: Final = b"\0\x53\x70\xc0\x02\x01\x41"  # a header section that says so
NOT_DURABLE: Final = b"\0\x53\x70\xc0\x02\x01\x42"
NUMBER_PLACE: Final = 0xCAFEBABE  # stands where a delivery's number will
# Sections of properties and application properties: a number for an id, and "number" and "kind".
OF_ITS_OWN: Final = (
    b"\0\x53\x73\xc0\x0a\x01\x80\0\0\0\0\xca\xfe\xba\xbe"
    b"\0\x53\x74\xc1\x1a\x04\xa1\x06number\x70\xca\xfe\xba\xbe\xa1\x04kind\xa1\x04test"
)
_NUMBER: Final = struct.Struct(">I")
_HEAD: Final = struct.Struct(">IBBH")

Figures = dict[str, float]


@dataclass(frozen=True)
class Target:
    """A broker that is asked."""

    name: str
    port: int
    pid: int


class Template:
    """A frame of which only the numbers of deliveries change.

    Args:
        code: of its performative.
        fields: with ``UInt(NUMBER_PLACE)`` or its four bytes where these stand.
        payload: behind it.
    """

    def __init__(self, code: int, fields: list[object], payload: bytes = b"") -> None:
        body = performative(code, fields) + payload
        whole = _HEAD.pack(8 + len(body), 2, 0, 0) + body
        self._parts = whole.split(_NUMBER.pack(NUMBER_PLACE))

    def numbered(self, number: int) -> bytes:
        """The frame of a delivery."""
        return _NUMBER.pack(number).join(self._parts)


class Load(Amqp10Client):
    """A connection that sends much, and looks only at what tells how far it is."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.flow_limit = 0  # numbers of deliveries below it may be sent
        self.settled = 0  # numbers below it have an outcome
        self.received: list[int] = []  # numbers of deliveries that came and were not settled
        self.accepted = 0

    def sends_to(self, queue: str) -> None:
        """Attach a link, and see how much may be sent."""
        self.attach_sender(f"/queues/{queue}")
        while not self.flow_limit:
            frame = self.take()
            assert frame is not None, "the connection has ended"
            self._look_at(frame)

    def _look_at(self, frame: Frame) -> None:
        if frame.code == FLOW:
            session = (frame.field(0) or 0) + frame.field(1)
            if frame.field(4) is not None:
                self._link_limit = (frame.field(5) or 0) + frame.field(6)
            self.flow_limit = min(session, self._link_limit)
        elif frame.code == DISPOSITION:
            last = frame.field(1) if frame.field(2) is None else frame.field(2)
            assert int(frame.field(4).descriptor) == ACCEPTED
            self.settled = max(self.settled, last + 1)
        elif frame.code == TRANSFER:
            self.received.append(frame.field(1))
        else:
            assert frame.code not in (0x16, 0x17, 0x18), frame.fields

    def accept(self, settling: Template) -> int:
        """Accept what has come; returns how many were accepted in all."""
        came, self.received = self.received, []
        if came:
            self.write(b"".join(map(settling.numbered, came)))
            self.accepted += len(came)
        return self.accepted

    def grant(self, count: int) -> None:
        """Give credit for so many more than were accepted."""
        next_id = UInt((self.begin_answer.field(1) + self.accepted) % 2**32)
        said = UInt(self.accepted)
        self.send(FLOW, next_id, UInt(WINDOW), UInt(0), UInt(WINDOW), UInt(1), said, UInt(count))

    _link_limit = 0

    def look(self, *, waits: bool = True) -> None:
        """Take what has come; wait for something."""
        if waits or select.select([self._socket], [], [], 0)[0]:
            data = self._socket.recv(262_144)
            assert data, "the connection has ended"
            self._data += data
        data, start = self._data, 0
        while len(data) - start >= 8:
            size = int.from_bytes(data[start : start + 4], "big")
            if len(data) - start < size:
                break
            if size > 8:
                self._look_at_bytes(data[start + 8 : start + size])
            start += size
        self._data = data[start:]

    def _look_at_bytes(self, body: bytes) -> None:
        """A frame; of a transfer only its number is looked for, behind its handle."""
        if body[:3] == b"\0\x53\x14" and body[3] in (0xC0, 0xD0):
            place = 6 if body[3] == 0xC0 else 12
            place += {0x43: 1, 0x52: 2, 0x70: 5}[body[place]]
            kind = body[place]
            value = {0x43: 0, 0x52: 1, 0x70: 4}[kind]
            self.received.append(int.from_bytes(body[place + 1 : place + 1 + value], "big"))
        else:
            self._look_at(_frame_of(body))


def _frame_of(body: bytes) -> Frame:
    from amqp_broker.protocols.amqp10.decoding import decode

    described, offset = decode(body, 0)
    return Frame(int(described.descriptor), described.value, body[offset:])


def transfer(body_bytes: int, header: bytes = DURABLE) -> Template:
    """A message."""
    payload = header + b"\0\x53\x75\xb0" + body_bytes.to_bytes(4, "big") + bytes(body_bytes)
    tag = _NUMBER.pack(NUMBER_PLACE)
    return Template(TRANSFER, [UInt(0), UInt(NUMBER_PLACE), tag, UInt(0), False], payload)


def accepted() -> Template:
    """The disposition of one delivery."""
    return Template(DISPOSITION, [True, UInt(NUMBER_PLACE), None, True, composite(ACCEPTED, [])])


@contextmanager
def queue_of(target: Target, name: str) -> Iterator[str]:
    """A durable queue."""
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", target.port)) as connection:
        channel = connection.channel()
        channel.queue_declare(name, durable=True)
        try:
            yield name
        finally:
            channel.queue_delete(name)


def publish_for(load: Load, frame: Template, first: int, duration_s: float) -> int:
    """Send for so long, and wait for all outcomes; returns the number of the next delivery."""
    number = first
    end_s = time.perf_counter() + duration_s
    while time.perf_counter() < end_s:
        count = min(load.flow_limit, load.settled + UNSETTLED_MAX) - number
        if count > 0:
            load.write(b"".join([frame.numbered(each) for each in range(number, number + count)]))
            number += count
        else:
            load.look()
    while load.settled < number:
        load.look()
    return number


def publishing(body_bytes: int, header: bytes = DURABLE) -> Callable[[Target], Figures]:
    """One sender, unsettled."""

    def cell(target: Target) -> Figures:
        frame = transfer(body_bytes, header)
        with queue_of(target, "bench10") as queue, Load(target.port) as load:
            load.sends_to(queue)
            first = publish_for(load, frame, 0, WARMING_S)
            used_s, started_s = cpu_s(target.pid), time.perf_counter()
            count = publish_for(load, frame, first, DURATION_S) - first
            took_s, used_s = time.perf_counter() - started_s, cpu_s(target.pid) - used_s
            behind = first + count
            late_ms = paced(load, frame, behind, [load], lambda: load.settled - behind)
        return {"1/s": count / took_s, "us CPU": used_s / count * 1e6, "p99 ms": late_ms}

    return cell


def paced(sender: Load, frame: Template, first: int, looked_at: list[Load], done: Callable[[], int]) -> float:
    """Send a message each millisecond; the 99th percentile of the times until it was done with, in milliseconds.

    Args:
        looked_at: the connections on which something comes.
        done: how many have been done with, as far as was looked.
    """
    count = int(DURATION_S * PACED_PER_S)
    begin_s, sent = time.perf_counter(), 0
    times: list[float] = []
    while len(times) < count:
        now_s = time.perf_counter()
        while sent < count and begin_s + sent / PACED_PER_S <= now_s and first + sent < sender.flow_limit:
            sender.write(frame.numbered(first + sent))
            sent += 1
        wait_s = max(0.0, begin_s + sent / PACED_PER_S - time.perf_counter()) if sent < count else 1.0
        ready = select.select([load._socket for load in looked_at], [], [], wait_s)[0]
        for load in looked_at:
            if load._socket in ready:
                load.look()
        now_s = time.perf_counter()  # from when it was due, sent in time or not
        times += [now_s - begin_s - number / PACED_PER_S for number in range(len(times), done())]
    return statistics.quantiles(times, n=100)[98] * 1e3


def consuming(body_bytes: int) -> Callable[[Target], Figures]:
    """One receiver of a backlog, which accepts each message, then of what is sent to it each millisecond."""

    def cell(target: Target) -> Figures:
        frame, settling = transfer(body_bytes), accepted()
        with queue_of(target, "bench10") as queue:
            with Load(target.port) as filling:
                filling.sends_to(queue)
                number = 0
                while number < BACKLOG:
                    count = min(filling.flow_limit, filling.settled + UNSETTLED_MAX, BACKLOG) - number
                    if count > 0:
                        filling.write(b"".join([frame.numbered(each) for each in range(number, number + count)]))
                        number += count
                    else:
                        filling.look()
                while filling.settled < BACKLOG:
                    filling.look()
            await_rest(target.pid)
            used_s, started_s = cpu_s(target.pid), time.perf_counter()
            with Load(target.port) as load:
                load.receiver(f"/queues/{queue}", credit=0)
                receive(load, settling)
                took_s, used_s = time.perf_counter() - started_s, cpu_s(target.pid) - used_s
                with Load(target.port) as sender:
                    sender.sends_to(queue)
                    load.grant(int(DURATION_S * PACED_PER_S))
                    late_ms = paced(sender, frame, 0, [sender, load], lambda: load.accept(settling) - BACKLOG)
        return {"1/s": BACKLOG / took_s, "us CPU": used_s / BACKLOG * 1e6, "p99 ms": late_ms}

    return cell


def receive(load: Load, settling: Template) -> None:
    """Take the backlog and accept each; credit is given anew when half of it is used."""
    count = granted = 0
    deadline_s = time.perf_counter() + PATIENCE_S
    while count < BACKLOG:
        assert time.perf_counter() < deadline_s, f"{count} of {BACKLOG} came"
        if granted - count <= CREDIT // 2:
            granted = count + CREDIT
            load.grant(CREDIT)
        load.look()
        count = load.accept(settling)


CELLS: dict[str, Callable[[Target], Figures]] = {
    "publish unsettled, 12 B": publishing(12),
    "publish unsettled, 1 KiB": publishing(1024),
    "publish unsettled, not durable, 12 B": publishing(12, NOT_DURABLE),
    "publish unsettled, not durable, 1 KiB": publishing(1024, NOT_DURABLE),
    "publish unsettled, an id and a property of its own, 12 B": publishing(12, DURABLE + OF_ITS_OWN),
    "consume with accept, 12 B": consuming(12),
    "consume with accept, 1 KiB": consuming(1024),
}


@contextmanager
def targets(wanted: list[str]) -> Iterator[list[Target]]:
    """The brokers that there are, all running."""
    with ExitStack() as stack:
        found = []
        for name in wanted:
            is_theirs = name.startswith("rabbitmq")
            started = RabbitMQ(find_rabbitmq_4()) if is_theirs else OurBroker(environment=environment_of(name))
            stack.callback(started.stop)
            found.append(Target(name, started.address.port, started.pid))
        yield found


def main() -> None:
    """Run the cells, and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--cells", default="*", help="a pattern of names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--brokers", nargs="*", default=installed(), help=f"{OURS}, compiled, rabbitmq 4.0")
    options = parser.parse_args()
    print(f"| | | {' | '.join(options.brokers)} |\n|---|---|{'---|' * len(options.brokers)}")
    with targets(options.brokers) as found:
        for name, cell in CELLS.items():
            if not fnmatchcase(name, options.cells):
                continue
            measured: dict[str, list[Figures]] = {target.name: [] for target in found}
            for _ in range(options.rounds):
                for target in found:
                    measured[target.name].append(cell(target))
                    await_rest(target.pid)
                    empty_write_cache()
            for unit in measured[found[0].name][0]:
                shown = [statistics.median(figures[unit] for figures in measured[target.name]) for target in found]
                print(f"| {name} | {unit} | {' | '.join(f'{figure:,.2f}' for figure in shown)} |", flush=True)


if __name__ == "__main__":
    main()
