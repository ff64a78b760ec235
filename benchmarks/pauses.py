"""The longest pauses: how long a client that asks for something trivial waits while something large is done.

The client has a connection of its own and gets from an empty queue, every millisecond; the longest time to its answer
counts. It is asked of both brokers. Ours has a task in its loop besides that should wake every millisecond
(``watched.py``): its longest lateness is the broker's own share, without the network and the other process, and the
most processor time that its thread takes between two wakings is that without other programs.

Each cell has a fresh broker. A large thing is a generator: what comes before its ``yield`` is preparation, and the
clock runs from there to its end and a moment longer.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from pamqp import commands
from pamqp.frame import marshal
from pamqp.header import ProtocolHeader

from benchmarks.brokers import RunningBroker, running, watched
from benchmarks.cells import QUEUE, Cell
from benchmarks.client import CONSUMER_TAG, Client
from benchmarks.crew import Board, Crew
from benchmarks.frames import publish
from benchmarks.load import Caller
from benchmarks.measuring import BUSY, LATENESS, LONGEST, P50, TOOK, Figures, Timing, percentiles
from benchmarks.watched import Lateness
from interop.brokers import Address

MILLION = 1_000_000
MANY = 100_000
BACKLOG = "benchmark.backlog"
DEAD_LETTERS = "benchmark.dead"
AFTERMATH_S = 1.0
PATIENCE_S = 120.0
BODY = b"x" * 12
CHANNEL_OPENED = bytes((1, 0, 1, 0, 0, 0, 8, 0, 20, 0, 11, 0, 0, 0, 0, 206))  # pamqp makes none with an empty id

Large = Callable[[Client, RunningBroker], Iterator[None]]


class Prober(Caller):
    """Asks for the next message of an empty queue, waits a millisecond, asks again; notes each answer's time."""

    def run(self, board: Board, ready: Callable[[], None]) -> None:
        """Ask until the process is ended."""
        with Client(self.address) as client:
            ready()
            done = 0
            while True:
                start_ns = time.monotonic_ns()
                client.socket.sendall(self.request)
                if not client.socket.recv(self.answer_bytes):
                    raise RuntimeError("the broker closed the connection")
                board.latencies_ns[done] = time.monotonic_ns() - start_ns
                done += 1
                board.done[0] = done
                time.sleep(0.001)


def pause(broker: RunningBroker, timing: Timing, *, large: Large) -> Figures:
    """The longest wait for a trivial answer while the broker does something large."""
    with ExitStack() as stack:
        lateness: Lateness | None = None
        if not broker.is_peer:
            fresh, lateness = stack.enter_context(watched(broker.kind))
        else:
            fresh = stack.enter_context(running(broker.kind))
        client = stack.enter_context(Client(fresh.address))
        crew = stack.enter_context(Crew())
        client.declare(QUEUE)
        doing = large(client, fresh)
        next(doing)
        crew.board.measure_latencies()
        crew.start(Prober(fresh.address, marshal(commands.Basic.Get(queue=QUEUE, no_ack=True), 1), 13))
        time.sleep(0.5)
        if lateness is not None:
            lateness.reset()
        before, began_s = crew.board.done[0], time.monotonic()
        for _ in doing:
            pass
        took_s = time.monotonic() - began_s
        time.sleep(AFTERMATH_S)
        crew.check()
        latencies_ns = crew.board.latencies_ns[before : crew.board.done[0]]
        figures = {LONGEST: max(latencies_ns) / 1e6, P50: percentiles(latencies_ns)[P50], TOOK: took_s * 1000}
        if lateness is not None:
            figures |= {LATENESS: lateness.longest_ns / 1e6, BUSY: lateness.busy_ns / 1e6}
        return figures


# --- what is large


def _backlog(client: Client, count: int, *, persistent: bool = False, **arguments: Any) -> None:
    client.declare(BACKLOG, durable=True, **arguments)
    client.fill(BACKLOG, count, BODY, persistent=persistent)


def _holding(address: Address, count: int) -> Client:
    """A client that has so many unacknowledged messages."""
    client = Client(address)
    client.consume(BACKLOG, 0, no_ack=False, prefetch=0)
    delivery_bytes = publish("", BACKLOG, BODY).delivered_bytes + len(CONSUMER_TAG.format(0))
    missing_bytes = count * delivery_bytes - len(client.rest)
    client.rest = b""
    while missing_bytes > 0:
        missing_bytes -= len(client.socket.recv(min(missing_bytes, 262_144)))
    return client


