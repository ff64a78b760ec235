"""Users: who they are, how they prove it, and what they may do in which virtual host.

Holds the users and the answers to "may this one do that?". How passwords are kept is in ``passwords.py``, how patterns
match in ``patterns.py``; changing users so that it lasts and takes effect is ``broker/administration.py``.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from amqp_broker.access.passwords import SHA256, PasswordHash, Verifier
from amqp_broker.access.patterns import BadPattern, Pattern

CLIENT_ID = "{client_id}"
NO_PASSWORD = PasswordHash(SHA256, b"")
DECOY_BYTES = 64


@dataclass(frozen=True, slots=True)
class Permission:
    """Three patterns of names; an operation on a resource needs one of them to match its name.

    An empty pattern matches the empty name only (RabbitMQ docs, "Access Control").
    """

    configure: Pattern
    write: Pattern
    read: Pattern


@dataclass(frozen=True, slots=True)
class TopicPermission:
    """Two patterns of routing keys of one topic exchange (RabbitMQ docs, "Topic Authorisation").

    ``{username}`` and ``{vhost}`` in them stand for the user's and the virtual host's name, ``{client_id}`` for the
    identifier of a client of MQTT; the patterns are kept as they were written, and ``expanded`` for one user in one
    virtual host.
    """

    write: str
    read: str

    @property
    def names_the_client(self) -> bool:
        """Whether it is another one for each client of MQTT."""
        return CLIENT_ID in self.write or CLIENT_ID in self.read

    def expanded(self, user: str, virtual_host: str, client_id: str | None = None) -> TopicPatterns:
        """The patterns of writing and of reading for this user there.

        The names are put in as they are, as RabbitMQ does it; where that gives no pattern, nothing is allowed. An
        identifier is what its client chooses, so that it matches nothing but itself: one of ``.*`` opens nothing.

        Args:
            client_id: of a client of MQTT; with None, ``{client_id}`` stands for nothing but these letters.
        """
        itself = None if client_id is None else re.escape(client_id)

        def expand(source: str) -> Pattern:
            named = source if itself is None else source.replace(CLIENT_ID, itself)
            try:
                return Pattern(named.replace("{username}", user).replace("{vhost}", virtual_host))
            except BadPattern:
                return NOTHING

        return TopicPatterns(expand(self.write), expand(self.read))


class TopicPatterns(NamedTuple):
    """The patterns of a topic permission, for one user in one virtual host."""

    write: Pattern
    read: Pattern


EVERYTHING = Permission(Pattern(".*"), Pattern(".*"), Pattern(".*"))
NOTHING = Pattern("(?!)")


@dataclass(slots=True)
class UserLimits:
    """The limits of what a user may have at the same time; None is no limit (RabbitMQ docs, "Per-User Limits")."""

    connections_max: int | None = None
    channels_max: int | None = None


@dataclass(slots=True)
class User:
    """A user, with the permissions by virtual host."""

    name: str
    password_hash: PasswordHash
    tags: tuple[str, ...] = ()
    permissions: dict[str, Permission] = field(default_factory=dict)
    topic_permissions: dict[str, dict[str, TopicPermission]] = field(default_factory=dict)  # by exchange as well
    limits: UserLimits = field(default_factory=UserLimits)
    reference: int = 0  # of the journal's record
    judge: Any = None  # a Judge (judge.py), where others decide what the user may do
    expires_wall_ms: int | None = None  # when what has proved who it is does so no more; None for never
    _expanded: dict[tuple[str, str], tuple[TopicPermission, TopicPatterns]] = field(default_factory=dict)

    def topic_patterns(self, virtual_host: str, exchange: str) -> TopicPatterns | None:
        """The patterns for a topic exchange; None where every key is allowed."""
        permission = self.topic_permissions.get(virtual_host, {}).get(exchange)
        if permission is None:
            return None
        known = self._expanded.get((virtual_host, exchange))
        if known is None or known[0] is not permission:
            known = permission, permission.expanded(self.name, virtual_host)
            self._expanded[virtual_host, exchange] = known
        return known[1]


class Users:
    """All the users of one broker."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self.verifier = Verifier()
        self._decoy = PasswordHash(SHA256, secrets.token_bytes(DECOY_BYTES))

    def add(self, name: str, password: str, tags: tuple[str, ...] = (), *, algorithm: str = SHA256) -> User:
        """Create a user, or replace one of the same name.

        Args:
            algorithm: how the password is hashed; one of ``passwords.py``.
        """
        return self.put(User(name, self.verifier.hash(password.encode(), algorithm), tags))

    def put(self, user: User) -> User:
        """Add a user who has a password hash already."""
        self._users[user.name] = user
        self.password_changed(user)
        return user

    def password_changed(self, user: User) -> None:
        """A user has a new password hash."""
        if user.password_hash.is_slow:
            self._decoy = PasswordHash(user.password_hash.algorithm, secrets.token_bytes(DECOY_BYTES))

    def remove(self, name: str) -> None:
        """Forget a user."""
        del self._users[name]

    def __len__(self) -> int:
        return len(self._users)

    def __iter__(self) -> Iterator[User]:
        return iter(list(self._users.values()))

    def get(self, name: str) -> User | None:
        """The user of this name."""
        return self._users.get(name)

    def permit_all(self, name: str, virtual_host: str) -> None:
        """Let a user do everything in a virtual host."""
        self._users[name].permissions[virtual_host] = EVERYTHING

    def authenticate(self, name: str, password: bytes) -> User | None:
        """The user, if the password is theirs. An empty password is nobody's, as in RabbitMQ.

        A name that nobody has takes as long as one that somebody has: it is compared with a hash of the slowest kind
        in use.

        Raises:
            NotVerifiedYet: that is not known, and takes long to find out; ask again then.
        """
        user = self._users.get(name)
        stored = user.password_hash if user is not None else self._decoy
        matches = self.verifier.verdict(stored, password)
        return user if matches and password and user is not None else None
