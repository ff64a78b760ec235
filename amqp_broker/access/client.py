"""Clients at the other end: the peer, the user, and what the user may do in the virtual host.

A client owns exclusive queues by its identity, and is the Authorizer that the domain asks. Holds no protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

from amqp_broker.access.judge import Judge
from amqp_broker.access.patterns import Pattern
from amqp_broker.access.users import TopicPatterns, TopicPermission, User
from amqp_broker.errors import AmqpError, access_refused, not_allowed

DEFAULT_EXCHANGE_IN_PATTERNS = "amq.default"
UNKNOWN = "unknown"  # the host of who has none
ALLOWED_MAX = 1000  # answers from elsewhere that a connection remembers


@dataclass(frozen=True, slots=True)
class Tls:
    """The encryption of a connection."""

    version: str
    cipher: str


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of the socket, and the end that is ours."""

    host: str
    port: int
    is_loopback: bool
    certificate_name: str | None = None  # the user that its certificate names, empty if none; None where none was asked
    our_host: str = ""  # where it has connected to; empty where there is no socket
    our_port: int = 0
    tls: Tls | None = None
    direct_name: str = ""  # of a connection of the broker's to itself, which has no socket

    @classmethod
    def at(cls, host: str, port: int, our_host: str = "", our_port: int = 0) -> Peer:
        """The peer at an IP address, which may be an IPv4 address written as one of IPv6."""
        is_loopback = host == "::1" or host.removeprefix("::ffff:").startswith("127.")
        return cls(host, port, is_loopback, our_host=our_host, our_port=our_port)

    @classmethod
    def within(cls, name: str, user: str) -> Peer:
        """The broker itself, in the name of a user: a direct connection, as RabbitMQ calls it.

        Args:
            name: of the connection, which no other has.
        """
        return cls(UNKNOWN, 0, True, certificate_name=user, our_host=UNKNOWN, direct_name=name)

    def __str__(self) -> str:
        return self.direct_name or _address(self.host, self.port)

    @property
    def connection_name(self) -> str:
        """Both ends, as RabbitMQ names a connection: ``127.0.0.1:50000 -> 127.0.0.1:5672``."""
        if self.direct_name:
            return self.direct_name
        return f"{self} -> {_address(self.our_host, self.our_port)}" if self.our_host else str(self)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_access(user: User, virtual_host: str) -> None:
    """Raise AmqpError 530 unless a user may do anything, be it nothing, in a virtual host.

    Raises:
        NotDecidedYet: that is being asked for elsewhere.
    """
    judge: Judge | None = user.judge
    if virtual_host not in user.permissions if judge is None else not judge.may_enter(virtual_host):
        raise not_allowed(f"access to vhost '{virtual_host}' refused for user '{user.name}'")


