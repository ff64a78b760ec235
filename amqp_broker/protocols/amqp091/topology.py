"""The methods that declare, delete and bind exchanges and queues.

Each is one call of the virtual host; what is added here is the protocol: passive declarations, ``nowait``, the reply,
and the channel's memory of the queue that was declared last.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from amqp_broker.broker.names import check_not_default_exchange, without_line_breaks
from amqp_broker.errors import not_found
from amqp_broker.protocols.amqp091.consuming import REPLY_TO
from amqp_broker.wire import methods
from amqp_broker.wire.methods import Method, arguments_of, build

if TYPE_CHECKING:
    from amqp_broker.access.client import Client
    from amqp_broker.broker.virtual_host import VirtualHost
    from amqp_broker.protocols.amqp091.link import ChannelLink


def declare_exchange(channel: ChannelLink, method: methods.Exchange.Declare) -> None:
    """exchange.declare."""
    virtual_host, client = _where_and_who(channel)
    if method.passive:
        name = without_line_breaks(method.exchange)
        check_not_default_exchange(name)
        _check_passive(virtual_host, client, "exchange", name)
        virtual_host.exchange(name)
    else:
        virtual_host.declare_exchange(
            client,
            method.exchange,
            method.exchange_type,
            durable=method.durable,
            auto_delete=method.auto_delete,
            internal=method.internal,
            arguments=arguments_of(method),
        )
    _reply_unless(method.nowait, channel, methods.Exchange.DeclareOk())


def delete_exchange(channel: ChannelLink, method: methods.Exchange.Delete) -> None:
    """exchange.delete."""
    virtual_host, client = _where_and_who(channel)
    virtual_host.delete_exchange(client, method.exchange, if_unused=method.if_unused)
    _reply_unless(method.nowait, channel, methods.Exchange.DeleteOk())


def bind_exchange(channel: ChannelLink, method: methods.Exchange.Bind) -> None:
    """exchange.bind."""
    virtual_host, client = _where_and_who(channel)
    virtual_host.bind(client, method.source, "exchange", method.destination, method.routing_key, arguments_of(method))
    _reply_unless(method.nowait, channel, methods.Exchange.BindOk())


def unbind_exchange(channel: ChannelLink, method: methods.Exchange.Unbind) -> None:
    """exchange.unbind."""
    virtual_host, client = _where_and_who(channel)
    virtual_host.unbind(client, method.source, "exchange", method.destination, method.routing_key, arguments_of(method))
    _reply_unless(method.nowait, channel, methods.Exchange.UnbindOk())


def declare_queue(channel: ChannelLink, method: methods.Queue.Declare) -> None:
    """queue.declare."""
    virtual_host, client = _where_and_who(channel)
    if method.queue.startswith(REPLY_TO):
        _declare_reply_queue(channel, method)
        return
    if method.passive:
        name = without_line_breaks(method.queue)
        _check_passive(virtual_host, client, "queue", name)
        queue = virtual_host.accessible_queue(client, name)
        queue.restart_unused_timer()
    else:
        queue = virtual_host.declare_queue(
            client,
            method.queue,
            durable=method.durable,
            exclusive=method.exclusive,
            auto_delete=method.auto_delete,
            arguments=arguments_of(method),
        )
    channel.last_declared_queue = queue.name
    queue.be_current()
    _reply_unless(
        method.nowait,
        channel,
        build(
            methods.Queue.DeclareOk,
            queue=queue.name,
            message_count=queue.ready_count,
            consumer_count=len(queue.consumers),
        ),
    )


def _check_passive(virtual_host: VirtualHost, client: Client, kind: str, name: str) -> None:
    """Raise AmqpError 403 unless the user may ask whether this is there, whether it is or not."""
    if virtual_host.behaviour.passive_declarations_need_a_permission:
        client.check_any(kind, name)


def _declare_reply_queue(channel: ChannelLink, method: methods.Queue.Declare) -> None:
    """Asks whether somebody still waits for replies at this address (RabbitMQ docs, "Direct Reply-to")."""
    name = method.queue
    if name != REPLY_TO and name not in channel.connection.broker.reply_consumers:
        raise not_found("queue", name, channel.connection.virtual_host.name)
    channel.last_declared_queue = name
    reply = build(methods.Queue.DeclareOk, queue=name, message_count=0, consumer_count=1)
    _reply_unless(method.nowait, channel, reply)


def bind_queue(channel: ChannelLink, method: methods.Queue.Bind) -> None:
    """queue.bind."""
    virtual_host, client = _where_and_who(channel)
    queue, key = channel.named_queue(method.queue), _routing_key(channel, method.queue, method.routing_key)
    virtual_host.bind(client, method.exchange, "queue", queue, key, arguments_of(method))
    _reply_unless(method.nowait, channel, methods.Queue.BindOk())


def unbind_queue(channel: ChannelLink, method: methods.Queue.Unbind) -> None:
    """queue.unbind."""
    virtual_host, client = _where_and_who(channel)
    queue, key = channel.named_queue(method.queue), _routing_key(channel, method.queue, method.routing_key)
    virtual_host.unbind(client, method.exchange, "queue", queue, key, arguments_of(method))
    _reply_unless(False, channel, methods.Queue.UnbindOk())


def _routing_key(channel: ChannelLink, queue: str, routing_key: str) -> str:
    """With neither queue nor key given, the key is the queue's name."""
    return channel.last_declared_queue if not queue and not routing_key else routing_key


def purge_queue(channel: ChannelLink, method: methods.Queue.Purge) -> None:
    """queue.purge."""
    virtual_host, client = _where_and_who(channel)
    name = channel.named_queue(method.queue)
    client.check_read("queue", name)
    count, work = virtual_host.accessible_queue(client, name).purge()
    reply = build(methods.Queue.PurgeOk, message_count=count)
    work.when_done(partial(_reply_unless, method.nowait, channel, reply))
    channel.wait_for(work)


def delete_queue(channel: ChannelLink, method: methods.Queue.Delete) -> None:
    """queue.delete."""
    virtual_host, client = _where_and_who(channel)
    name = without_line_breaks(channel.named_queue(method.queue))
    channel.hold_notices()
    try:
        count = virtual_host.delete_queue(client, name, if_unused=method.if_unused, if_empty=method.if_empty)
        _reply_unless(method.nowait, channel, build(methods.Queue.DeleteOk, message_count=count))
    finally:
        channel.send_notices()


def _where_and_who(channel: ChannelLink) -> tuple[VirtualHost, Client]:
    return channel.connection.virtual_host, channel.connection.client


def _reply_unless(nowait: bool, channel: ChannelLink, reply: Method) -> None:
    """Reply, but not before what was changed is durable."""
    if not nowait:
        connection = channel.connection
        connection.output.hold_until(connection.broker.durability.last_change)
        channel.reply(reply)
