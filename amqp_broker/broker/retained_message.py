"""One retained message, as it is kept (``retained.py`` has them all)."""

from __future__ import annotations


class RetainedMessage:
    """The last message of a topic.

    Args:
        topic: as MQTT writes it.
        header: its content header.
        body: not empty.
        expires_wall_ms: when it goes, in milliseconds since 1970; 0 for never.
    """

    __slots__ = ("body", "expires_wall_ms", "header", "reference", "topic")

    def __init__(self, topic: str, header: bytes, body: bytes, expires_wall_ms: int) -> None:
        self.topic = topic
        self.header = header
        self.body = body
        self.expires_wall_ms = expires_wall_ms
        self.reference = 0  # of the journal's record
