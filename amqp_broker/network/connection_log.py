"""The log lines of one connection: when it opens, when it closes, when it fails."""

from __future__ import annotations

import logging
import time
from typing import Any

from amqp_broker.logs import log_event, log_internal_error


class ConnectionLog:
    """Writes one line for each thing that happens to a connection.

    Args:
        peer: where the client comes from, as ``host:port``.
        conversation: the session's connection. It is asked for ``user_name``, ``virtual_host_name`` and
            ``close_reason``; what it does not have is left out of the line.
    """

    __slots__ = ("_connected_s", "_conversation", "_peer", "is_opened")

    def __init__(self, peer: str, conversation: Any) -> None:
        self._peer = peer
        self._conversation = conversation
        self._connected_s = time.monotonic()
        self.is_opened = False

    def connected(self) -> None:
        """The socket was accepted; worth a line only to someone who hunts a defect."""
        log_event(logging.DEBUG, "connection accepted", peer=self._peer)

    def note_opened(self) -> None:
        """Write the line about the opening, once the client has opened a virtual host."""
        if self._particular("virtual_host_name"):
            self.is_opened = True
            self._log(logging.INFO, "connection opened", None)

    def ended(self, reason: str) -> None:
        """Write the line about the end: "closed" when one side said goodbye to an open connection, else "failed".

        A client that leaves without answering our connection.close (pika does) is no failure.

        Args:
            reason: why the stream ended; the conversation's own reason is preferred, where it has one.
        """
        said_goodbye = self._particular("close_reason")
        if said_goodbye and self.is_opened:
            self._log(logging.INFO, "connection closed", said_goodbye, with_duration=True)
        else:
            self._log(logging.WARNING, "connection failed", said_goodbye or reason, with_duration=True)

    def crashed(self, error: BaseException) -> None:
        """A defect of ours ended it."""
        log_internal_error(
            "connection",
            error,
            peer=self._peer,
            user=self._particular("user_name"),
            vhost=self._particular("virtual_host_name"),
        )

    def _log(self, severity: int, event: str, reason: str | None, *, with_duration: bool = False) -> None:
        log_event(
            severity,
            event,
            peer=self._peer,
            user=self._particular("user_name"),
            vhost=self._particular("virtual_host_name"),
            reason=reason,
            duration_s=round(time.monotonic() - self._connected_s, 3) if with_duration else None,
        )

    def _particular(self, name: str) -> str | None:
        return getattr(self._conversation, name, None) or None
