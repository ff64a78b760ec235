"""Plays a program on one broker and writes down what came, in a form in which two brokers can be compared.

After each operation the player waits until the broker has nothing more to do. What came then is put in an order that
AMQP promises: for each channel first the replies, returns and confirms in their order, then, consumer by consumer, what
came for it in its order. Nothing else about the order is compared: a broker may send one consumer's message before or
after another's. A delivery tag that depends on such a choice is written `?`, and the tags are listed beside.

A channel or connection that the broker closed is opened again before the next operation, so that a program goes on.

Not here: what a program is (program.py), what is done with two transcripts (campaign.py).
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from interop.brokers import Address, BrokerProcess
from interop.codec import MethodType, T
from interop.fuzz.program import ABORT, CHANNELS_EACH_CONNECTION, Operation, Program, op
from interop.fuzz.quiescence import Quiescence
from interop.raw_client import (
    Basic,
    Channel,
    Client,
    Connection,
    Entry,
    Exchange,
    Queue,
    Received,
    Tx,
    normalise,
    transcript_text,
)  # fmt: skip

PATIENCE_S = 30.0
CONFIRM_PATIENCE_S = 1.0
TIMER_PAUSE_S = 0.003
"""RabbitMQ drops what expires at once by a timer of up to a millisecond, which looks like quiet until it fires."""

LAST_REPLY_TO = "@last-reply-to"
"""As a routing key: the reply-to of the last message that came with one."""

QUEUES = ("q0", "q1", "q2")
EXCHANGES = ("x0", "x1", "x2")
ODD_NAME = "é"
"""A queue or an exchange whose name is no ASCII."""


class Hung(Exception):
    """The broker did not answer."""


class FuzzClient(Client):
    """A connection that, once it is open, gathers all that comes, whatever it is."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port, timeout_s=PATIENCE_S)
        self.arrived: list[Received] = []
        self.closed_channels: set[int] = set()
        self.confirmed: dict[int, set[int]] = defaultdict(set)
        self.close_came = False
        self._round_trips: Counter[int] = Counter()

    @property
    def is_over(self) -> bool:
        return self.close_came or self.ended

    def _came(self, received: Received) -> None:
        if not self.is_open:
            super()._came(received)
            return
        if received.method is Channel.FlowOk:
            self._round_trips[received.channel] += 1
            return
        if received.method is Channel.Close:
            self.closed_channels.add(received.channel)
        elif received.method is Connection.Close:
            self.close_came = True
        elif received.method in (Basic.Ack, Basic.Nack):
            first = 1 if received.multiple else received.delivery_tag
            self.confirmed[received.channel].update(range(first, received.delivery_tag + 1))
        self.arrived.append(received)

    def open_channel(self, number: int) -> None:
        """Channel.open and its reply, which is not written down."""
        self.confirmed[number].clear()
        self.send(Channel.Open, channel=number)
        self.wait_for(Channel.OpenOk, number)
        self.arrived = [received for received in self.arrived if received.method is not Channel.OpenOk]

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
        """Reads until the condition holds or the connection is over (True), or the time is up (False)."""
        deadline = time.monotonic() + timeout_s
        while not condition() and not self.is_over:
            if not self._read(deadline):
                return self.ended
        return True

    def round_trip(self, channels: Iterable[int]) -> None:
        """All that was sent on these channels has been handled, or the broker has closed them."""
        wanted = {}
        for number in channels:
            if number not in self.closed_channels and not self.is_over:
                wanted[number] = self._round_trips[number] + 1
                self.send(Channel.Flow, channel=number, active=True)
        done = self.wait_until(
            lambda: all(
                self._round_trips[number] >= count or number in self.closed_channels for number, count in wanted.items()
            )
        )
        if not done:
            raise Hung(f"no reply on one of the channels {sorted(wanted)} within {PATIENCE_S} s")

    def wait_for(self, method: MethodType, channel: int) -> None:
        """Reads until this method has come, or the connection or the channel is over."""
        if not self.wait_until(lambda: self._has_come(method, channel) or channel in self.closed_channels):
            raise Hung(f"no {method.name} on channel {channel} within {PATIENCE_S} s")

    def wait_for_confirms(self, channel: int, count: int) -> None:
        """Reads until so many messages are confirmed or refused, or CONFIRM_PATIENCE_S is over."""
        self.wait_until(lambda: len(self.confirmed[channel]) >= count, CONFIRM_PATIENCE_S)

    def _has_come(self, method: MethodType, channel: int) -> bool:
        return any(received.method is method and received.channel == channel for received in self.arrived)

    def say_goodbye(self) -> None:
        """Closes the connection and reads until the broker has ended it. Never fails."""
        with contextlib.suppress(OSError, Hung):
            self.send(Connection.Close, reply_code=200, reply_text="bye")
            self.wait_for(Connection.CloseOk, 0)
            self.hang_up()
        self.abort()

    def hang_up(self) -> None:
        """Ends our side of the socket, and reads until the broker has ended its side: then it has noticed."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        self.wait_for_end()

    def wait_for_end(self) -> None:
        """Reads until the broker has closed the socket."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.ended:
            if not self._read(deadline):
                raise Hung(f"the broker did not close the socket within {PATIENCE_S} s")