class Client:
    """A user in a virtual host, on one connection.

    Where others decide what the user may do, each check raises NotDecidedYet until they have. What they have allowed
    is remembered for the connection, as RabbitMQ does it for a channel.

    Args:
        user: who has authenticated.
        virtual_host: its name.
        refusals_name_the_permission: whether they say which one is missing (behaviour.py).
        client_id: the identifier of a client of MQTT, which topic permissions may name.
    """

    def __init__(
        self,
        user: User,
        virtual_host: str,
        *,
        refusals_name_the_permission: bool = True,
        client_id: str | None = None,
    ) -> None:
        self.user = user
        self._virtual_host = virtual_host
        self._client_id = client_id
        self._expanded: tuple[TopicPermission, TopicPatterns] | None = None  # of the permission that names the client
        self._names_permission = refusals_name_the_permission
        self._allowed: set[tuple[str, str, str, str]] = set()
        self._made_up_name = ""  # of a queue, while others are asked what the user may do with it

    @property
    def is_judged(self) -> bool:
        """Whether others decide what the user may do."""
        return self.user.judge is not None

    def forget_allowed(self) -> None:
        """Ask anew for all that the user may do."""
        self._allowed.clear()

    @property
    def user_name(self) -> str:
        """The user's name."""
        return self.user.name

    def check_access(self) -> None:
        """Raise AmqpError 530 unless the user may use the virtual host at all."""
        check_access(self.user, self._virtual_host)

    def check_configure(self, kind: str, name: str) -> None:
        """Raise AmqpError 403 unless the user may create, change and delete this."""
        if self.user.judge is not None:
            self._check_elsewhere("configure", kind, name)
            return
        permission = self.user.permissions.get(self._virtual_host)
        self._check(permission.configure if permission else None, "configure", kind, name)

    def check_write(self, kind: str, name: str) -> None:
        """Raise AmqpError 403 unless the user may write to this."""
        if self.user.judge is not None:
            self._check_elsewhere("write", kind, name)
            return
        permission = self.user.permissions.get(self._virtual_host)
        self._check(permission.write if permission else None, "write", kind, name)

    def check_read(self, kind: str, name: str) -> None:
        """Raise AmqpError 403 unless the user may read from this."""
        if self.user.judge is not None:
            self._check_elsewhere("read", kind, name)
            return
        permission = self.user.permissions.get(self._virtual_host)
        self._check(permission.read if permission else None, "read", kind, name)

    def may_read(self, kind: str, name: str) -> bool:
        """Whether the user may read from this."""
        if self.user.judge is not None:
            return self._is_allowed_elsewhere("read", kind, name)
        permission = self.user.permissions.get(self._virtual_host)
        return permission is not None and permission.read.matches(name)

    def may_write(self, kind: str, name: str) -> bool:
        """Whether the user may write to this."""
        if self.user.judge is not None:
            return self._is_allowed_elsewhere("write", kind, name)
        permission = self.user.permissions.get(self._virtual_host)
        return permission is not None and permission.write.matches(name)

    def check_any(self, kind: str, name: str) -> None:
        """Raise AmqpError 403, as for the permission to configure, unless the user may do anything at all with this."""
        if not self.may_read(kind, name) and not self.may_write(kind, name):
            self.check_configure(kind, name)

    def made_up(self, name: str) -> str:
        """The name that a new queue gets: this one, or an earlier one that others have been asked about meanwhile.

        Args:
            name: that nobody has.

        Raises:
            NotDecidedYet: what the user may do with it is being asked for; it is the same name when that is known.
        """
        if self.user.judge is None:
            return name
        self._made_up_name = name = self._made_up_name or name
        for permission in ("configure", "write", "read"):  # all that may be asked for until it is in use
            self._is_allowed_elsewhere(permission, "queue", name)
        self._made_up_name = ""
        return name

    def check_topic_read(self, exchange: str, routing_key: str) -> None:
        """Raise AmqpError 403 unless the user may bind this topic exchange with this key."""
        if self.user.judge is not None:
            self._check_topic_elsewhere("read", exchange, routing_key)
            return
        patterns = self._topic_patterns(exchange)
        if patterns is not None and not patterns.read.matches(routing_key):
            raise self._topic_refused("read", exchange, routing_key)

    def check_topic_write(self, exchange: str, routing_key: str) -> None:
        """Raise AmqpError 403 unless the user may publish to this topic exchange with this key."""
        if self.user.judge is not None:
            self._check_topic_elsewhere("write", exchange, routing_key)
            return
        patterns = self._topic_patterns(exchange)
        if patterns is not None and not patterns.write.matches(routing_key):
            raise self._topic_refused("write", exchange, routing_key)

    def _topic_patterns(self, exchange: str) -> TopicPatterns | None:
        """The patterns for a topic exchange; None where every key is allowed."""
        user, client_id = self.user, self._client_id
        permission = user.topic_permissions.get(self._virtual_host, {}).get(exchange)
        if permission is None or client_id is None or not permission.names_the_client:
            return user.topic_patterns(self._virtual_host, exchange)
        known = self._expanded
        if known is None or known[0] is not permission:
            known = permission, permission.expanded(user.name, self._virtual_host, client_id)
            self._expanded = known
        return known[1]

    def _check_elsewhere(self, permission: str, kind: str, name: str) -> None:
        if not self._is_allowed_elsewhere(permission, kind, name):
            shown = name or DEFAULT_EXCHANGE_IN_PATTERNS
            raise self._refused(permission, f"{kind} '{shown}' in vhost '{self._virtual_host}'")

    def _is_allowed_elsewhere(self, permission: str, kind: str, name: str) -> bool:
        asked = (permission, kind, name, "")
        if asked in self._allowed:
            return True
        judge: Judge = self.user.judge
        if not judge.may_access(self._virtual_host, kind, name or DEFAULT_EXCHANGE_IN_PATTERNS, permission):
            return False
        self._remember_allowed(asked)
        return True

    def _check_topic_elsewhere(self, permission: str, exchange: str, routing_key: str) -> None:
        asked = (permission, "topic", exchange, routing_key)
        if asked in self._allowed:
            return
        judge: Judge = self.user.judge
        if not judge.may_use_topic(self._virtual_host, exchange, routing_key, permission, self._client_id):
            raise self._topic_refused(permission, exchange, routing_key)
        self._remember_allowed(asked)

    def _remember_allowed(self, asked: tuple[str, str, str, str]) -> None:
        if len(self._allowed) >= ALLOWED_MAX:
            self._allowed.clear()
        self._allowed.add(asked)

    def _topic_refused(self, permission: str, exchange: str, routing_key: str) -> AmqpError:
        where = f"topic '{routing_key}' in exchange '{exchange}' in vhost '{self._virtual_host}'"
        return self._refused(permission, where)

    def _check(self, pattern: Pattern | None, permission: str, kind: str, name: str) -> None:
        if kind == "exchange" and not name:
            name = DEFAULT_EXCHANGE_IN_PATTERNS
        if pattern is None or not pattern.matches(name):
            raise self._refused(permission, f"{kind} '{name}' in vhost '{self._virtual_host}'")

    def _refused(self, permission: str, where: str) -> AmqpError:
        access = f"{permission} access" if self._names_permission else "access"
        return access_refused(f"{access} to {where} refused for user '{self.user.name}'")
