"""A login back end: the users are those of a file, a name and a password a line, and own what begins with their name.

The environment variable ``GUEST_LIST`` names the file.
"""

from __future__ import annotations

import hmac
import os

import trio

from amqp_broker.access.client import Peer
from amqp_broker.server.logins.backend import Person
from amqp_broker.settings import Settings


class GuestList:
    """Reads the file at each question; the broker remembers the answers for a while."""

    def __init__(self, settings: Settings) -> None:
        self._path = trio.Path(os.environ["GUEST_LIST"])

    async def authenticate(self, name: str, password: str | None, peer: Peer) -> Person | None:
        """Who that is; None for nobody on the list."""
        lines = (await self._path.read_text(encoding="utf-8")).splitlines()
        guests = dict(line.split(maxsplit=1) for line in lines if line.strip())
        if password is None or name not in guests:
            return None
        is_right = hmac.compare_digest(guests[name].encode(), password.encode("utf-8", "surrogateescape"))
        return Person(name) if is_right else None

    async def may_enter(self, person: Person, virtual_host: str, peer: Peer) -> bool:
        """Guests are let in everywhere."""
        return True

    async def may_access(self, person: Person, virtual_host: str, kind: str, name: str, permission: str) -> bool:
        """They have their own things, and may write to the default exchange."""
        return name.startswith(f"{person.name}.") or (name == "amq.default" and permission == "write")

    async def may_use_topic(
        self, person: Person, virtual_host: str, exchange: str, routing_key: str, permission: str
    ) -> bool:
        """Any key."""
        return True
