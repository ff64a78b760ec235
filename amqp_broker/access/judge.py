"""Judges of users that are not the broker's own; a judge may have to be asked elsewhere, over a network.

Everything here is synchronous. What is not known yet is a ``NotDecidedYet``: whoever asks for a client lets it wait,
and does the same again when the answer is there; others go on meanwhile. Holds no back end; those are in
``server/logins/``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Wait = Callable[[Callable[[], None]], None]
"""Is handed what is to be called, once, when the answer is there."""


class NotDecidedYet(Exception):
    """The decision about somebody is being asked for elsewhere: ask again when ``wait`` says so.

    Args:
        wait: is handed what is to be called then.
    """

    def __init__(self, wait: Wait) -> None:
        super().__init__()
        self.wait = wait


class Judge(Protocol):
    """Decides what one user may do. Each question raises NotDecidedYet where the answer is not here."""

    def may_enter(self, virtual_host: str) -> bool:
        """Whether the user may use a virtual host at all."""
        ...

    def may_access(self, virtual_host: str, kind: str, name: str, permission: str) -> bool:
        """Whether the user has a permission, ``configure``, ``write`` or ``read``, on a queue or exchange."""
        ...

    def may_use_topic(
        self, virtual_host: str, exchange: str, routing_key: str, permission: str, client_id: str | None
    ) -> bool:
        """Whether the user may write with a key to a topic exchange, or read with it from there.

        Args:
            client_id: the identifier of a client of MQTT.
        """
        ...
