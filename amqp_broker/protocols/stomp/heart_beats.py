"""Heart-beats, both ways (STOMP 1.2, "Heart-beating"): a line end where nothing else is said.

One goes out when nothing else did for half the interval. Who was silent for two whole intervals is given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.protocols.stomp.frames import HEART_BEAT

if TYPE_CHECKING:
    from amqp_broker.broker.timers import Timer
    from amqp_broker.protocols.stomp.link import Link

SILENT_INTERVALS_MAX: Final = 2


class HeartBeats:
    """The heart-beats of one connection; none until ``start``."""

    def __init__(self, connection: Link) -> None:
        self._connection = connection
        self._half_ms = 0
        self._silence_ms_max = 0
        self._said_bytes = 0
        self._send_timer: Timer | None = None
        self._receive_timer: Timer | None = None

    def start(self, send_s: int, receive_s: int) -> None:
        """Begin to send and to expect them; 0 for none."""
        if send_s:
            self._half_ms = send_s * 500
            self._await_sending()
        if receive_s:
            self._silence_ms_max = receive_s * 1000 * SILENT_INTERVALS_MAX
            self._await_receiving(self._silence_ms_max)

    def stop(self) -> None:
        """Neither send nor expect any more."""
        for timer in (self._send_timer, self._receive_timer):
            if timer is not None:
                timer.cancel()

    def _await_sending(self) -> None:
        output = self._connection.output
        self._said_bytes = output.sent_bytes + output.waiting_bytes
        self._send_timer = self._connection.broker.timers.after(self._half_ms, self._half_passed)

    def _half_passed(self) -> None:
        # What waits will be heard of when the client takes it; a heart-beat behind it would be heard of no sooner.
        output = self._connection.output
        if not output.waiting_bytes and self._said_bytes == output.sent_bytes:
            output.send(HEART_BEAT)
        self._await_sending()

    def _await_receiving(self, delay_ms: int) -> None:
        self._receive_timer = self._connection.broker.timers.after(delay_ms, self._look_whether_alive)

    def _look_whether_alive(self) -> None:
        connection = self._connection
        silent_ms = connection.broker.clock.monotonic_ms() - connection.last_heard_ms
        left_ms = self._silence_ms_max - silent_ms
        if left_ms > 0 or connection.is_reading_paused:  # who is not read cannot be heard
            self._await_receiving(max(left_ms, 1000))
        else:
            connection.lost(f"missed heart-beats from client, timeout: {self._silence_ms_max // 1000}s")