def _cut(client: Client) -> None:
    """End a connection that the prober's process has inherited, so that closing it here would not be enough."""
    client.socket.shutdown(socket.SHUT_RDWR)
    client.socket.close()


def _await_count(client: Client, queue: str, count: int) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while (found := client.ready_count(queue)) != count:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"there are {found} messages in {queue} instead of {count}")
        time.sleep(0.02)


def nothing(client: Client, broker: RunningBroker) -> Iterator[None]:
    """For comparison: a million messages just lie there."""
    _backlog(client, MILLION)
    yield
    time.sleep(2)


def publish_more(client: Client, broker: RunningBroker) -> Iterator[None]:
    """200,000 more, where a million are."""
    _backlog(client, MILLION)
    yield
    client.fill(BACKLOG, 200_000, BODY)


def purge(client: Client, broker: RunningBroker, *, persistent: bool) -> Iterator[None]:
    """queue.purge of a million."""
    _backlog(client, MILLION, persistent=persistent)
    yield
    client.call(commands.Queue.Purge(queue=BACKLOG))


def delete(client: Client, broker: RunningBroker, *, persistent: bool) -> Iterator[None]:
    """queue.delete with a million."""
    _backlog(client, MILLION, persistent=persistent)
    yield
    client.delete([BACKLOG])


def reclaim(client: Client, broker: RunningBroker) -> Iterator[None]:
    """A million persistent messages go, all but every tenth, so that segments are rewritten."""
    client.declare("benchmark.kept", durable=True)
    client.declare(BACKLOG, durable=True)
    few, many = (publish("", name, b"x" * 200, persistent=True).frames for name in ("benchmark.kept", BACKLOG))
    for _ in range(1_000):
        client.socket.sendall((many * 9 + few) * 100)
    _await_count(client, BACKLOG, 900_000)
    yield
    client.call(commands.Queue.Purge(queue=BACKLOG))
    time.sleep(5)


def requeue(client: Client, broker: RunningBroker) -> Iterator[None]:
    """basic.recover with 100,000 unacknowledged messages."""
    _backlog(client, MANY)
    with _holding(broker.address, MANY) as holder:
        holder.call(commands.Basic.Cancel(consumer_tag=CONSUMER_TAG.format(0)))
        yield
        holder.call(commands.Basic.Recover(requeue=True))


def requeue_to_its_consumer(client: Client, broker: RunningBroker) -> Iterator[None]:
    """The same, and they are delivered again at once."""
    _backlog(client, MANY)
    with _holding(broker.address, MANY) as holder:
        yield
        holder.socket.sendall(marshal(commands.Basic.Recover(requeue=True), 1))
        missing_bytes = MANY * (publish("", BACKLOG, BODY).delivered_bytes + len(CONSUMER_TAG.format(0)))
        while missing_bytes > 0:
            missing_bytes -= len(holder.socket.recv(262_144))


def acknowledge(client: Client, broker: RunningBroker, *, persistent: bool) -> Iterator[None]:
    """basic.ack multiple of 100,000."""
    _backlog(client, MANY, persistent=persistent)
    with _holding(broker.address, MANY) as holder:
        yield
        holder.socket.sendall(marshal(commands.Basic.Ack(0, multiple=True), 1))
        holder.call(commands.Basic.Qos(prefetch_count=1))


def lose(client: Client, broker: RunningBroker) -> Iterator[None]:
    """A connection with 100,000 unacknowledged messages ends."""
    _backlog(client, MANY)
    holder = _holding(broker.address, MANY)
    yield
    _cut(holder)
    _await_count(client, BACKLOG, MANY)


def reject(client: Client, broker: RunningBroker) -> Iterator[None]:
    """basic.nack multiple of 100,000 that are dead-lettered."""
    _declare_dead_letters(client)
    _backlog(client, MANY, x_dead_letter_exchange="", x_dead_letter_routing_key=DEAD_LETTERS)
    with _holding(broker.address, MANY) as holder:
        yield
        holder.socket.sendall(marshal(commands.Basic.Nack(0, multiple=True, requeue=False), 1))
        _await_count(client, DEAD_LETTERS, MANY)


def expire(client: Client, broker: RunningBroker) -> Iterator[None]:
    """100,000 messages expire at once, and are dead-lettered."""
    _declare_dead_letters(client)
    client.declare(BACKLOG, durable=True, x_dead_letter_exchange="", x_dead_letter_routing_key=DEAD_LETTERS)
    message = publish("", BACKLOG, BODY, expiration="4000").frames
    begun_s = time.monotonic()
    client.socket.sendall(message * MANY)
    _await_count(client, BACKLOG, MANY)
    time.sleep(max(0, 3.0 - (time.monotonic() - begun_s)))
    yield
    _await_count(client, DEAD_LETTERS, MANY)