@dataclass
class _ChannelState:
    """What the player knows of an open channel."""

    unsettled: list[tuple[int, int]] = field(default_factory=list)
    """The delivery tags to be settled, each with the step in which it came."""
    taken: set[int] = field(default_factory=set)
    """Those of them that came by basic.get, and some that are settled."""
    consumers: dict[str, str] = field(default_factory=dict)
    """Consumer tag and queue."""
    no_ack_consumers: set[str] = field(default_factory=set)
    confirms: bool = False
    published: int = 0
    """Messages to be confirmed."""
    has_global_prefetch: bool = False


class Player:
    """One broker, on which one program after another is played."""

    def __init__(self, process: BrokerProcess) -> None:
        self.kind = process.kind
        self._address = process.address
        self._quiescence = Quiescence(process)
        self._janitor: Client | None = None
        self._start()

    def _start(self) -> None:
        self._clients: dict[int, FuzzClient] = {}
        self._states: dict[int, _ChannelState] = {}
        self._entries: list[Entry] = []
        self._step = 0
        self._operation = op(0, ABORT)
        self._generated_queues: set[str] = set()
        self._quorum_queues: set[str] = set()
        self._consumer_order: dict[str, int] = {}
        self._last_reply_to = "nobody"
        self._has_timers = False

    def play(self, program: Program) -> list[str]:
        """What came, a text an operation, and one more for what came when the connections were closed."""
        self._start()
        try:
            for self._step, operation in enumerate(program):
                self._entries.append(("=", -1, "step", None))
                try:
                    self._carry_out(operation)
                except (Hung, TimeoutError) as hung:
                    self._entries.append(("=", -1, f"hung: {hung}", None))
                    break
            return self._texts()
        finally:
            self._clean_up()

    def _texts(self) -> list[str]:
        steps: list[list[Entry]] = []
        for entry in normalise(self._entries):
            if entry[2] == "step":
                steps.append([])
            else:
                steps[-1].append(entry)
        return [transcript_text(step) for step in steps]

    # One operation

    def _carry_out(self, operation: Operation) -> None:
        client, number = self._channel(operation.channel)
        resolved = self._resolved(operation)
        if resolved is None:
            self._entries.append(("=", operation.channel, "skipped", None))
            return
        self._operation = resolved
        method, fields = resolved.method, resolved.fields
        if isinstance(method, str):
            assert method == ABORT
            client.hang_up()
        elif method is Connection.Close:
            client.send(method, **fields)
            client.wait_for(Connection.CloseOk, 0)
            client.hang_up()
        elif method is Channel.Close:
            client.send(method, channel=number, **fields)
            client.wait_for(Channel.CloseOk, number)
            if not client.is_over and number not in client.closed_channels:
                self._open_channel(resolved.channel)
        else:
            client.send(method, channel=number, **fields)
            if method is Tx.Commit:  # RabbitMQ takes nothing else while it commits
                client.wait_for(Tx.CommitOk, number)
            client.round_trip([number])
            if not client.is_over and number not in client.closed_channels:
                self._note_sent(client, resolved)
        self._settle()
        for connection, each in sorted(self._clients.items()):
            self._entries.extend(self._take_arrived(connection, each))
            self._note_unconfirmed(connection, each)

    def _settle(self) -> None:
        """Until nothing more comes on any connection: opens what was closed, waits for quiet, fetches what was sent."""
        self._mend()
        self._quiescence.wait()
        if self._has_timers:
            time.sleep(TIMER_PAUSE_S)
            self._quiescence.wait()
        self._fetch()
        while self._mend():
            self._quiescence.wait()
            self._fetch()

    def _fetch(self) -> None:
        for connection, client in self._clients.items():
            if not client.is_over:
                client.round_trip(client.channels)
            for number in client.channels:
                state = self._state(connection, number)
                if state.confirms:
                    client.wait_for_confirms(number, state.published)

    def _mend(self) -> bool:
        """Answers what the broker closed and opens it again; True when there was anything."""
        mended = False
        for connection, client in list(self._clients.items()):
            if client.close_came and not client.ended:
                client.send(Connection.CloseOk)
                client.wait_for_end()
            if client.ended:
                self._entries.extend(self._take_arrived(connection, client))
                self._entries.append(("<", connection * CHANNELS_EACH_CONNECTION, "end of the connection", None))
                del self._clients[connection]
                client.abort()
                mended = True
                continue
            for number in list(client.closed_channels):
                client.send(Channel.CloseOk, channel=number)
                client.closed_channels.discard(number)
                self._open_channel(connection * CHANNELS_EACH_CONNECTION + number - 1)
                mended = True
        return mended

    # Connections and channels

    def _channel(self, channel: int) -> tuple[FuzzClient, int]:
        """The client and the channel's number there; opened when it is first used."""
        connection, index = divmod(channel, CHANNELS_EACH_CONNECTION)
        client = self._clients.get(connection)
        if client is None:
            client = self._clients[connection] = FuzzClient(self._address.host, self._address.port)
            open_connection(client, self._address)
        if index + 1 not in client.channels:
            client.channel(index + 1, opened=False)
            self._open_channel(channel)
        return client, index + 1

    def _open_channel(self, channel: int) -> None:
        connection, index = divmod(channel, CHANNELS_EACH_CONNECTION)
        self._states[channel] = _ChannelState()
        self._clients[connection].open_channel(index + 1)

    def _state(self, connection: int, number: int) -> _ChannelState:
        return self._states[connection * CHANNELS_EACH_CONNECTION + number - 1]

    # What is sent

    def _resolved(self, operation: Operation) -> Operation | None:
        """The operation as it is sent; None when it makes no sense now, or what follows is not decided by AMQP."""
        fields = dict(operation.fields)
        state = self._states[operation.channel]
        if "delivery" in fields:
            if not state.unsettled:
                return None
            tag, step = state.unsettled[fields.pop("delivery") % len(state.unsettled)]
            if fields.get("multiple"):  # all of one step, because their order is not promised
                tag = max(each for each, came in state.unsettled if came == step)
            fields["delivery_tag"] = tag
        if fields.get("routing_key") == LAST_REPLY_TO:
            fields["routing_key"] = self._last_reply_to
        if operation.method is Basic.Publish:
            fields.setdefault("body", b"")
        # Over several queues it is chance which of them gets the last place; after a get, and where there is a consumer
        # of a quorum queue, brokers differ on purpose.
        consumed = set(state.consumers.values())
        has_taken = any(tag in state.taken for tag, _ in state.unsettled)
        if (
            operation.method is Basic.Qos
            and fields.get("global_")
            and (has_taken or len(consumed) > 1 or consumed & self._quorum_queues)
        ):
            return None
        others = consumed - {fields.get("queue", "")}
        if operation.method is Basic.Consume and state.has_global_prefetch and others:
            return None
        return operation._replace(fields=fields)

    def _note_sent(self, client: FuzzClient, operation: Operation) -> None:
        """What the player must know of an operation that was not refused."""
        state, fields = self._states[operation.channel], operation.fields
        match operation.name:
            case "Basic.Publish":
                state.published += state.confirms
                self._has_timers |= fields.get("properties", {}).get("expiration") == "0"
            case "Confirm.Select":
                state.confirms = True
            case "Queue.Declare":
                arguments = fields.get("arguments", {})
                self._has_timers |= _is_zero(arguments.get("x-message-ttl"))
                if arguments.get("x-queue-type") == "quorum":
                    self._quorum_queues.add(fields["queue"])
            case "Basic.Qos" if fields.get("global_"):
                state.has_global_prefetch = bool(fields.get("prefetch_count"))
            case "Basic.Consume":
                self._note_consumer(state, client, fields)
            case "Basic.Cancel":
                state.consumers.pop(fields.get("consumer_tag", ""), None)
            case "Basic.Recover" | "Basic.RecoverAsync":
                state.unsettled.clear()
            case "Basic.Ack" | "Basic.Nack" | "Basic.Reject":
                settled, multiple = fields.get("delivery_tag", 0), fields.get("multiple", False)
                state.unsettled = [
                    (tag, step)
                    for tag, step in state.unsettled
                    if tag != settled and not (multiple and (tag < settled or settled == 0))
                ]

    def _note_consumer(self, state: _ChannelState, client: FuzzClient, fields: dict[str, Any]) -> None:
        tag: str = fields.get("consumer_tag", "")
        for received in client.arrived:
            if received.method is Basic.ConsumeOk:
                tag = received.consumer_tag
        state.consumers[tag] = fields.get("queue", "")
        self._consumer_order.setdefault(tag, len(self._consumer_order))
        if fields.get("no_ack"):
            state.no_ack_consumers.add(tag)
        else:
            state.no_ack_consumers.discard(tag)

    # What came

    def _take_arrived(self, connection: int, client: FuzzClient) -> list[Entry]:
        entries: list[Entry] = []
        arrived, client.arrived = client.arrived, []
        if client.close_came:  # what the other channels still get after an error is of no use to anybody
            arrived = [received for received in arrived if received.channel == 0]
        for number in sorted({received.channel for received in arrived}):
            channel = max(connection * CHANNELS_EACH_CONNECTION, connection * CHANNELS_EACH_CONNECTION + number - 1)
            groups = self._groups([received for received in arrived if received.channel == number])
            for received in (received for group in groups for received in group):
                self._note_came(channel, received)
            entries.extend((way, channel, what, details) for way, _, what, details in _entries_of(groups))
        return entries

    def _groups(self, came: list[Received]) -> list[list[Received]]:
        """Replies, returns and confirms first, then what came for each consumer."""
        groups: dict[str, list[Received]] = defaultdict(list)
        for received in came:
            groups[received.typed.get("consumer_tag", "")].append(received)
        return [
            groups[consumer] for consumer in sorted(groups, key=lambda tag: (self._consumer_order.get(tag, -1), tag))
        ]

    def _note_came(self, channel: int, received: Received) -> None:
        state = self._states.setdefault(channel, _ChannelState())
        match received.name:
            case "Queue.DeclareOk" if received.queue.startswith("amq.gen"):
                self._generated_queues.add(received.queue)
            case "Basic.Cancel":
                state.consumers.pop(received.consumer_tag, None)
            case "Basic.GetOk" if not self._operation.fields.get("no_ack"):
                state.taken.add(received.delivery_tag)
                state.unsettled.append((received.delivery_tag, self._step))
            case "Basic.Deliver" if received.consumer_tag not in state.no_ack_consumers:
                state.unsettled.append((received.delivery_tag, self._step))
        reply_to = received.properties.get("reply_to", "")
        if reply_to.startswith("amq.rabbitmq.reply-to."):
            self._last_reply_to = reply_to

    def _note_unconfirmed(self, connection: int, client: FuzzClient) -> None:
        for number in client.channels:
            state = self._state(connection, number)
            missing = sorted(set(range(1, state.published + 1)) - client.confirmed[number])
            if state.confirms and missing:
                channel = connection * CHANNELS_EACH_CONNECTION + number - 1
                self._entries.append(("<", channel, f"not confirmed: {missing}", None))

    # The end of a program

    def _clean_up(self) -> None:
        """Closes the connections and deletes all that may be left, so that the next program starts on nothing."""
        for client in self._clients.values():
            client.say_goodbye()
        self._clients.clear()
        self._quiescence.wait()
        if self._janitor is None:
            self._janitor = Client(self._address.host, self._address.port)
            open_connection(self._janitor, self._address)
            self._janitor.channel()
        channel = self._janitor.channels[1]
        queues = [*QUEUES, ODD_NAME, *sorted(self._generated_queues)]
        for name in queues:
            channel.send(Queue.Delete, queue=name)
        for name in (*EXCHANGES, ODD_NAME):
            channel.send(Exchange.Delete, exchange=name)
        for _ in queues:
            channel.expect(Queue.DeleteOk)
        for _ in (*EXCHANGES, ODD_NAME):
            channel.expect(Exchange.DeleteOk)
        self._janitor.transcript.clear()

    def close(self) -> None:
        """Ends the player's own connections; the broker goes on."""
        if self._janitor is not None:
            self._janitor.close()
        self._quiescence.close()


def open_connection(client: Client, address: Address) -> None:
    """The whole handshake."""
    client.begin()
    client.send_start_ok(address.user, address.password)
    client.expect_tune()
    client.send_tune_ok()
    client.open(address.vhost)


def _entries_of(groups: list[list[Received]]) -> list[Entry]:
    """The transcript of one channel; delivery tags of several consumers in one step are a matter of chance."""
    carriers = (Basic.Deliver, Basic.GetOk)
    of_chance = sum(any(received.method in carriers for received in group) for group in groups) > 1
    entries: list[Entry] = []
    tags: list[int] = []
    for received in (received for group in groups for received in group):
        way, channel, what, details = received.as_entry()
        if of_chance and received.method in carriers:
            tags.append(received.delivery_tag)
            details = {**details, "delivery_tag": "?"}
        if received.method in (Basic.Ack, Basic.Nack):  # how many are confirmed at once is the broker's choice
            details = {name: value for name, value in details.items() if name != "multiple"}
        entries.append((way, channel, what, details))
    if tags:
        entries.append(("<", 0, f"delivery tags {sorted(tags)}", None))
    return entries


def _is_zero(value: Any) -> bool:
    return bool((value.value if isinstance(value, T) else value) == 0)
