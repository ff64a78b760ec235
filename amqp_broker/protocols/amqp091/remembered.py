"""Memory of what a connection's publishes have asked for, by its bytes, so that it is looked up once. Bounded."""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.message import Address, Digest
from amqp_broker.broker.queues.base import Queue

ROUTES_REMEMBERED_MAX = 131_072  # by all connections together, about half a kilobyte each; and by each at least:
ROUTES_REMEMBERED_MIN = 1024
DIGESTS_REMEMBERED_MAX = 4096
DIGEST_KEY_BYTES_MAX: Final = 256


class Target:
    """The target of a basic.publish, looked up. Each message reads it, and a field of a NamedTuple takes 30 ns.

    Args:
        exchange: which it names.
        address: exchange and routing key.
        mandatory: whether it comes back when there is no queue for it.
        queues: where it leads.
        may_be_remembered: else the queues are to be found for each message anew.
    """

    __slots__ = ("address", "exchange", "mandatory", "may_be_remembered", "queues")

    def __init__(
        self,
        exchange: Exchange,
        address: Address,
        mandatory: bool,
        queues: tuple[Queue, ...],
        may_be_remembered: bool,
    ) -> None:
        self.exchange = exchange
        self.address = address
        self.mandatory = mandatory
        self.queues = queues
        self.may_be_remembered = may_be_remembered


class Remembered:
    """The memory of what one connection's publishes have asked for, by its bytes, so that it is looked up once."""

    __slots__ = ("digest", "digests", "header", "method", "target", "targets", "version")

    def __init__(self) -> None:
        self.header = b""  # the last one: often the next is the same, and the messages that wait can share it
        self.digest: Digest | None = None
        self.method = b""  # the last one, likewise
        self.target: Target | None = None
        self.targets: dict[bytes, Target] = {}
        self.version = -1  # of the virtual host's lookups, when these were made
        self.digests: dict[bytes, Digest] = {}

    def begin_version(self, version: int) -> None:
        """Routes and permissions have changed."""
        self.targets.clear()
        self.digests.clear()  # whose user a message may name is a permission, too
        self.digest = None
        self.target = None
        self.version = version

    def put_target(self, method: bytes, target: Target, connections: int) -> None:
        """One more, where so many connections are open: the fewer, the more each may have."""
        if len(self.targets) >= max(ROUTES_REMEMBERED_MIN, ROUTES_REMEMBERED_MAX // max(1, connections)):
            self.targets.clear()
        self.targets[method] = target

    def put_digest(self, properties: bytes, digest: Digest) -> None:
        if len(properties) > DIGEST_KEY_BYTES_MAX:
            return
        if len(self.digests) >= DIGESTS_REMEMBERED_MAX:
            self.digests.clear()
        self.digests[properties] = digest
