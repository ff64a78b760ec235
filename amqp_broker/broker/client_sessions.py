"""Client sessions, which a virtual host remembers while the clients are away: their subscriptions, and which of their
messages are on the way (MQTT 5.0, 4.1). A queue that clients share goes when no session is subscribed to it any more.

A session belongs to a client identifier and to one connection at a time. One that outlives its connection has records
in the journal: what it is, each of its subscriptions, and the packet identifiers of exchanges that are not done, which
are written in the batch that holds the message itself, so that a crash finds both or none. The first has the client's
will as well, which is said after a crash, too: by one who was there then, or whose will was waiting.

What is on its way to a client with QoS 2 from a queue that it shares with others is held for it while it is away, and
goes to nobody else (MQTT 5.0, 4.8.2). After a restart it is in that queue again, and known by its packet identifier.

Holds no protocol: what a subscription means, and what is in the queues, is the protocol's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from amqp_broker.broker.arguments import EARLIER_SUBSCRIPTION, SHARED_SUBSCRIPTION, SUBSCRIPTION_ARGUMENT
from amqp_broker.broker.client_session import ClientSession, Holder, KeptSubscription
from amqp_broker.broker.last_will import LastWill
from amqp_broker.broker.persistence.definitions import (
    forget_session,
    keep_packet_ids,
    keep_session,
    keep_subscription,
)

if TYPE_CHECKING:
    from amqp_broker.broker.message import Message
    from amqp_broker.broker.persistence.durability import Durability
    from amqp_broker.broker.ports import Authorizer
    from amqp_broker.broker.queues.base import Queue
    from amqp_broker.broker.queues.unacknowledged import Unacknowledged
    from amqp_broker.broker.timers import Timers
    from amqp_broker.broker.topology import Topology
    from amqp_broker.wire.table import Table

SHARED_PREFIX: Final = "$share/"  # of a filter that clients share: the group follows, a slash, and the filter itself
SHARED_QUEUE_PREFIX: Final = "mqtt-shared-"


class ClientSessions:
    """The sessions of one virtual host.

    Args:
        topology: its queues.
        timers: the broker's agenda.
        durability: keeps them.
        publish_will: says what a client has left to be said.
    """

    def __init__(
        self, topology: Topology, timers: Timers, durability: Durability, publish_will: Callable[[LastWill], None]
    ) -> None:
        self._topology = topology
        self._timers = timers
        self._durability = durability
        self._publish_will = publish_will
        self._sessions: dict[str, ClientSession] = {}
        self._chosen: dict[int, ClientSession] = {}  # whose the messages are that were on their way before a restart
        self._subscribers: Counter[str] = Counter()  # how many sessions have each of the filters that clients share

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, client_id: str) -> ClientSession | None:
        """The session of a client, whether it is connected or away."""
        return self._sessions.get(client_id)

    # --- subscriptions

    def subscribe(self, session: ClientSession, topic_filter: str, options: Table) -> None:
        """A session has subscribed to a filter, or with other options than before."""
        if topic_filter not in session.subscriptions and topic_filter.startswith(SHARED_PREFIX):
            self._subscribers[topic_filter] += 1
        subscription = session.subscriptions.setdefault(topic_filter, KeptSubscription(options))
        if subscription.reference and subscription.options == options:
            return
        subscription.options = options
        if session.reference:
            keep_subscription(self._durability, self._topology.name, session, topic_filter)

    def unsubscribe(self, session: ClientSession, topic_filter: str) -> None:
        """A session has a filter no more; the queue of one that clients share goes with the last of them."""
        subscription = session.subscriptions.pop(topic_filter, None)
        if subscription is None:
            return
        self._durability.forget(subscription)
        if topic_filter.startswith(SHARED_PREFIX):
            self._subscribers[topic_filter] -= 1
            self.remove_unused(topic_filter)

    def remove_unused(self, topic_filter: str) -> None:
        """Remove the queue of a shared subscription if nobody has it any more, here or away."""
        if self._subscribers[topic_filter] > 0:
            return
        del self._subscribers[topic_filter]
        queue = self._topology.queues.get(shared_queue_name(topic_filter))
        if queue is not None and is_of_shared_subscription(queue) and not len(queue.consumers):
            self._topology.remove_queue(queue)

    def take(self, client_id: str, holder: Holder, *, is_clean: bool) -> tuple[ClientSession, bool]:
        """Begin or resume the session of a client that has connected.

        The connection that had it is ended.

        Args:
            is_clean: whether what is remembered is to be forgotten.

        Returns:
            The session, and whether it was there. Its will is the one that was not said, and is to be replaced.
        """
        session = self._sessions.get(client_id)
        if session is not None and session.holder is not None:
            session.holder.session_taken_over()
            session = self._sessions.get(client_id)  # it may have gone with its connection
        if session is not None and is_clean:
            self.end(session)
            session = None
        is_present = session is not None
        if session is None:
            session = self._sessions[client_id] = ClientSession(client_id)
        self._stop_timers(session)
        session.holder = holder
        return session, is_present

    def leave(self, session: ClientSession, *, says_will: bool) -> None:
        """The connection of a session has ended; the session ends with it, or in its time.

        Args:
            says_will: whether the client's will is said, now or after its delay; otherwise it is forgotten.
        """
        session.holder = None
        if session.will is not None:
            if not says_will:
                session.will = None
                self.keep(session)
            elif session.will.delay_s and session.is_durable:
                self._say_later(session, session.will.delay_s)
            else:
                self._say(session)
        if session.expiry_s <= 0:
            self.end(session)
        else:
            self._expire_later(session)

    def _expire_later(self, session: ClientSession) -> None:
        session.timer = self._timers.after(session.expiry_s * 1000, lambda: self.end(session))

    def end(self, session: ClientSession) -> None:
        """Forget a session, with the queues that are its own."""
        self._stop_timers(session)
        if self._sessions.get(session.client_id) is session:
            del self._sessions[session.client_id]
        for name in session.queue_names:
            queue = self._topology.queues.get(name)
            if queue is not None:
                self._topology.remove_queue(queue)
        forget_session(self._durability, session)
        held, session.held = session.held, {}
        for delivery in held.values():
            delivery.queue.reject([delivery.message])
        for topic_filter in [name for name in session.subscriptions if name.startswith(SHARED_PREFIX)]:
            self.unsubscribe(session, topic_filter)
        will, session.will = session.will, None
        if will is not None:
            self._publish_will(will)

    def forget_gone(self, session: ClientSession, came_back: Iterable[Message]) -> None:
        """Free the packet identifiers of messages that have expired, or were purged, while their client was away.

        Args:
            came_back: the messages in the client's own queue that it has had before.
        """
        away = [key for key, packet_id in session.sent.items() if packet_id not in session.held]
        references = [key for key in away if isinstance(key, int)]
        there: set[object] = {reference for reference in references if self._durability.has(reference)}
        if len(references) < len(away):
            there.update(came_back)
        gone = [key for key in away if key not in there]
        for key in gone:
            session.sent.forget_key(key)
        for reference in references:
            if reference not in there:
                self._chosen.pop(reference, None)
        if gone:
            self.keep_ids(session)

    # --- what only one of those who share a queue may get

    def is_anothers(self, session: ClientSession, message: Message) -> bool:
        """Whether a message of a shared queue was on its way to another client than the session's before a restart."""
        return self._chosen.get(message.reference, session) is not session

    def hold_for_its_own(self, delivery: Unacknowledged) -> None:
        """Keep a message for whom it was on its way to; nobody gets it where that session has ended."""
        session = self._chosen.pop(delivery.message.reference)
        packet_id = session.sent.id_of(delivery.message)
        if packet_id is None or self._sessions.get(session.client_id) is not session:
            delivery.queue.reject([delivery.message])
            return
        session.held[packet_id] = delivery
        if session.holder is not None:
            session.holder.session_holds()

    @staticmethod
    def _stop_timers(session: ClientSession) -> None:
        for timer in (session.timer, session.will_timer):
            if timer is not None:
                timer.cancel()
        session.timer = session.will_timer = None

    def _say_later(self, session: ClientSession, delay_s: int) -> None:
        """Say its will when the client has been away for so long; it is said before that if the session ends."""
        session.will_timer = self._timers.after(delay_s * 1000, lambda: self._say(session))

    def _say(self, session: ClientSession) -> None:
        """Say its will, in the batch that has it forgotten."""
        will, session.will = session.will, None
        session.will_timer = None
        if will is not None:
            self.keep(session)
            self._publish_will(will)

    def clear(self) -> None:
        """Forget all: the virtual host goes, and all queues with it."""
        for session in list(self._sessions.values()):
            session.will = None
            session.expiry_s = 0  # nothing that its connection does until its end is kept
            session.held.clear()
            self._stop_timers(session)
            forget_session(self._durability, session)
        self._sessions.clear()
        self._subscribers.clear()

    # --- what is kept

    def keep(self, session: ClientSession) -> None:
        """Its expiry, its will or its queues have changed."""
        if session.is_durable:
            is_new = not session.reference
            keep_session(self._durability, self._topology.name, session)
            if is_new:
                self._keep_subscriptions(session)
            if not session.ids_reference and (session.received or session.released or session.sent):
                self.keep_ids(session)
        else:
            forget_session(self._durability, session)

    def _keep_subscriptions(self, session: ClientSession) -> None:
        """Write those that have no record yet."""
        for topic_filter, subscription in session.subscriptions.items():
            if not subscription.reference:
                keep_subscription(self._durability, self._topology.name, session, topic_filter)

    def own(self, session: ClientSession, queue_name: str) -> None:
        """A queue goes with a session from now on, and no other one does."""
        if session.queue_names != [queue_name]:
            session.queue_names = [queue_name]
            self.keep(session)

    def keep_ids(self, session: ClientSession) -> None:
        """Its packet identifiers have changed."""
        if session.is_durable:
            keep_packet_ids(self._durability, self._topology.name, session)

    def restore(self, client_id: str) -> ClientSession:
        """The session of a client, made if need be, while the journal is read."""
        session = self._sessions.get(client_id)
        if session is None:
            session = self._sessions[client_id] = ClientSession(client_id)
        return session

    def recovered(self, who_is: Callable[[str, str], Authorizer | None]) -> None:
        """The journal is read: every client is away, and its time begins anew. What has ids and nothing else, goes.

        Args:
            who_is: finds a user by name, who says the will of a client, by its identifier.
        """
        for session in self._sessions.values():  # of all before the first ends, which may share a queue with others
            self._subscribers.update(name for name in session.subscriptions if name.startswith(SHARED_PREFIX))
        for session in list(self._sessions.values()):
            if session.is_durable:
                self._chosen.update((key, session) for key in session.sent.kept())
                self._expire_later(session)
                if not all(one.reference for one in session.subscriptions.values()):  # an earlier release's
                    keep_session(self._durability, self._topology.name, session)
                    self._keep_subscriptions(session)
                if session.will is not None:
                    session.will.who = who_is(session.will.user_name, session.client_id)
                    self._say_later(session, session.will.delay_s)
            else:
                self.end(session)
        self._remove_all_unused()

    def _remove_all_unused(self) -> None:
        """Remove the queues of sessions that have ended with the broker, and those that none but such had shared. What
        only its name calls shared stays: it may be another's."""
        used = {shared_queue_name(topic_filter) for topic_filter in self._subscribers}
        for session in self._sessions.values():
            used.update(session.queue_names)
        for name, queue in list(self._topology.queues.items()):
            whose = queue.table.get(SUBSCRIPTION_ARGUMENT, EARLIER_SUBSCRIPTION)
            if whose != EARLIER_SUBSCRIPTION and name not in used:
                self._topology.remove_queue(queue)


def is_of_shared_subscription(queue: Queue) -> bool:
    """Whether a queue was declared for a shared subscription, which one of the same name need not be."""
    return queue.table.get(SUBSCRIPTION_ARGUMENT) in (SHARED_SUBSCRIPTION, EARLIER_SUBSCRIPTION)


def shared_queue_name(topic_filter: str) -> str:
    """The name of the queue for a filter that begins with ``SHARED_PREFIX``; it is RabbitMQ's."""
    return SHARED_QUEUE_PREFIX + topic_filter[len(SHARED_PREFIX) :]


def filter_of_shared_queue(name: str) -> str:
    """The filter that such a name was made for."""
    return SHARED_PREFIX + name[len(SHARED_QUEUE_PREFIX) :]
