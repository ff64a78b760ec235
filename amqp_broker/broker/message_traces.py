"""Traces of where messages went: every hop of those that an operator asks for, kept in memory: when, in which queue, to
whom, and what became of it; for those that went nowhere, why.

Off until ``start``: then it looks on (``observer.py``), and nobody else pays for it. What is kept is bounded: so many
messages, the oldest go first, with so many hops each, and bodies only where they are asked for, and only their
beginning.

A message is known again by its queue, exchange, routing key, content header and body, because a queue may write it to
the disk and read it back as another object. Messages that are alike in all of that are told apart by their order. A
message may be delivered, or die, before its publish is told: such events wait for the publish (``_early``) until the
piece of work in the middle of which they came is done. Those that are left then are of messages that were there before
the trace began.

Holds no counts; those are always on (``drops.py``), nor which messages are meant (``traced_messages.py``), nor what is
kept of each (``message_hops.py``).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypedDict

from amqp_broker.broker.message_hops import Hop, Key, MessageTrace, MessageTraceInfo
from amqp_broker.broker.observer import Channel, Kind, Observers, Onlooker, Passage, Settlement, Subject
from amqp_broker.broker.policy_limits import policy_behind
from amqp_broker.broker.traced_messages import Wanted
from amqp_broker.logs import log_event
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.dead_letter import DeathReason
    from amqp_broker.broker.message import Address, Message
    from amqp_broker.broker.ports import Clock
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.queues.consumers import Consumer

BODY_BYTES_MAX: Final = 1024

WAITING: Final = "waiting"
DELIVERED: Final = "delivered"
REFUSED: Final = "refused"
DUPLICATE: Final = "duplicate"
STATE_OF: Final = {
    "acknowledged": "acknowledged",
    "rejected": DELIVERED,  # until it is told how it died
    "requeued": WAITING,
    "abandoned": WAITING,
}


class TraceStatus(TypedDict):
    """The status of tracing: whether messages are traced, and which."""

    on: bool
    vhost: str | None
    message_id: str | None
    correlation_id: str | None
    headers: Table
    sample: int
    bodies: bool
    traces_max: int
    traces: int  # that are kept now
    since: int | None  # when it was started, in milliseconds since 1970


class _Event:
    """An event that happened to a message in a queue."""

    __slots__ = ("channel", "consumer", "ends", "message", "name", "onward", "passage", "queue", "reason", "state")

    def __init__(self, name: str, queue: Queue, message: Message, state: str, *, ends: bool) -> None:
        self.name = name
        self.queue = queue
        self.message = message
        self.state = state
        self.ends = ends  # it is not in the queue any more
        self.channel: Channel | None = None
        self.consumer: Consumer | None = None
        self.reason: str | None = None
        self.passage: Passage | None = None  # as a dead letter
        self.onward: list[tuple[Key, str]] = []


class MessageTraces(Onlooker):
    """The traces of one broker.

    Args:
        observers: among whom it looks on while it is on.
        to_finish: what the broker does at the end of a piece of work.
        clock: tells when.
        reply_consumers: the routing keys of direct replies that somebody waits for.
    """

    def __init__(
        self,
        observers: Observers,
        to_finish: Callable[[Callable[[], None]], None],
        clock: Clock,
        reply_consumers: Container[str],
    ) -> None:
        self._observers = observers
        self._to_finish = to_finish
        self._clock = clock
        self._reply_consumers = reply_consumers
        self.is_on = False
        self._wanted = Wanted()
        self._since_ms: int | None = None
        self._seen = 0  # that fit, for the sample
        self._count = 0
        self._traces: deque[MessageTrace] = deque()
        self._at: dict[Key, list[MessageTrace]] = {}
        self._early: dict[Key, list[_Event]] = {}
        self._last_header = b""
        self._last_fits = False

    # --- on and off

    def start(self, wanted: Wanted, who: str) -> None:
        """Trace these messages from now on, and no others; what was kept before is gone.

        Args:
            who: wants it, for the log.
        """
        log_event(logging.INFO, "trace started", vhost=wanted.virtual_host, sample=wanted.sample, who=who)
        self._wanted = wanted
        self._last_header = b""
        self._seen = 0
        self._since_ms = self._clock.wall_ms()
        self._traces.clear()
        self._at.clear()
        self._early.clear()
        if not self.is_on:
            self.is_on = True
            self._observers.add(self)

    def stop(self, who: str) -> None:
        """Trace nothing more; what was seen is kept until the next start."""
        if self.is_on:
            log_event(logging.INFO, "trace stopped", who=who)
            self.is_on = False
            self._observers.remove(self)
            self._at.clear()
            self._early.clear()

    def status(self) -> TraceStatus:
        """Whether it is on, and what for."""
        wanted = self._wanted
        return {
            "on": self.is_on,
            "vhost": wanted.virtual_host,
            "message_id": wanted.message_id,
            "correlation_id": wanted.correlation_id,
            "headers": wanted.headers,
            "sample": wanted.sample,
            "bodies": wanted.keeps_bodies,
            "traces_max": wanted.traces_max,
            "traces": len(self._traces),
            "since": self._since_ms,
        }

    def traces(self, message_id: str | None = None, correlation_id: str | None = None) -> Iterator[MessageTraceInfo]:
        """What was seen, the last message first.

        Args:
            message_id: of these only.
            correlation_id: of these only.
        """
        for trace in list(reversed(self._traces)):
            if message_id is not None and trace.message_id != message_id:
                continue
            if correlation_id is None or trace.correlation_id == correlation_id:
                yield trace.describe()

    # --- what it sees

    def published(self, channel: Channel, passage: Passage) -> None:
        name = passage.virtual_host.name
        if self._wanted.virtual_host is not None and name != self._wanted.virtual_host:
            return
        if not self._wants(passage.header):
            for queue in passage.queues:
                self._early.pop(_key(queue, passage.address, passage.header, passage.body), None)
            return
        trace = self._begin(name, passage.address, passage.header, passage.body)
        hop = self._hop("published" if passage.error is None else "refused", passage.address, channel)
        hop["queues"] = [queue.name for queue in passage.queues]
        trace.add(hop)
        hop["reason"] = self._reason_of_publish(passage)
        is_refused = hop["reason"] == REFUSED
        sends_on = is_refused and len(passage.queues) == 1 and _sends_refused_on(passage.queues[0])
        if hop["reason"] is not None and not sends_on:  # else it dies there, and goes on as a dead letter
            trace.reasons.append(hop["reason"])
        self._arrives(
            trace,
            [(_key(queue, passage.address, passage.header, passage.body), queue.name) for queue in passage.queues],
        )
        if is_refused and len(passage.queues) == 1 and not sends_on:
            self._leaves(trace, _key(passage.queues[0], passage.address, passage.header, passage.body))
            trace.states[passage.queues[0].name] = REFUSED

    def _reason_of_publish(self, passage: Passage) -> str | None:
        """Why a publish went nowhere, at least not everywhere; None where it did."""
        if passage.error is not None:
            return f"{int(passage.error.code)} {passage.error.explanation}"
        if not passage.accepted:
            return REFUSED
        if passage.queues:
            return None
        if not passage.address.exchange and passage.address.routing_key in self._reply_consumers:
            return None
        return "unroutable"

    def delivered(
        self, channel: Channel, queue: Queue, message: Message, consumer: Consumer | None, *, no_ack: bool
    ) -> None:
        event = _Event("delivered", queue, message, DELIVERED, ends=no_ack)
        event.channel, event.consumer = channel, consumer
        self._note(event, WAITING)

    def settled(self, channel: Channel, queue: Queue, messages: Sequence[Message], settlement: Settlement) -> None:
        name = str(settlement)
        for message in messages:
            event = _Event(name, queue, message, STATE_OF[name], ends=settlement is Settlement.ACKNOWLEDGED)
            event.channel = channel
            self._note(event, DELIVERED)

    def died(self, queue: Queue, message: Message, reason: DeathReason, passage: Passage | None) -> None:
        event = _Event("died" if passage is None else "dead_lettered", queue, message, str(reason), ends=True)
        event.reason, event.passage = str(reason), passage
        if passage is not None:
            event.onward = [
                (_key(one, passage.address, passage.header, passage.body), one.name) for one in passage.queues
            ]
        self._note(event, "")

    def deleted(self, subject: Subject, by: str) -> None:
        if subject.kind is not Kind.QUEUE:
            return
        for key in [key for key in self._at if key[0] == subject.virtual_host and key[1] == subject.name]:
            for trace in self._at.pop(key):
                trace.places.pop(key, None)
                trace.states[subject.name] = "queue_deleted"
                trace.reasons.append("queue_deleted")
                hop = self._hop("queue_deleted", None, None)
                hop["queue"], hop["user"] = subject.name, by or None
                trace.add(hop)

    # --- what becomes of it

    def _wants(self, header: bytes) -> bool:
        if not self._fits(header):
            return False
        self._seen += 1
        return (self._seen - 1) % self._wanted.sample == 0

    def _fits(self, header: bytes) -> bool:
        """Whether a message with this header is wanted; most often the next one has the same."""
        if header != self._last_header:
            self._last_header = header
            self._last_fits = not self._wanted.is_by_properties or self._wanted.fits(header)
        return self._last_fits

    def _note(self, event: _Event, state: str) -> None:
        """Something happened to a message that was in this state; in any, where it is empty."""
        if self._wanted.virtual_host is not None and event.queue.virtual_host.name != self._wanted.virtual_host:
            return
        key = _key(event.queue, event.message.address, event.message.header, event.message.body)
        for trace in () if event.reason == DUPLICATE else self._at.get(key, ()):  # which is not one that is there
            if not state or trace.states.get(event.queue.name) == state:
                self._apply(event, trace, key)
                return
        if not self._early:
            self._to_finish(self._flush)
        self._early.setdefault(key, []).append(event)

    def _apply(self, event: _Event, trace: MessageTrace, key: Key) -> None:
        queue = event.queue
        hop = self._hop(event.name, event.message.address, event.channel)
        hop["queue"] = queue.name
        hop["consumer"] = None if event.consumer is None else event.consumer.tag
        if event.name == "delivered":
            hop["redelivered"] = event.message.redelivered
        if event.reason is not None:
            hop["reason"], hop["policy"] = (
                event.reason,
                policy_behind(queue.in_force, queue.arguments, queue.declared, event.reason),
            )
            lost = _reason_of_death(event)
            if lost is not None:
                trace.reasons.append(lost)
            if event.passage is not None:
                hop["exchange"], hop["routing_key"] = event.passage.address.exchange, event.passage.address.routing_key
                hop["queues"] = [name for _, name in event.onward]
                if lost is not None:
                    hop["reason"] = f"{event.reason}, {lost}"
        trace.add(hop)
        trace.states[queue.name] = event.state
        if event.ends:
            self._leaves(trace, key)
        self._arrives(trace, event.onward)

    def _arrives(self, trace: MessageTrace, places: list[tuple[Key, str]]) -> None:
        """It is in these queues now; what happened to it there already is told."""
        for key, name in places:
            trace.states[name] = WAITING
            trace.places[key] = None
            self._at.setdefault(key, []).append(trace)
        for key, _ in places:
            for event in self._early.pop(key, ()):
                self._apply(event, trace, key)

    def _leaves(self, trace: MessageTrace, key: Key) -> None:
        trace.places.pop(key, None)
        traces = self._at.get(key)
        if traces is not None and trace in traces:
            traces.remove(trace)
            if not traces:
                del self._at[key]

    def _begin(self, virtual_host: str, address: Address, header: bytes, body: bytes) -> MessageTrace:
        self._count += 1
        trace = MessageTrace(self._count, virtual_host, address, header, body)
        if self._wanted.keeps_bodies:
            trace.body_start = bytes(body[:BODY_BYTES_MAX])
        self._traces.append(trace)
        if len(self._traces) > self._wanted.traces_max:
            oldest = self._traces.popleft()
            for key in list(oldest.places):
                self._leaves(oldest, key)
        return trace

    def _flush(self) -> None:
        """The piece of work is done: what is left is of messages that were there before, or are not wanted."""
        early, self._early = self._early, {}
        if not self.is_on or self._wanted.sample != 1:
            return
        events = [event for of_key in early.values() for event in of_key]
        events.sort(key=lambda event: not event.onward)  # what became of dead letters is told after their death
        for event in events:
            self._tell_of_old(event)

    def _tell_of_old(self, event: _Event) -> None:
        queue, message = event.queue, event.message
        if queue.is_deleted or not self._fits(message.header):
            return
        key = _key(queue, message.address, message.header, message.body)
        traces = self._at.get(key)
        if traces is not None:
            self._apply(event, traces[0], key)
            return
        trace = self._begin(queue.virtual_host.name, message.address, message.header, message.body)
        if not event.ends:
            trace.places[key] = None
            self._at[key] = [trace]
        self._apply(event, trace, key)

    def _hop(self, event: str, address: Address | None, channel: Channel | None) -> Hop:
        info = None if channel is None else channel.inspect()
        return {
            "at": self._clock.wall_ms(),
            "event": event,
            "exchange": None if address is None else address.exchange,
            "routing_key": None if address is None else address.routing_key,
            "queues": None,
            "queue": None,
            "consumer": None,
            "connection": None if info is None else info["connection_name"],
            "channel": None if channel is None else channel.number,
            "user": None if info is None else info["user"],
            "redelivered": None,
            "reason": None,
            "policy": None,
        }


def _reason_of_death(event: _Event) -> str | None:
    """Why a message that died went nowhere; None where it went to a dead-letter queue."""
    passage = event.passage
    if passage is None:
        return event.reason
    if event.onward:
        return None
    return "cycle" if passage.is_cycle else "dead_letter_unroutable"


def _sends_refused_on(queue: Queue) -> bool:
    """Whether what a full queue refuses goes to its dead-letter exchange."""
    arguments = queue.arguments
    return arguments.overflow == "reject-publish-dlx" and arguments.dead_letter_exchange is not None


def _key(queue: Queue, address: Address, header: bytes, body: bytes) -> Key:
    envelope = hash((address.exchange, address.routing_key, header))
    return (queue.virtual_host.name, queue.name, envelope, hash(body))
