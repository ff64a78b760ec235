"""The session of one client, as it is remembered and kept (``client_sessions.py`` has them all)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from amqp_broker.broker.last_will import LastWill
from amqp_broker.broker.sent_messages import SentMessages
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.queues.unacknowledged import Unacknowledged
    from amqp_broker.broker.timers import Timer


class Holder(Protocol):
    """The connection that a session belongs to now."""

    def session_taken_over(self) -> None:
        """Another connection has come with the same client identifier: this one is to end at once."""

    def session_holds(self) -> None:
        """There is more in ``held`` than before."""


class KeptSubscription:
    """The subscription of a session to one filter.

    Args:
        options: in the protocol's terms.
    """

    __slots__ = ("options", "reference")

    def __init__(self, options: Table) -> None:
        self.options = options
        self.reference = 0  # of the journal's record


class ClientSession:
    """The session of one client.

    Args:
        client_id: whose it is.
    """

    __slots__ = (
        "client_id",
        "expiry_s",
        "given_back",
        "held",
        "holder",
        "ids_reference",
        "queue_names",
        "received",
        "reference",
        "released",
        "sent",
        "subscriptions",
        "timer",
        "will",
        "will_timer",
    )

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.expiry_s = 0  # how long it outlives its connection
        self.queue_names: list[str] = []  # that go with it
        self.subscriptions: dict[str, KeptSubscription] = {}  # by topic filter
        self.received: dict[int, None] = {}  # packet ids that the client has used and not released
        self.released: dict[int, None] = {}  # packet ids that we have released, and the client has not said so
        self.sent = SentMessages()
        # Of queues that it shares with others: what was on its way to it and nobody else may get, by packet id; and
        # what it had and whoever is next may get.
        self.held: dict[int, Unacknowledged] = {}
        self.given_back: set[object] = set()
        self.reference = 0  # of the journal's record
        self.ids_reference = 0
        self.holder: Holder | None = None
        self.timer: Timer | None = None
        self.will: LastWill | None = None  # unless it was published, or the client has sent DISCONNECT
        self.will_timer: Timer | None = None

    @property
    def is_durable(self) -> bool:
        """Whether it outlives its connection."""
        return self.expiry_s > 0
