"""Users: who they are, how they prove it, and what they may do in which virtual host.

A password is kept as RabbitMQ keeps it: four random bytes of salt, then the SHA-256 of salt and password, so that
definitions can carry it. Holds no mechanism of authentication and no protocol.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

SALT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Permission:
    """Three patterns of names; an operation on a resource needs one of them to match its name.

    An empty pattern matches the empty name only (RabbitMQ docs, "Access Control").
    """

    configure: re.Pattern[str]
    write: re.Pattern[str]
    read: re.Pattern[str]


EVERYTHING = Permission(re.compile(".*"), re.compile(".*"), re.compile(".*"))


@dataclass(slots=True)
class User:
    """A user, with the permissions by virtual host."""

    name: str
    password_hash: bytes
    tags: tuple[str, ...] = ()
    permissions: dict[str, Permission] = field(default_factory=dict)
    reference: int = 0  # of the journal's record


class Users:
    """All the users of one broker."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}

    def add(self, name: str, password: str, tags: tuple[str, ...] = ()) -> User:
        """Create a user, or replace one of the same name."""
        return self.put(User(name, hash_password(password.encode()), tags))

    def put(self, user: User) -> User:
        """Add a user who has a password hash already."""
        self._users[user.name] = user
        return user

    def __len__(self) -> int:
        return len(self._users)

    def get(self, name: str) -> User | None:
        """The user of this name."""
        return self._users.get(name)

    def permit_all(self, name: str, virtual_host: str) -> None:
        """Let a user do everything in a virtual host."""
        self._users[name].permissions[virtual_host] = EVERYTHING

    def authenticate(self, name: str, password: bytes) -> User | None:
        """The user, if the password is theirs. Takes the same time whether or not there is such a user."""
        user = self._users.get(name)
        stored = user.password_hash if user is not None else bytes(SALT_BYTES + 32)
        matches = hmac.compare_digest(stored, hash_password(password, stored[:SALT_BYTES]))
        return user if matches else None


def hash_password(password: bytes, salt: bytes | None = None) -> bytes:
    """Salt and SHA-256 of a password (RabbitMQ's ``rabbit_password_hashing_sha256``).

    Args:
        password: as the client sends it.
        salt: four bytes; random ones when left out.
    """
    if salt is None:
        salt = secrets.token_bytes(SALT_BYTES)
    return salt + hashlib.sha256(salt + password).digest()
