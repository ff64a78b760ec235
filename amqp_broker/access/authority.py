"""The authority that is asked who somebody is, where that is not the broker's own users' alone to say. Holds none; what
such a user may do is a judge's to say (``judge.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from amqp_broker.access.client import Peer
    from amqp_broker.access.users import User


class Authority(Protocol):
    """Finds out who somebody is, where that is not the broker's own users' alone to say."""

    def authenticate(self, name: str, password: bytes | None, peer: Peer) -> User | None:
        """The user, with who judges them; None where it is nobody.

        Args:
            password: None where a certificate has proved the name.

        Raises:
            NotDecidedYet: it is being asked for.
            NotVerifiedYet: the password is to be compared with one of the broker's own.
        """
        ...
