"""Empty frames where nothing else is said, and the end of who is silent for too long (AMQP 1.0, 2.4.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.protocols.amqp10.errors import RESOURCE_LIMIT_EXCEEDED, ProtocolError, Scope
from amqp_broker.protocols.amqp10.frames import HEARTBEAT

if TYPE_CHECKING:
    from amqp_broker.broker.timers import Timer
    from amqp_broker.protocols.amqp10.context import ConnectionContext


class Heartbeats:
    """The heartbeats of one connection; none until ``start``."""

    def __init__(self, connection: ConnectionContext) -> None:
        self._connection = connection
        self._interval_ms = 0
        self._silence_ms_max = 0
        self._said_bytes = 0
        self._send_timer: Timer | None = None
        self._receive_timer: Timer | None = None

    def start(self, idle_ms: int, silence_ms_max: int) -> None:
        """Begin.

        Args:
            idle_ms: after which the client must have heard something; 0 for never.
            silence_ms_max: for so long the client may say nothing; 0 for ever.
        """
        if idle_ms:
            self._interval_ms = idle_ms // 3  # it passes twice at most before something is said
            self._await_sending()
        if silence_ms_max:
            self._silence_ms_max = silence_ms_max
            self._await_receiving(silence_ms_max)

    def stop(self) -> None:
        """Neither send nor expect any more."""
        for timer in (self._send_timer, self._receive_timer):
            if timer is not None:
                timer.cancel()

    def _await_sending(self) -> None:
        output = self._connection.output
        self._said_bytes = output.sent_bytes + output.waiting_bytes
        self._send_timer = self._connection.broker.timers.after(self._interval_ms, self._interval_passed)

    def _interval_passed(self) -> None:
        output = self._connection.output
        if not output.waiting_bytes and self._said_bytes == output.sent_bytes:
            output.send(HEARTBEAT)
        self._await_sending()

    def _await_receiving(self, delay_ms: int) -> None:
        self._receive_timer = self._connection.broker.timers.after(delay_ms, self._look_whether_alive)

    def _look_whether_alive(self) -> None:
        connection = self._connection
        left_ms = self._silence_ms_max - (connection.broker.clock.monotonic_ms() - connection.last_heard_ms)
        if left_ms > 0 or connection.is_reading_paused:  # who is not read cannot be heard
            self._await_receiving(max(left_ms, 1000))
            return
        text = "no frame received from client within idle timeout threshold"
        connection.fail(ProtocolError(RESOURCE_LIMIT_EXCEEDED, text, Scope.CONNECTION))
