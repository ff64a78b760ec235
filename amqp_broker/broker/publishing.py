"""The way into a virtual host's queues, for every protocol: may it, where to, is it kept, and what came of it.

A protocol asks ``exchange_for`` once for an exchange and a routing key, and may remember that and the route until the
virtual host's topology changes. A message then goes in by ``put``, when its queues are known, or by ``publish``. What
dies in a queue comes back in by ``publish_dead_letter``.

Header and body travel as bytes, in the encoding of AMQP 0-9-1, whatever protocol they came by. Holds no confirms:
they are each protocol's, and wait for the outcome.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from amqp_broker.broker.dead_letter import DeathReason, dead_lettered, would_cycle
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope
from amqp_broker.broker.exchanges.routing import OF_EACH_MESSAGE, Route, find_route
from amqp_broker.broker.message import Address, Digest, Message, carried_key, digest_of, without_blind_copies
from amqp_broker.broker.observer import Channel, Passage
from amqp_broker.broker.ports import Authorizer
from amqp_broker.errors import AmqpError, access_refused
from amqp_broker.wire.hot import encode_address
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.queues.past import Past
    from amqp_broker.broker.queues.stored import StoredQueue
    from amqp_broker.broker.topology import Topology

Outcome: TypeAlias = int
"""What came of a publish: one of the three below, or the journal's position that must be kept before it is confirmed
(``Durability.is_kept``, which says so of ``TAKEN`` at once).
"""

TAKEN: Final = 0  # there is nothing to wait for
REFUSED: Final = -1  # one of its queues did not take it
UNROUTED: Final = -2  # there is no queue for it


class Target:
    """The exchange and queues that all messages with one address go to, for protocols to remember.

    Args:
        exchange: that it names.
        address: exchange and routing key.
        queues: where it leads.
        may_be_remembered: else the queues are to be found for each message anew.
    """

    __slots__ = ("address", "exchange", "may_be_remembered", "queues")

    def __init__(
        self, exchange: Exchange, address: Address, queues: tuple[Queue, ...], may_be_remembered: bool
    ) -> None:
        self.exchange = exchange
        self.address = address
        self.queues = queues
        self.may_be_remembered = may_be_remembered


class Ingress:
    """The way into one virtual host.

    Args:
        virtual_host: whose exchanges and queues it finds.
    """

    def __init__(self, virtual_host: Topology) -> None:
        self._virtual_host = virtual_host
        self._clock = virtual_host.clock
        self._durability = virtual_host.durability
        self._observers = virtual_host.observers
        self._behaviour = virtual_host.behaviour
        self._last_death: tuple[object, ...] = ()
        self._last_dead: tuple[tuple[Queue, ...], Address, bytes, Digest]
        self._last_is_cycle = False

    # --- where to

    def exchange_for(self, who: Authorizer, name: str, routing_key: str) -> Exchange:
        """The exchange that somebody wants to publish to with this key.

        Raises:
            AmqpError: 403 for a missing permission or an internal exchange, 404.
        """
        exchange = self.exchange_for_any(who, name)
        if exchange.has_topic_permissions:
            who.check_topic_write(name, routing_key)
        return exchange

    def exchange_for_any(self, who: Authorizer, name: str) -> Exchange:
        """The same, whatever the key will be: permissions for topics are not asked for; raises as ``exchange_for``."""
        who.check_write("exchange", name)
        exchange = self._virtual_host.exchange(name)
        if exchange.internal:
            raise access_refused(f"cannot publish to internal {self._virtual_host.described('exchange', name)}")
        return exchange

    def check_copies(self, who: Authorizer, exchange: Exchange, digest: Digest) -> None:
        """Refuse a message with keys in CC or BCC that whoever publishes it may not publish to.

        Raises:
            AmqpError: 403 for a missing topic permission, where the RabbitMQ that is shown asks for it.
        """
        if exchange.has_topic_permissions and self._behaviour.topic_permission_is_asked_for_copies:
            for key in digest.extra_routing_keys:
                who.check_topic_write(exchange.name, key)

    def route_of_all(self, exchange: Exchange, routing_key: str, headers: Table | None = None) -> Route:
        """The route of all messages with one routing key and no others, where there is one that may be remembered.

        Args:
            headers: that all of them have, where an exchange type looks at some and may be remembered all the same.
        """
        return find_route(self._virtual_host, exchange, Envelope((routing_key,), b"", headers))

    def target(self, who: Authorizer, name: str, routing_key: str) -> Target:
        """Where messages go that somebody publishes to an exchange with this key.

        Raises:
            WireError: the key has no place in AMQP 0-9-1.
            AmqpError: as of ``exchange_for``.
        """
        address = Address(name, routing_key, encode_address(name, routing_key))
        exchange = self.exchange_for(who, name, routing_key)
        route = self.route_of_all(exchange, routing_key)
        return Target(exchange, address, route.queues, route.may_be_remembered)

    def route(
        self, exchange: Exchange, routing_keys: tuple[str, ...], header: bytes, body: bytes, digest: Digest
    ) -> tuple[Queue, ...]:
        """The queues that one message reaches.

        Args:
            routing_keys: the one that it was published with, and those of CC and BCC.
        """
        return find_route(self._virtual_host, exchange, Envelope(routing_keys, header, digest.headers, body)).queues

    def route_before_commit(
        self, exchange: Exchange, routing_keys: tuple[str, ...], header: bytes, body: bytes, digest: Digest
    ) -> tuple[Queue, ...] | None:
        """The same for a message of a transaction; None where its route is to be found when that is committed."""
        envelope = Envelope(routing_keys, header, digest.headers, body, is_put_off=True)
        route = find_route(self._virtual_host, exchange, envelope)
        return route.queues if route.is_known else None

    # --- in

    def publish(
        self,
        exchange: Exchange,
        routing_key: str,
        header: bytes,
        body: bytes,
        digest: Digest,
        channel: Channel | None = None,
    ) -> Outcome:
        """Find a message's route, and put it into the queues.

        Args:
            exchange: from ``exchange_for``.
            digest: of the header (``digest_of``).
            channel: that those who look on are told of; None where they are to hear nothing.
        """
        carried, extra = carried_key(routing_key), digest.extra_routing_keys
        address = Address(exchange.name, carried, encode_address(exchange.name, carried), extra)
        queues = self.route(exchange, (routing_key, *extra), header, body, digest)
        if digest.has_blind_copies:
            header = without_blind_copies(header)
        outcome = self.put(queues, address, header, body, digest) if queues else UNROUTED
        if channel is not None and self._observers.present:
            passage = Passage(self._virtual_host, address, header, body, queues, outcome != REFUSED)
            self._observers.published(channel, passage)
        return outcome

    def publish_of(
        self,
        user_name: str,
        exchange: Exchange,
        routing_key: str,
        header: bytes,
        body: bytes,
        channel: Channel | None = None,
    ) -> Outcome:
        """The same for what a user publishes without a connection that remembers routes: interceptors see it first.

        Args:
            channel: as of ``publish``.

        Raises:
            AmqpError: one of them refuses it, or its properties are none.
        """
        host = self._virtual_host
        if host.interceptors.present:
            header = host.intercepted(Address(exchange.name, routing_key, b""), user_name, header, body)
        return self.publish(exchange, routing_key, header, body, digest_of(header), channel)

    def put(self, queues: tuple[Queue, ...], address: Address, header: bytes, body: bytes, digest: Digest) -> Outcome:
        """Put a message into the queues that its route names."""
        if digest.delay_ms:
            return self._put_delayed(queues, address, header, body, digest)
        if digest.is_persistent or digest.expiration_ms is not None:
            if len(queues) == 1:
                queue = queues[0]
                if queue.past is None:
                    return self._put_into_one(queue, address, header, body, digest)
            return self._put_into_several(queues, address, header, body, digest)
        outcome = TAKEN
        for queue in queues:
            if queue.keeps_transient:
                position = self._put_into_one(queue, address, header, body, digest)
                if outcome != REFUSED:
                    outcome = position or outcome
            elif queue.publish(Message(address, header, body, False, digest.priority)):
                queue.counts.published += 1
            else:
                outcome = REFUSED
        return outcome

    def _put_into_one(self, queue: Queue, address: Address, header: bytes, body: bytes, digest: Digest) -> Outcome:
        """Publish a message that is kept, or may expire, to one queue by itself: the usual case, without lists."""
        message = Message(address, header, body, digest.is_persistent, digest.priority)
        if digest.expiration_ms is not None:
            message.expires_at_ms = self._clock.monotonic_ms() + digest.expiration_ms
        if not queue.keeps(digest.is_persistent):
            if not queue.publish(message):
                return REFUSED
            queue.counts.published += 1
            return self._durability.position_of_duplicates if self._durability.last_duplicate else TAKEN
        self._durability.keep_for_one(queue, message, digest.expiration_ms)
        if queue.publish(message):
            queue.counts.published += 1
            return message.reference or self._durability.position  # forgotten: what it duplicates may not be kept yet
        self._durability.forget_message(message)
        return REFUSED

    def _put_into_several(
        self, queues: tuple[Queue, ...], address: Address, header: bytes, body: bytes, digest: Digest
    ) -> Outcome:
        """Publish a message that is persistent or may expire to several queues.

        First to those that need not keep it; what the others keep is written once, so they must be known together.
        """
        if digest.is_persistent:
            for queue in queues:
                if queue.past is not None:
                    return self._put_with_pasts(queues, address, header, body, digest)
        is_persistent, priority = digest.is_persistent, digest.priority
        expires_at_ms = None
        if digest.expiration_ms is not None:
            expires_at_ms = self._clock.monotonic_ms() + digest.expiration_ms
        is_accepted, position = True, TAKEN
        keeping: list[Queue] = []
        kept: list[Message] = []
        for queue in queues:
            message = Message(address, header, body, is_persistent, priority)
            message.expires_at_ms = expires_at_ms
            if queue.keeps(is_persistent):
                keeping.append(queue)
                kept.append(message)
            elif queue.publish(message):
                queue.counts.published += 1
            else:
                is_accepted = False
        if keeping:
            self._durability.keep_message(keeping, kept, digest.expiration_ms)
            for queue, message in zip(keeping, kept, strict=True):
                if not queue.publish(message):
                    self._durability.forget_message(message)
                    is_accepted = False
                    continue
                queue.counts.published += 1
                position = message.reference or position
            position = position or self._durability.position  # as of one
        else:
            position = self._durability.position_of_duplicates
        return position if is_accepted else REFUSED

    def _put_with_pasts(
        self, queues: tuple[Queue, ...], address: Address, header: bytes, body: bytes, digest: Digest
    ) -> Outcome:
        """Publish a persistent message to queues of which one has a past, or more: what they take goes into it.

        It is written once, with a claim more for each past; else all is as without a past.
        """
        expiration_ms = digest.expiration_ms
        is_accepted, position = True, TAKEN
        entries: list[tuple[Queue, Message, Past | None, Message]] = []
        keeping: list[StoredQueue] = []
        kept: list[Message] = []
        for queue in queues:
            message = Message(address, header, body, True, digest.priority)
            if expiration_ms is not None:
                message.expires_at_ms = self._clock.monotonic_ms() + expiration_ms
            if not queue.keeps(True):
                if queue.publish(message):
                    queue.counts.published += 1
                else:
                    is_accepted = False
                continue
            keeping.append(queue)
            kept.append(message)
            past = queue.past
            for_past = Message(address, header, body, True, digest.priority)
            if past is not None:
                past.be_kept()
                keeping.append(past)
                kept.append(for_past)
            entries.append((queue, message, past, for_past))
        self._durability.keep_message(keeping, kept, expiration_ms)
        for queue, message, past, for_past in entries:
            is_taken = queue.publish(message)
            if is_taken:
                queue.counts.published += 1
            else:
                is_accepted = False
                self._durability.forget_message(message)
            if past is not None and is_taken and past is queue.past:
                past.append(for_past)
            else:
                self._durability.forget_message(for_past)
            position = for_past.reference or message.reference or position
        position = position or self._durability.position  # as of one
        return position if is_accepted else REFUSED

    def _put_delayed(
        self, queues: tuple[Queue, ...], address: Address, header: bytes, body: bytes, digest: Digest
    ) -> Outcome:
        """Publish a message that asks for a delay: exchanges that hold back do so, to all else it is as any other."""
        outcome = TAKEN
        others = tuple([queue for queue in queues if not queue.holds_back])
        if others:
            outcome = self.put(others, address, header, body, replace(digest, delay_ms=0))
        for queue in queues:
            if queue.holds_back:
                queue.counts.published += 1
                position = queue.hold(address, header, body, digest.delay_ms)
                if outcome != REFUSED:
                    outcome = max(outcome, position)
        return outcome

    def release(self, exchange: Exchange, address: Address, header: bytes, body: bytes, digest: Digest) -> int:
        """Put in what an exchange has held back until now; returns how many queues it was routed to."""
        envelope = Envelope(address.routing_keys, header, digest.headers, body)
        queues = self._route_of_nobodys(exchange, envelope).queues
        self.put(queues, address, header, body, digest)
        if not queues:
            self._virtual_host.drops.unroutable(self._virtual_host.name, address, None)
        return len(queues)

    # --- what died

    def publish_dead_letter(self, queue: Queue, message: Message, reason: DeathReason) -> None:
        """Send a message that died in a queue to the queue's dead-letter exchange, where there is one.

        Only now is it forgotten here, so that a crash finds it in the one place or in the other.
        """
        name = queue.arguments.dead_letter_exchange
        exchange = None if name is None else self._virtual_host.exchanges.get(name)
        try:
            if exchange is not None:
                self._publish_dead_letter(exchange, queue, message, reason)
            else:
                queue.dropped([message], reason)
                if self._observers.present:
                    self._observers.died(queue, message, reason, None)
        finally:  # a defect costs this message, and neither the queue's deletion nor the next start
            queue.dead_letter_left(message)

    def _publish_dead_letter(self, exchange: Exchange, queue: Queue, message: Message, reason: DeathReason) -> None:
        """Most often many messages die that are alike in all but their bodies: then what they become is, too."""
        wall_ms = self._clock.wall_ms()
        version = self._virtual_host.lookup_version
        death = (message.header, message.address, reason, queue, exchange, wall_ms // 1000, version)
        if death != self._last_death:
            routing_key = queue.arguments.dead_letter_routing_key
            dead, headers = dead_lettered(
                message, reason, queue.name, exchange.name, routing_key, wall_ms, self._behaviour
            )
            routing_keys = dead.address.routing_keys if routing_key is None else (routing_key,)
            envelope = Envelope(routing_keys, dead.header, headers, dead.body)
            route = self._route_of_nobodys(exchange, envelope)
            queues = tuple(
                queue for queue in route.queues if queue.holds_back or not would_cycle(queue.name, reason, headers)
            )
            self._last_death = death if route.may_be_remembered else ()
            self._last_dead = (queues, dead.address, dead.header, digest_of(dead.header))
            self._last_is_cycle = len(route.queues) > 0 and not queues
        queues, address, header, digest = self._last_dead
        outcome = self.put(queues, address, header, message.body, digest)
        if not queues:
            self._virtual_host.drops.dead_letter_lost(
                self._virtual_host.name, queue.name, address, is_cycle=self._last_is_cycle
            )
        if self._observers.present:
            passage = Passage(self._virtual_host, address, header, message.body, queues, outcome != REFUSED)
            passage.is_cycle = self._last_is_cycle
            self._observers.died(queue, message, reason, passage)

    def _route_of_nobodys(self, exchange: Exchange, message: Envelope) -> Route:
        """The route of a message that no client publishes just now, so that nobody can be refused it.

        Where an exchange type that a package brings fails, which it has logged, there is none.
        """
        try:
            return find_route(self._virtual_host, exchange, message)
        except AmqpError:
            return OF_EACH_MESSAGE