def _declare_dead_letters(client: Client) -> None:
    client.declare(DEAD_LETTERS, durable=True)


def limit(client: Client, broker: RunningBroker) -> Iterator[None]:
    """A policy limits the length of a queue with a million."""
    _backlog(client, MILLION)
    yield
    definition = '{"max-length": 1000}'
    if broker.is_peer:
        broker.ctl("set_policy", "short", BACKLOG, definition)
    else:
        broker.ctl("policies", "set", "short", BACKLOG, definition)
    _await_count(client, BACKLOG, 1_000)


def commit(client: Client, broker: RunningBroker, *, persistent: bool) -> Iterator[None]:
    """tx.commit of 100,000 publishes."""
    client.declare(BACKLOG, durable=True)
    client.call(commands.Tx.Select())
    client.socket.sendall(publish("", BACKLOG, BODY, persistent=persistent).frames * MANY)
    client.ready_count(BACKLOG)  # all of them are there
    yield
    client.call(commands.Tx.Commit())


def unbind(client: Client, broker: RunningBroker) -> Iterator[None]:
    """exchange.delete with 10,000 bindings."""
    client.declare(BACKLOG, durable=True)
    client.declare_exchange("benchmark.topic", "topic")
    client.bind(BACKLOG, "benchmark.topic", [f"stock.*.{number:05}.#" for number in range(10_000)])
    yield
    client.call(commands.Exchange.Delete(exchange="benchmark.topic"))


def many_leave(client: Client, broker: RunningBroker) -> Iterator[None]:
    """Two thousand connections end, where a million messages are: worth a look for garbage."""
    _backlog(client, MILLION)
    clients = [Client(broker.address) for _ in range(2_000)]
    yield
    for each in clients:
        _cut(each)
    time.sleep(6)  # garbage is looked for every five seconds


def many_arrive(client: Client, broker: RunningBroker) -> Iterator[None]:
    """Two thousand clients come, each with all at once that it says until it has a channel."""
    address = broker.address
    said = ProtocolHeader(0, 9, 1).marshal() + b"".join(
        marshal(method, channel)
        for method, channel in (
            (commands.Connection.StartOk({}, "PLAIN", f"\0{address.user}\0{address.password}", "en_US"), 0),
            (commands.Connection.TuneOk(2047, 131_072, 0), 0),
            (commands.Connection.Open(address.vhost), 0),
            (commands.Channel.Open(), 1),
        )
    )
    yield
    with ExitStack() as stack:
        arrived = []
        for _ in range(2_000):
            arrived.append(stack.enter_context(socket.create_connection((address.host, address.port), PATIENCE_S)))
            arrived[-1].sendall(said)
        for each in arrived:
            answers = b""
            while not answers.endswith(CHANNEL_OPENED):
                if not (more := each.recv(65_536)):
                    raise RuntimeError("the broker let a client go")
                answers += more
        time.sleep(2)


LARGE: dict[str, Large] = {
    "1000000-ready": nothing,
    "1000000-ready-publish": publish_more,
    "1000000-purged/transient": partial(purge, persistent=False),
    "1000000-purged/persistent": partial(purge, persistent=True),
    "1000000-deleted/transient": partial(delete, persistent=False),
    "1000000-deleted/persistent": partial(delete, persistent=True),
    "segments-reclaimed": reclaim,
    "100000-requeued": requeue,
    "100000-requeued-and-redelivered": requeue_to_its_consumer,
    "100000-acknowledged/transient": partial(acknowledge, persistent=False),
    "100000-acknowledged/persistent": partial(acknowledge, persistent=True),
    "100000-lost-with-their-connection": lose,
    "100000-rejected-and-dead-lettered": reject,
    "100000-expired-and-dead-lettered": expire,
    "1000000-limited-by-a-policy": limit,
    "100000-committed/transient": partial(commit, persistent=False),
    "100000-committed/persistent": partial(commit, persistent=True),
    "10000-bindings-deleted": unbind,
    "2000-connections-arrive": many_arrive,
    "2000-connections-leave": many_leave,
}


def cells() -> list[Cell]:
    """All cells of this table."""
    return [Cell(f"pause/{name}", partial(pause, large=large)) for name, large in LARGE.items()]
