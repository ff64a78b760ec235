"""A client on the port for web sockets that did not begin one. Apart from the rest, which needs the library."""

from __future__ import annotations


class NoWebSocket(Exception):
    """A client did not begin a web socket, or one that nobody here speaks; the text says what it did."""
