"""A channel: which frames and methods may come when, and who handles them.

The methods that come once a message (publish, get, ack, nack, reject) are told by the first four bytes of their payload
and never become objects; all others are decoded and looked up in ``HANDLERS``. After a soft error the channel is
``closing``: all is ignored until the client has answered (AMQP 0-9-1, 1.5.2; RabbitMQ answers a channel.close that
crossed ours). After the client's channel.close it is ``closed by client``, and what came behind it in the same chunk
is ignored: it was on its way already. Only then its number is free again.

Publishing is in ``publishing.py``, consumers and acknowledgements in ``consuming.py``, exchanges and queues in
``topology.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Final

from amqp_broker.broker.counters import AMQP091, ChannelCounts
from amqp_broker.broker.descriptions import ChannelInfo
from amqp_broker.broker.works import Unfinished, Work
from amqp_broker.compilation import mypyc_attr
from amqp_broker.errors import AmqpError, ReplyCode, not_implemented, precondition_failed
from amqp_broker.protocols.amqp091 import topology
from amqp_broker.protocols.amqp091.consuming import Consuming
from amqp_broker.protocols.amqp091.link import ChannelLink, Link
from amqp_broker.protocols.amqp091.publishing import Publishing, misplaced
from amqp_broker.protocols.amqp091.states import CHANNEL_TRANSITIONS, ChannelEvent, ChannelState
from amqp_broker.protocols.amqp091.transaction import Transaction
from amqp_broker.wire import hot, methods
from amqp_broker.wire.frames import METHOD
from amqp_broker.wire.methods import Access, Method, build, decode_method

TX_COMMIT = (90, 20)
METHOD_EFFORT = 10  # of one that does not come once a message, about; see ``Connection.has_cost``


OPEN: Final = ChannelState.OPEN  # looking it up in the class for each frame would take as long as calling a function


@mypyc_attr(allow_interpreted_subclasses=True)
class Channel(ChannelLink):
    """One channel of a connection.

    Args:
        connection: whose.
        number: from 1.
    """

    __deletable__ = ("publishing", "consuming")  # by detach

    publishing_type: ClassVar[type[Publishing]] = Publishing  # a broker in a test has its own, where faults happen

    def __init__(self, connection: Link, number: int) -> None:
        super().__init__(connection, number)
        self.state = ChannelState.STARTING
        self.is_counted = False  # in its connection and its virtual host
        self.consuming = Consuming(self)
        self.publishing = self.publishing_type(self, self.consuming)
        self._release_work: Work  # once it is closing: what it had is given back

    @property
    def counts(self) -> ChannelCounts:
        """What it has counted so far."""
        self.consuming.count()
        return self.counted

    def inspect(self) -> ChannelInfo:
        """Describe it, for those who look in."""
        connection, transaction = self.connection, self.transaction
        peer, consuming = connection.peer, self.consuming
        return ChannelInfo(
            name=f"{peer.connection_name} ({self.number})",
            number=self.number,
            user=connection.user_name,
            vhost=connection.virtual_host_name,
            connection_name=peer.connection_name,
            peer_host=peer.host,
            peer_port=peer.port,
            confirm=self.publishing.confirms,
            transactional=transaction is not None,
            prefetch_count=consuming.prefetch_count,
            global_prefetch_count=consuming.channel_prefetch_count,
            consumer_count=len(consuming.consumers),
            messages_unacknowledged=len(consuming.unacknowledged),
            messages_unconfirmed=self.publishing.unconfirmed_count,
            messages_uncommitted=transaction.publication_count if transaction is not None else 0,
            acks_uncommitted=transaction.settled_count if transaction is not None else 0,
            state="running",
            message_stats=self.counts.stats(),
        )

    # --- frames

    def receive(self, kind: int, payload: bytes) -> None:
        """Handle one frame.

        Raises:
            AmqpError: what the client is to be told.
            WireError: the payload means nothing.
        """
        if self.state is not OPEN:
            self._receive_unopened(kind, payload)
        elif self.publishing.is_receiving:
            self.publishing.receive(kind, payload)
        elif kind == METHOD:
            method = payload[:4]
            if method == hot.PUBLISH:
                self.publishing.begin(payload)
            elif method == hot.ACK:
                self.consuming.ack(payload)
            else:
                self._receive_other(method, payload)
        else:
            raise misplaced(kind, payload, "expected method frame, got non method frame instead")

    def _receive_other(self, method: bytes, payload: bytes) -> None:
        """Handle a method that is neither of the two most frequent ones."""
        if method == hot.GET:
            self.consuming.get(payload)
        elif method == hot.NACK:
            self.consuming.nack(payload)
        elif method == hot.REJECT:
            self.consuming.reject(payload)
        else:
            self._handle(decode_method(payload))

    def _receive_unopened(self, kind: int, payload: bytes) -> None:
        if self.state is not ChannelState.STARTING:
            if kind == METHOD:
                self._handle_closing(decode_method(payload))
            return
        if kind != METHOD:
            raise misplaced(kind, payload, "expected method frame, got non method frame instead")
        if not isinstance(decode_method(payload), methods.Channel.Open):
            raise AmqpError(ReplyCode.CHANNEL_ERROR, "expected 'channel.open'")
        self._move(ChannelEvent.OPENED)
        self.connection.broker.churn.channels_opened += 1
        if self.connection.broker.observers.present_for_changes:
            self.connection.broker.observers.opened(self.connection, self)
        self.reply(build(methods.Channel.OpenOk))

    def _move(self, event: ChannelEvent) -> None:
        self.state = CHANNEL_TRANSITIONS[self.state][event]

    def _handle_closing(self, method: Method) -> None:
        if isinstance(method, methods.Channel.CloseOk):
            self.connection.forget(self)
        elif isinstance(method, methods.Channel.Close):
            self.reply_when(self._release_work, methods.Channel.CloseOk())
        elif self.state is ChannelState.CLOSED_BY_CLIENT and isinstance(method, methods.Channel.Open):
            raise second_open()

    def _handle(self, method: Method) -> None:
        handler = HANDLERS.get(type(method))
        if handler is None:
            raise AmqpError(ReplyCode.COMMAND_INVALID, "unimplemented method")
        self.connection.has_cost(METHOD_EFFORT)
        handler(self, method)

    # --- the end

    def fail(self, error: AmqpError, method_ids: tuple[int, int]) -> None:
        """Close the channel with a soft error when what it had is given back.

        Raises:
            Unfinished: it is not given back yet.
        """
        if self.state is ChannelState.CLOSING or self.state is ChannelState.CLOSED_BY_CLIENT:
            return
        self.consuming.catch_up()
        self._release_work = self.connection.broker.works.begin(self.release())
        self._move(ChannelEvent.FAILED)
        close = build(
            methods.Channel.Close,
            reply_code=int(error.code),
            reply_text=error.reply_text,
            class_id=method_ids[0],
            method_id=method_ids[1],
        )
        self.reply_when(self._release_work, close)

    def close(self) -> None:
        """The client closes the channel: answer when what it had is given back.

        Raises:
            Unfinished: it is not given back yet.
        """
        self.publishing.finish()
        self.consuming.catch_up()
        self._release_work = self.connection.broker.works.begin(self.release())
        self._move(ChannelEvent.CLOSED_BY_CLIENT)
        self.connection.forget_later(self)
        self.reply_when(self._release_work, methods.Channel.CloseOk())

    def release(self) -> Iterator[None]:
        """Give back consumers and unacknowledged messages; forget a transaction.

        Returns:
            What is to be done for the unacknowledged messages.
        """
        if self.state is OPEN:
            broker = self.connection.broker
            broker.churn.channels_closed += 1
            if broker.observers.present_for_changes:
                broker.observers.closed(self.connection, self, self.connection.close_reason)
        if self.transaction is not None:
            self.transaction.roll_back(self.consuming.unsettle)
            self.transaction = None
        if not self.is_counted:
            self.is_counted = True
            counts = self.counts
            self.connection.counts_of_ended.add(counts)
            self.connection.virtual_host.counts_of_ended.add(AMQP091, counts)
        self.publishing.release()
        return self.consuming.release()

    def detach(self) -> None:
        """The channel was released, and is its connection's no longer: let go of its parts, which hold on to it.

        Else they would wait for the garbage collector, and a client that opens channels by the thousand and goes away,
        again and again, would leave much for it.
        """
        del self.publishing, self.consuming


# --- the methods that are handled here: the channel's own, and the switches of confirms and transactions


def second_open() -> AmqpError:
    """The 504 of a channel that is opened and was open."""
    return AmqpError(ReplyCode.CHANNEL_ERROR, "second 'channel.open' seen")


def _open_again(channel: Channel, method: methods.Channel.Open) -> None:
    raise second_open()


def _flow(channel: Channel, method: methods.Channel.Flow) -> None:
    if not method.active:
        raise not_implemented("active=false")
    channel.reply(build(methods.Channel.FlowOk, active=True))


def _confirm_select(channel: Channel, method: methods.Confirm.Select) -> None:
    if channel.transaction is not None:
        raise precondition_failed("cannot switch from tx to confirm mode")
    channel.publishing.confirms = True
    if not method.nowait:
        channel.reply(methods.Confirm.SelectOk())


def _tx_select(channel: Channel, method: methods.Tx.Select) -> None:
    if channel.publishing.confirms:
        raise precondition_failed("cannot switch from confirm to tx mode")
    if channel.transaction is None:
        channel.transaction = Transaction()
    channel.reply(methods.Tx.SelectOk())


def _tx_commit(channel: Channel, method: methods.Tx.Commit) -> None:
    transaction = _transaction(channel)
    channel.transaction = Transaction()
    connection = channel.connection
    slices = transaction.commit(
        connection.broker, connection.virtual_host, channel.publishing.route, channel.consuming.settle_in_slices
    )
    work = connection.broker.works.begin(slices, holds_others_up=True)
    if work.is_done:
        _committed(channel, transaction)
    else:
        work.when_done(partial(_committed_later, channel, transaction))
        raise Unfinished(work)


def _committed(channel: Channel, transaction: Transaction) -> None:
    """Answer the commit when it is kept; raises as ``Transaction.check_accepted``."""
    transaction.check_accepted()
    channel.connection.output.hold_until(channel.connection.broker.durability.position)
    channel.reply(methods.Tx.CommitOk())


def _committed_later(channel: Channel, transaction: Transaction) -> None:
    """The same behind what the client said; the channel may have ended since."""
    connection = channel.connection
    if connection.is_closed or channel.state is not OPEN:
        return
    try:
        _committed(channel, transaction)
    except AmqpError as error:
        with suppress(Unfinished):  # the next frames are ignored until the client has answered
            connection.fail(channel.number, error, TX_COMMIT)


def _tx_rollback(channel: Channel, method: methods.Tx.Rollback) -> None:
    transaction = _transaction(channel)
    channel.transaction = Transaction()
    transaction.roll_back(channel.consuming.unsettle)
    channel.reply(methods.Tx.RollbackOk())


def _transaction(channel: Channel) -> Transaction:
    if channel.transaction is None:
        raise precondition_failed("channel is not transactional")
    return channel.transaction


def _access_request(channel: Channel, method: Access.Request) -> None:
    channel.reply(build(Access.RequestOk, ticket=1))


HANDLERS: dict[type[Method], Callable[[Channel, Any], None]] = {
    methods.Channel.Open: _open_again,
    methods.Channel.Close: lambda channel, method: channel.close(),
    methods.Channel.Flow: _flow,
    methods.Confirm.Select: _confirm_select,
    methods.Tx.Select: _tx_select,
    methods.Tx.Commit: _tx_commit,
    methods.Tx.Rollback: _tx_rollback,
    Access.Request: _access_request,
    methods.Exchange.Declare: topology.declare_exchange,
    methods.Exchange.Delete: topology.delete_exchange,
    methods.Exchange.Bind: topology.bind_exchange,
    methods.Exchange.Unbind: topology.unbind_exchange,
    methods.Queue.Declare: topology.declare_queue,
    methods.Queue.Bind: topology.bind_queue,
    methods.Queue.Unbind: topology.unbind_queue,
    methods.Queue.Purge: topology.purge_queue,
    methods.Queue.Delete: topology.delete_queue,
    methods.Basic.Qos: lambda channel, method: channel.consuming.qos(method),
    methods.Basic.Consume: lambda channel, method: channel.consuming.consume(method),
    methods.Basic.Cancel: lambda channel, method: channel.consuming.cancel(method),
    methods.Basic.Recover: lambda channel, method: channel.consuming.recover(method),
    methods.Basic.RecoverAsync: lambda channel, method: channel.consuming.recover(method),
}
