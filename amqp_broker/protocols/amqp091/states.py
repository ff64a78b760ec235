"""The states of a connection and of a channel, what leads from one to another, and nothing else.

The tables are the whole truth: what they do not hold is a defect, and ends the connection as one. A test draws
docs/connection-states.md from them. Inside ``handshake`` the steps follow each other as ``handshake.py`` says; what is
allowed in each state is told in ``connection.py`` and ``channel.py``.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class ConnectionState(Enum):
    """The state of a connection in its life."""

    HANDSHAKE = auto()
    OPEN = auto()
    CLOSING = auto()  # we have said connection.close, or say nothing more to whom we do not trust
    CLOSED_BY_CLIENT = auto()  # the client has said connection.close, and was answered
    CLOSED = auto()


class ConnectionEvent(Enum):
    """An event that changes the state of a connection; the values are for the picture."""

    OPENED = "connection.open succeeds"
    FAILED = "we close it: an error, or an administrator"
    CLOSED_BY_CLIENT = "connection.close comes"
    ENDED = "the socket ends, time is up"
    ANSWERED = "connection.close-ok comes"


class ChannelState(Enum):
    """The state of a channel in its life; behind the last it is forgotten."""

    STARTING = auto()
    OPEN = auto()
    CLOSING = auto()  # we have said channel.close
    CLOSED_BY_CLIENT = auto()  # the client has said channel.close


class ChannelEvent(Enum):
    """An event that changes the state of a channel; the values are for the picture."""

    OPENED = "channel.open comes"
    FAILED = "we close it: a soft error"
    CLOSED_BY_CLIENT = "channel.close comes"


CONNECTION_TRANSITIONS: Final[dict[ConnectionState, dict[ConnectionEvent, ConnectionState]]] = {
    ConnectionState.HANDSHAKE: {
        ConnectionEvent.OPENED: ConnectionState.OPEN,
        ConnectionEvent.FAILED: ConnectionState.CLOSING,
        ConnectionEvent.ENDED: ConnectionState.CLOSED,
    },
    ConnectionState.OPEN: {
        ConnectionEvent.FAILED: ConnectionState.CLOSING,
        ConnectionEvent.CLOSED_BY_CLIENT: ConnectionState.CLOSED_BY_CLIENT,
        ConnectionEvent.ENDED: ConnectionState.CLOSED,
    },
    ConnectionState.CLOSING: {
        ConnectionEvent.ANSWERED: ConnectionState.CLOSED,
        ConnectionEvent.ENDED: ConnectionState.CLOSED,
    },
    ConnectionState.CLOSED_BY_CLIENT: {
        ConnectionEvent.ENDED: ConnectionState.CLOSED,
    },
    ConnectionState.CLOSED: {},
}

CHANNEL_TRANSITIONS: Final[dict[ChannelState, dict[ChannelEvent, ChannelState]]] = {
    ChannelState.STARTING: {
        ChannelEvent.OPENED: ChannelState.OPEN,
    },
    ChannelState.OPEN: {
        ChannelEvent.FAILED: ChannelState.CLOSING,
        ChannelEvent.CLOSED_BY_CLIENT: ChannelState.CLOSED_BY_CLIENT,
    },
    ChannelState.CLOSING: {},
    ChannelState.CLOSED_BY_CLIENT: {},
}
