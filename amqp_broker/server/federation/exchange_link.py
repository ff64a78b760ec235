"""A link to an upstream exchange: what is published there comes here too, as far as bindings here ask for it.

At the upstream it has a queue, and an exchange that hands that queue all it gets. The bindings of the exchange here are
mirrored there, from the exchange of that name to the one before the queue; so only what somebody here wants is carried.
Each time the link begins, a new exchange takes the place of the old one (they are called ``A`` and ``B`` in turn), with
the bindings that there are by then: the old one goes when the new one has them all, so nothing is missed meanwhile, and
no binding stays that has gone here while the link was down.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.client.carrying import ensure_queue
from amqp_broker.client.connection import AmqpClient
from amqp_broker.client.conversation import Message
from amqp_broker.client.failures import RefusedByBroker, told_as_one
from amqp_broker.client.forwarding import Forwarding, Outgoing
from amqp_broker.client.uri import AmqpUri
from amqp_broker.errors import ReplyCode
from amqp_broker.server.ends import Ends
from amqp_broker.server.federation.definition import Upstream
from amqp_broker.server.federation.headers import binding_arguments, from_exchange, header_of, may_go_on
from amqp_broker.server.federation.link import Link
from amqp_broker.server.federation.link_name import LinkName
from amqp_broker.wire import methods
from amqp_broker.wire.methods import Basic, Queue
from amqp_broker.wire.table import Table, encode_table

CHECK_S: Final = 60.0  # how often the exchange at the upstream is looked for
CONSUMER_TAG: Final = "federation"
PURPOSE: Final[Table] = {"x-internal-purpose": "federation"}

Bindings = dict[tuple[str, bytes], Table]  # the arguments, by routing key and encoded arguments


class ExchangeLink(Link):
    """A link of a federated exchange.

    Args:
        exchange: the one here.
    """

    def __init__(
        self, broker: Broker, ends: Ends, name: LinkName, upstream: Upstream, policy: str, exchange: Exchange
    ) -> None:
        super().__init__(broker, ends, name, upstream, policy, exchange)
        self._exchange = exchange
        self._upstream_cluster: str | None = None
        self._upstream_host = ""
        self._queue = ""
        self._suffix = ""
        self._bound: Bindings = {}

    async def serve(self, there: AmqpClient, here: AmqpClient, uri: AmqpUri) -> None:
        cluster = there.server_properties.get("cluster_name")
        self._upstream_cluster = cluster if isinstance(cluster, str) else None
        self._upstream_host = uri.virtual_host or ""
        self._queue = self._upstream_queue()
        await self._ensure_exchange(there)
        await ensure_queue(there, self._queue, self._queue_arguments())
        await self._renew_bindings(there, uri)
        forwarding = Forwarding(
            there, here, self._outgoing, mode=self.upstream.mode, progress=partial(self.counted, self.state.forwarded)
        )

        async def consume() -> None:
            await there.call(Basic.Consume, queue=self._queue, consumer_tag=CONSUMER_TAG, no_ack=forwarding.no_ack)
            self.running()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_bindings, there)
            await forwarding.run(self.upstream.prefetch_count, consume)

    async def clean_up(self, there: AmqpClient) -> None:
        await there.call(Queue.Delete, queue=self._queue)
        await there.call(methods.Exchange.Delete, exchange=self._internal_name(self._suffix))

    # --- what is at the upstream

    def _upstream_queue(self) -> str:
        """As RabbitMQ calls it: it tells for whom it is, as far as that is not the same as there."""
        name, there = self.name, self.name.upstream_name
        if name.virtual_host != self._upstream_host:
            where = f":{name.virtual_host}:{name.name}"
        else:
            where = "" if name.name == there else f":{name.name}"
        return f"federation: {there} -> {self.broker.cluster_name}{where}"

    def _internal_name(self, suffix: str) -> str:
        return f"{self._queue} {suffix}"

    def _queue_arguments(self) -> Table:
        upstream = self.upstream
        wanted: Table = {
            "x-expires": upstream.expires_ms,
            "x-message-ttl": upstream.message_ttl_ms,
            "x-queue-type": upstream.queue_type,
        }
        return {**{key: value for key, value in wanted.items() if value is not None}, **PURPOSE}

    async def _ensure_exchange(self, there: AmqpClient) -> None:
        """Declare the exchange there as it is here, if it is not there."""
        name, exchange = self.name.upstream_name, self._exchange
        if not await _is_there(there, name):
            await there.call(
                methods.Exchange.Declare, exchange=name, exchange_type=exchange.type_name, durable=exchange.durable,
                auto_delete=exchange.auto_delete, internal=exchange.internal, arguments=exchange.table,
            )  # fmt: skip

    async def _renew_bindings(self, there: AmqpClient, uri: AmqpUri) -> None:
        old = [suffix for suffix in ("A", "B") if await _is_there(there, self._internal_name(suffix))]
        if len(old) == 2:  # the change from one to the other was not finished: either may lack bindings
            self._suffix, self._bound = "A", {}
            await self._bind(there)
            await there.call(methods.Exchange.Delete, exchange=self._internal_name("B"))
        self._suffix, self._bound = ("B" if old[:1] == ["A"] else "A"), {}
        name = self._internal_name(self._suffix)
        await self._declare_internal(there, name, uri)
        await there.call(Queue.Bind, queue=self._queue, exchange=name)
        await self._bind(there)
        for suffix in old[:1]:
            await there.call(methods.Exchange.Delete, exchange=self._internal_name(suffix))

    async def _declare_internal(self, there: AmqpClient, name: str, uri: AmqpUri) -> None:
        """The exchange before the queue; a fanout where the upstream knows no federation.

        Many a broker that does not know the type closes the connection, so it is asked on one of its own.
        """
        arguments: Table = {
            "x-max-hops": self.upstream.max_hops,
            "x-downstream-name": self.broker.cluster_name,
            "x-downstream-vhost": self.name.virtual_host,
            **PURPOSE,
        }
        declared: dict[str, Any] = {"exchange": name, "durable": True, "internal": True, "auto_delete": True}
        try:
            with told_as_one():
                async with (
                    trio.open_nursery() as nursery,
                    self.ends.connected(uri, self.name.virtual_host, self.connection_name, nursery) as asked,
                ):
                    await asked.call(
                        methods.Exchange.Declare, **declared, exchange_type="x-federation-upstream", arguments=arguments
                    )
        except RefusedByBroker as error:
            if not _is_unknown_type(error):
                raise
            await there.call(methods.Exchange.Declare, **declared, exchange_type="fanout", arguments=PURPOSE)

    # --- bindings

    def _wanted(self) -> Bindings:
        place: Table = {
            "cluster-name": self.broker.cluster_name,
            "vhost": self.name.virtual_host,
            "exchange": f"{self.name.virtual_host}:{self.name.name} {self._suffix}",
        }
        wanted: Bindings = {}
        for binding in self._exchange.bindings.values():
            arguments = binding_arguments(
                binding.arguments, place, self.upstream.max_hops, self._upstream_cluster, self._upstream_host
            )
            if arguments is not None:
                wanted[binding.routing_key, encode_table(arguments)] = arguments
        return wanted

    async def _bind(self, there: AmqpClient) -> None:
        """Have the bindings there that are here, and no others; returns when they are."""
        wanted, bound = self._wanted(), self._bound
        changes = [
            *((methods.Exchange.Bind, key, arguments) for key, arguments in wanted.items() if key not in bound),
            *((methods.Exchange.Unbind, key, arguments) for key, arguments in bound.items() if key not in wanted),
        ]
        self._bound = wanted
        for number, (method, (routing_key, _), arguments) in enumerate(changes, start=1):
            said: dict[str, Any] = {
                "source": self.name.upstream_name,
                "destination": self._internal_name(self._suffix),
                "routing_key": routing_key,
                "arguments": arguments,
            }
            if number < len(changes):
                there.conversation.say(method, nowait=True, **said)
            else:
                await there.call(method, **said)

    async def _follow_bindings(self, there: AmqpClient) -> None:
        while True:
            with trio.move_on_after(CHECK_S):
                await self.look.wait()
            if self._exchange.is_deleted:
                await trio.sleep_forever()  # the link is about to end
            await self._bind(there)
            await there.call(methods.Exchange.Declare, exchange=self._internal_name(self._suffix), passive=True)

    # --- messages

    def _outgoing(self, message: Message) -> Outgoing | None:
        method = message.method
        assert isinstance(method, Basic.Deliver)
        headers = message.properties.headers or {}
        if not may_go_on(headers, self.upstream.max_hops, self.broker.cluster_name, self.name.virtual_host):
            return None
        place = {**self.place(), "redelivered": bool(method.redelivered)}
        if self._upstream_cluster is not None:
            place["cluster-name"] = self._upstream_cluster
        place["vhost"] = self._upstream_host
        header = header_of(message, from_exchange(headers, place), keeps_user_id=self.upstream.trusts_user_ids)
        return Outgoing(self.name.name, method.routing_key or "", header)


async def _is_there(client: AmqpClient, exchange: str) -> bool:
    try:
        await client.call(methods.Exchange.Declare, exchange=exchange, passive=True)
    except RefusedByBroker as error:
        if error.code != ReplyCode.NOT_FOUND:
            raise
        await client.reopen_channel()
        return False
    return True


def _is_unknown_type(error: RefusedByBroker) -> bool:
    """Whether a broker has no such exchange type; since RabbitMQ 3.13 that is a refusal as others are."""
    return error.code == ReplyCode.COMMAND_INVALID or (
        error.code == ReplyCode.PRECONDITION_FAILED and "exchange type" in str(error)
    )
