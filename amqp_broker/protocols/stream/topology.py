"""Streams and super streams: Create, Delete, Metadata, Route, Partitions, StreamStats.

A super stream is an exchange with a binding to each of its partitions, which are streams (RabbitMQ docs, "Super
Streams"): any client may make one of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope
from amqp_broker.broker.names import RESERVED_PREFIX
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.stream import codes
from amqp_broker.protocols.stream.errors import RequestRefused
from amqp_broker.protocols.stream.frames import Fields, array, string, strings, u16, u32
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.protocols.stream.link import Link

EFFORT: Final = 30  # of a declaration, about; see ``ClientConnection.has_cost``
LOOKED_AT_AT_COST_OF_ONE: Final = 4  # bindings, or streams that are described
NAME_BYTES_MAX: Final = 255
PARTITIONS_MAX: Final = 400  # of one super stream: it is made in one go, and what may be asked of others is remembered
SUPER_STREAM_ARGUMENT: Final = "x-super-stream"
ORDER_ARGUMENT: Final = "x-stream-partition-order"
NO_LEADER: Final = 0xFFFF
TEXT_ARGUMENTS: Final = ("max-age", "queue-leader-locator")
NUMBER_ARGUMENTS: Final = (
    "max-length-bytes",
    "stream-max-segment-size-bytes",
    "initial-cluster-size",
    "stream-filter-size-bytes",
)


class Topology:
    """The commands of an open connection about streams and super streams.

    Args:
        connection: whose it is.
        host: under which name clients reach this broker.
        port: likewise.
    """

    def __init__(self, connection: Link, host: str, port: int) -> None:
        self._connection = connection
        self._host = connection.virtual_host
        self._client = connection.client
        self._address = (host, port)

    # --- streams

    def create(self, fields: Fields) -> bytes:
        """Handle Create."""
        name = fields.string()
        arguments = fields.pairs()
        self._check_name(name)
        self._client.check_configure("queue", name)
        self._create(name, _table_of(arguments))
        return self._when_kept()

    def _create(self, name: str, arguments: Table) -> None:
        self._connection.has_cost(EFFORT)
        queue = self._host.queues.get(name)
        self._host.declare_queue(
            self._client, name, durable=True, exclusive=False, auto_delete=False, arguments=arguments
        )
        if queue is not None:
            raise RequestRefused(codes.STREAM_ALREADY_EXISTS)

    def delete(self, fields: Fields) -> bytes:
        """Handle Delete."""
        name = fields.string()
        self._client.check_configure("queue", name)
        self._delete(self._connection.stream(name))
        return self._when_kept()

    def _delete(self, stream: Queue) -> None:
        self._connection.has_cost(EFFORT)
        self._host.remove_queue(stream, self._client.user_name)

    def _check_name(self, name: str) -> None:
        """Refuse a name that no stream may have."""
        if (
            not name
            or name.startswith(RESERVED_PREFIX)
            or _size_bytes(name) > NAME_BYTES_MAX
            or any(ord(one) < 32 for one in name)
        ):
            raise RequestRefused(codes.PRECONDITION_FAILED)

    def _when_kept(self) -> bytes:
        """An answer that waits until the journal has kept what was done."""
        self._connection.output.hold_until(self._connection.broker.durability.last_change)
        return b""

    def metadata(self, fields: Fields) -> bytes:
        """Handle Metadata: there is one broker, and it leads all streams."""
        names = fields.strings()
        self._connection.has_cost(1 + len(names) // LOOKED_AT_AT_COST_OF_ONE)
        host, port = self._address
        brokers = array([u16(0) + string(host) + u32(port)])
        streams = []
        for name in names:
            known = isinstance(self._host.queues.get(name), StreamQueue)
            code = codes.OK if known else codes.STREAM_DOES_NOT_EXIST
            streams.append(string(name) + u16(code) + u16(0 if known else NO_LEADER) + u32(0))
        return brokers + array(streams)

    def stats(self, fields: Fields) -> bytes:
        """Handle StreamStats."""
        name = fields.string()
        self._client.check_read("queue", name)
        stream = self._connection.stream(name)
        is_empty = stream.first_offset == stream.end_offset
        committed = stream.committed_chunk_offset
        said = {
            "committed_chunk_id": -1 if committed is None else committed,
            "first_chunk_id": -1 if is_empty else stream.first_offset,
            "last_chunk_id": -1 if is_empty else stream.last_chunk_offset,
        }
        return array([string(key) + value.to_bytes(8, "big", signed=True) for key, value in said.items()])

    # --- super streams

    def create_super_stream(self, fields: Fields) -> bytes:
        """Handle CreateSuperStream: all of it, or nothing."""
        name, partitions, keys = fields.string(), fields.strings(), fields.strings()
        arguments = _table_of(fields.pairs())
        client, host = self._client, self._host
        self._check_name(name)
        if len(partitions) != len(keys) or len(partitions) > PARTITIONS_MAX:
            raise RequestRefused(codes.PRECONDITION_FAILED)
        if len(set(partitions)) < len(partitions) or any(_size_bytes(key) > NAME_BYTES_MAX for key in keys):
            raise RequestRefused(codes.PRECONDITION_FAILED)
        client.check_configure("exchange", name)
        for partition in partitions:
            self._check_name(partition)
            client.check_configure("queue", partition)
            client.check_write("queue", partition)
        client.check_read("exchange", name)
        if name in host.exchanges or any(partition in host.queues for partition in partitions):
            raise RequestRefused(codes.STREAM_ALREADY_EXISTS)
        host.declare_exchange(
            client,
            name,
            "direct",
            durable=True,
            auto_delete=False,
            internal=False,
            arguments={SUPER_STREAM_ARGUMENT: True},
        )
        made: list[str] = []
        try:
            for order, partition in enumerate(partitions):
                self._create(partition, arguments)
                made.append(partition)
                host.bind(client, name, "queue", partition, keys[order], {ORDER_ARGUMENT: order})
        except AmqpError:
            for partition in made:
                host.remove_queue(host.queue(partition), client.user_name)
            host.remove_exchange(host.exchange(name), client.user_name)
            raise
        return self._when_kept()

    def delete_super_stream(self, fields: Fields) -> bytes:
        """Handle DeleteSuperStream."""
        name = fields.string()
        client, host = self._client, self._host
        client.check_configure("exchange", name)
        exchange = self._super_stream(name)
        partitions = self._partitions(exchange)
        for partition in partitions:
            client.check_configure("queue", partition.name)
        for partition in partitions:
            self._delete(partition)
        host.remove_exchange(exchange, client.user_name)
        return self._when_kept()

    def partitions(self, fields: Fields) -> bytes:
        """Handle Partitions: in their order."""
        return strings([partition.name for partition in self._partitions(self._exchange(fields.string()))])

    def route(self, fields: Fields) -> bytes:
        """Handle Route: the partitions that a routing key leads to."""
        key, name = fields.string(), fields.string()
        exchange = self._exchange(name)
        if not exchange.may_be_remembered:  # it looks at messages, or remembers them
            exchange = self._super_stream(name)
        found = list(exchange.matcher.match(Envelope((key,))))
        self._connection.has_cost(1 + len(found))
        return strings([one.name for one in found if isinstance(one, StreamQueue)])

    def _exchange(self, name: str) -> Exchange:
        """An exchange that may be a super stream: any to which streams are bound, for those who only ask."""
        exchange = self._host.exchanges.get(name)
        if exchange is None:
            raise RequestRefused(codes.STREAM_DOES_NOT_EXIST)
        return exchange

    def _super_stream(self, name: str) -> Exchange:
        exchange = self._exchange(name)
        if exchange.table.get(SUPER_STREAM_ARGUMENT) is not True:
            raise RequestRefused(codes.STREAM_DOES_NOT_EXIST)
        return exchange

    def _partitions(self, exchange: Exchange) -> list[StreamQueue]:
        return partitions_of(exchange, self._connection)


def partitions_of(exchange: Exchange, asking: Link) -> list[StreamQueue]:
    """The streams that a super stream has, in their order; who asks has the cost of it."""
    asking.has_cost(1 + len(exchange.bindings) // LOOKED_AT_AT_COST_OF_ONE)
    found: list[tuple[int, StreamQueue]] = []
    for binding in exchange.bindings.values():
        destination = binding.destination
        order = binding.arguments.get(ORDER_ARGUMENT)
        if isinstance(destination, StreamQueue):
            found.append((order if isinstance(order, int) else len(found), destination))
    found.sort(key=_order)
    return [stream for _, stream in found]


def _order(found: tuple[int, StreamQueue]) -> int:
    return found[0]


def _size_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _table_of(arguments: dict[str, str]) -> Table:
    """The arguments of the queue; what is not known is passed over, as in RabbitMQ.

    Raises:
        RequestRefused: a number is none.
    """
    table: Table = {"x-queue-type": "stream"}
    for key in TEXT_ARGUMENTS:
        if key in arguments:
            table[f"x-{key}"] = arguments[key]
    for key in NUMBER_ARGUMENTS:
        if key in arguments:
            text = arguments[key]
            if not (text.isascii() and text.isdigit() and len(text) < 19):
                raise RequestRefused(codes.PRECONDITION_FAILED)
            table[f"x-{key}"] = int(text)
    return table
