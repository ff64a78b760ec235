"""The contract of a back end: somebody who knows users that the broker does not, and what they may do.

A package brings one by an entry point of the group ``amqp_broker.auth_backends``; it is made with the settings, and its
name can stand in ``auth_backends``. Each question is asked in a task of trio, so it may wait for the network; the
broker gives it ``auth_timeout_ms``, remembers what is allowed for ``auth_cache_ttl_ms``, and takes what is raised for a
no.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from amqp_broker.access.client import Peer


class BackendFailed(Exception):
    """A back end cannot say; the text says why, for the log."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user whom a back end knows.

    Args:
        name: of the user.
        tags: as ``administrator``.
        token: what the back end wants to be handed when it is asked what they may do; most need nothing.
        expires_wall_ms: when the proof runs out, in milliseconds since 1970; None for never.
        client_id: the identifier of the client of MQTT that ``may_use_topic`` is about; None in all other questions.
    """

    name: str
    tags: tuple[str, ...] = ()
    token: str = ""
    expires_wall_ms: int | None = None
    client_id: str | None = None


class Backend(Protocol):
    """Decides about its users."""

    async def authenticate(self, name: str, password: str | None, peer: Peer) -> Person | None:
        """Who that is; None for a wrong name or password.

        Args:
            password: None where a certificate has proved the name.
        """
        ...

    async def may_enter(self, person: Person, virtual_host: str, peer: Peer) -> bool:
        """Whether they may use a virtual host."""
        ...

    async def may_access(self, person: Person, virtual_host: str, kind: str, name: str, permission: str) -> bool:
        """Whether they have a permission on a ``queue`` or an ``exchange``: ``configure``, ``write`` or ``read``."""
        ...

    async def may_use_topic(
        self, person: Person, virtual_host: str, exchange: str, routing_key: str, permission: str
    ) -> bool:
        """Whether they may ``write`` with a key to a topic exchange that they may write to, or ``read`` from one."""
        ...
