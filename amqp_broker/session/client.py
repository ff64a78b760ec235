"""Who is at the other end: the peer, the user, and what the user may do in the virtual host.

A client owns exclusive queues by its identity, and is the Authorizer that the domain asks. Holds no protocol.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from amqp_broker.access.users import User
from amqp_broker.errors import access_refused

DEFAULT_EXCHANGE_IN_PATTERNS = "amq.default"


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of the socket."""

    host: str
    port: int
    is_loopback: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Client:
    """A user in a virtual host, on one connection.

    Args:
        user: who has authenticated.
        virtual_host: its name.
    """

    def __init__(self, user: User, virtual_host: str) -> None:
        self.user = user
        self._virtual_host = virtual_host

    def check_configure(self, kind: str, name: str) -> None:
        """Raise AmqpError 403 unless the user may create, change and delete this."""
        permission = self.user.permissions.get(self._virtual_host)
        self._check(permission.configure if permission else None, kind, name)

    def check_write(self, kind: str, name: str) -> None:
        """Raise AmqpError 403 unless the user may write to this."""
        permission = self.user.permissions.get(self._virtual_host)
        self._check(permission.write if permission else None, kind, name)

    def check_read(self, kind: str, name: str) -> None:
        """Raise AmqpError 403 unless the user may read from this."""
        permission = self.user.permissions.get(self._virtual_host)
        self._check(permission.read if permission else None, kind, name)

    def check_topic_read(self, exchange: str, routing_key: str) -> None:
        """Raise AmqpError 403 unless the user may bind this topic exchange with this key."""

    def check_topic_write(self, exchange: str, routing_key: str) -> None:
        """Raise AmqpError 403 unless the user may publish to this topic exchange with this key."""

    def _check(self, pattern: re.Pattern[str] | None, kind: str, name: str) -> None:
        if kind == "exchange" and not name:
            name = DEFAULT_EXCHANGE_IN_PATTERNS
        if pattern is None or not pattern.search(name):
            raise access_refused(
                f"access to {kind} '{name}' in vhost '{self._virtual_host}' refused for user '{self.user.name}'"
            )
