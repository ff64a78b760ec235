"""The log lines of one connection: when it opens, when it closes, when it fails."""

from __future__ import annotations

import logging
import time
from typing import Any

from amqp_broker.logs import FieldValue, log_event, log_internal_error

# Why a stream ended for which nothing is wrong but that its client has gone, with an orderly end of TCP or without.
CLIENT_LEFT = "the client closed the TCP connection"
CLIENT_RESET = "the client reset the TCP connection"
_HAS_GONE = (CLIENT_LEFT, CLIENT_RESET)
CLAIMED_NAME_MAX = 255


class ConnectionLog:
    """Writes one line for each thing that happens to a connection.

    Args:
        peer: where the client comes from, as ``host:port``.
        conversation: the session's connection. It is asked for ``user_name``, ``login``, ``virtual_host_name``,
            ``close_reason``, ``received_bytes``, ``has_failed``, and ``inspect`` for the particulars of its client;
            what it does not have is left out of the line.
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
            self._log(logging.INFO, "connection opened", **self._client())

    def ended(self, reason: str) -> None:
        """Write the line about the end: "closed" when a connection was open and its client has gone, else "failed".

        A client that leaves without answering our connection.close (pika does), or without a word, is no failure. One
        that has sent nothing at all most often only wants to know whether somebody listens.

        Args:
            reason: why the stream ended; the conversation's own reason is preferred, where it has one.
        """
        said_goodbye = self._particular("close_reason")
        if self.is_opened and (said_goodbye or reason in _HAS_GONE):
            severity, event = logging.INFO, "connection closed"
        elif getattr(self._conversation, "received_bytes", None) == 0 and reason in _HAS_GONE:
            severity, event = logging.DEBUG, "connection failed"
        else:
            has_failed = getattr(self._conversation, "has_failed", False)
            severity, event = logging.ERROR if has_failed else logging.WARNING, "connection failed"
        duration_s = round(time.monotonic() - self._connected_s, 3)
        client = self._client()
        self._log(
            severity,
            event,
            connection_name=client.get("connection_name"),
            client_id=client.get("client_id"),
            reason=said_goodbye or reason,
            duration_s=duration_s,
        )

    def crashed(self, error: BaseException) -> None:
        """A defect of ours ended it."""
        log_internal_error(
            "connection",
            error,
            peer=self._peer,
            user=self._particular("user_name"),
            vhost=self._particular("virtual_host_name"),
        )

    def _log(self, severity: int, event: str, **particulars: FieldValue) -> None:
        log_event(
            severity,
            event,
            peer=self._peer,
            user=self._particular("user_name") or self._claimed_name(),
            vhost=self._particular("virtual_host_name"),
            **particulars,
        )

    def _client(self) -> dict[str, FieldValue]:
        """Who the client says it is, and how it has come."""
        if not hasattr(self._conversation, "inspect"):
            return {}
        info = self._conversation.inspect()
        properties = info["client_properties"]
        return {
            "connection_name": info["user_provided_name"],
            "client_id": _text(properties.get("client_id")) if info["protocol"].startswith("MQTT") else None,
            "product": _text(properties.get("product")),
            "product_version": _text(properties.get("version")),
            "protocol": info["protocol"],
            "tls": info["ssl_protocol"],
            "listener": f"{info['host']}:{info['port']}" if info["host"] else None,
        }

    def _claimed_name(self) -> str | None:
        """Who a client has said it is, whose login was refused or is not decided yet."""
        login = getattr(self._conversation, "login", None)
        return login.claimed_name[:CLAIMED_NAME_MAX] or None if login is not None else None

    def _particular(self, name: str) -> str | None:
        return getattr(self._conversation, name, None) or None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
