"""Heartbeats, both ways (AMQP 0-9-1, 4.2.7).

Any traffic counts, but for our own heartbeats: a frame goes out when nothing else did for half the interval, and again
after each further half; the first one whatever was said before, as from RabbitMQ. A peer that was silent for two whole
intervals is given up, without a word, since nobody listens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.wire.frames import HEARTBEAT_FRAME

if TYPE_CHECKING:
    from amqp_broker.broker.timers import Timer
    from amqp_broker.protocols.amqp091.link import Link

NOTHING_COUNTS = -1  # in the first half of an interval
MISSED_MAX = 1  # silent intervals that are forgiven


class Heartbeat:
    """The heartbeats of one connection; none until ``start``."""

    def __init__(self, connection: Link) -> None:
        self._connection = connection
        self._interval_ms = 0
        self._missed = 0
        self._received_bytes = 0
        self._said_bytes = 0
        self._send_timer: Timer | None = None
        self._receive_timer: Timer | None = None

    def start(self, interval_s: int) -> None:
        """Begin to send and to expect heartbeats.

        Args:
            interval_s: as negotiated; 0 for none.
        """
        self._interval_ms = interval_s * 1000
        if interval_s:
            self._said_bytes = NOTHING_COUNTS
            self._send_timer = self._connection.broker.timers.after(
                self._interval_ms // 2, self._half_an_interval_passed
            )
            self._await_receiving()

    def stop(self) -> None:
        """Neither send nor expect any more."""
        for timer in (self._send_timer, self._receive_timer):
            if timer is not None:
                timer.cancel()

    def _await_sending(self) -> None:
        self._said_bytes = self._connection.sent_bytes + self._connection.waiting_bytes
        self._send_timer = self._connection.broker.timers.after(self._interval_ms // 2, self._half_an_interval_passed)

    def _half_an_interval_passed(self) -> None:
        # What waits will be heard of when the client takes it; a heartbeat behind it would be heard of no sooner.
        connection = self._connection
        if not connection.waiting_bytes and self._said_bytes in (connection.sent_bytes, NOTHING_COUNTS):
            connection.output.send(HEARTBEAT_FRAME)
        self._await_sending()

    def _await_receiving(self) -> None:
        self._received_bytes = self._connection.received_bytes
        self._receive_timer = self._connection.broker.timers.after(self._interval_ms, self._an_interval_passed)

    def _an_interval_passed(self) -> None:
        if self._connection.received_bytes != self._received_bytes or self._connection.is_reading_paused:
            self._missed = 0  # who is not read cannot be heard
        else:
            self._missed += 1
            if self._missed > MISSED_MAX:
                self._connection.lost(f"missed heartbeats from client, timeout: {self._interval_ms // 1000}s")
                return
        self._await_receiving()
