"""Heartbeats, both ways: something is said where nothing else is, and who was silent for too long is given up.

Holds when, of any protocol: what a heartbeat consists of, how long is too long, and how an end looks, is the protocol's
(AMQP 0-9-1, 4.2.7; AMQP 1.0, 2.4.5; MQTT 5.0, 3.1.2.10; STOMP 1.2, "Heart-beating").
"""

from __future__ import annotations

from collections.abc import Callable

from amqp_broker.broker.timers import Timer, Timers
from amqp_broker.session.output import Output

NOTHING_COUNTS = -1  # before the first heartbeat: it is sent whatever was said before, as from RabbitMQ


class Heartbeats:
    """The heartbeats of one connection; none before ``say`` and ``expect``.

    Args:
        timers: to be woken by.
        output: of the connection.
        heard_bytes: tells how many bytes have come; None while the client is not read, and cannot be heard.
    """

    def __init__(self, timers: Timers, output: Output, heard_bytes: Callable[[], int | None]) -> None:
        self._timers = timers
        self._output = output
        self._heard_bytes = heard_bytes
        self._beat = b""
        self._beat_ms = 0
        self._said_bytes = NOTHING_COUNTS
        self._beat_timer: Timer | None = None
        self._look_ms = 0
        self._looks_max = 0
        self._silent_looks = 0
        self._last_heard_bytes: int | None = None
        self._on_silence: Callable[[], None] | None = None
        self._look_timer: Timer | None = None
        self._is_paused = False

    def say(self, beat: bytes, period_ms: int) -> None:
        """Send a heartbeat at the end of each period in which nothing else was said.

        Args:
            beat: its bytes.
            period_ms: a part of what the client may wait for; two of them may pass without a word.
        """
        self._beat, self._beat_ms = beat, period_ms
        self._said_bytes = NOTHING_COUNTS
        self._beat_timer = self._timers.after(period_ms, self._period_passed)

    def expect(self, silence_ms: int, looks: int, on_silence: Callable[[], None]) -> None:
        """Call when the client was silent for too long, once.

        Whether anything has come is looked at now and then, which costs nothing where something comes: so the silence
        is noticed up to a look later.

        Args:
            silence_ms: how long is too long.
            looks: how often is looked within it.
            on_silence: what is called.
        """
        self._look_ms, self._looks_max, self._on_silence = silence_ms // looks, looks, on_silence
        self._silent_looks = 0
        self._await_look()

    def stop(self) -> None:
        """Neither send nor expect any more."""
        self._cancel_timers()
        self._beat, self._on_silence = b"", None

    def pause(self) -> None:
        """Neither send nor expect any until ``resume``: a client in real time cannot follow a clock that jumps."""
        self._is_paused = True
        self._cancel_timers()

    def resume(self) -> None:
        """Go on after a pause, as if the client had been heard just now; does nothing without one."""
        if not self._is_paused:
            return
        self._is_paused = False
        if self._beat:
            self.say(self._beat, self._beat_ms)
        if self._on_silence is not None:
            self._silent_looks = 0
            self._await_look()

    def _cancel_timers(self) -> None:
        for timer in (self._beat_timer, self._look_timer):
            if timer is not None:
                timer.cancel()

    def _period_passed(self) -> None:
        # What waits will be heard of when the client takes it; a heartbeat behind it would be heard of no sooner.
        output = self._output
        if not output.waiting_bytes and self._said_bytes in (output.sent_bytes, NOTHING_COUNTS):
            output.send(self._beat)
        self._said_bytes = output.sent_bytes + output.waiting_bytes
        self._beat_timer = self._timers.after(self._beat_ms, self._period_passed)

    def _await_look(self) -> None:
        self._last_heard_bytes = self._heard_bytes()
        self._look_timer = self._timers.after(self._look_ms, self._look)

    def _look(self) -> None:
        heard_bytes = self._heard_bytes()
        if heard_bytes is None or heard_bytes != self._last_heard_bytes:
            self._silent_looks = 0
        else:
            self._silent_looks += 1
        if self._silent_looks < self._looks_max:
            self._await_look()
        elif self._on_silence is not None:
            self._on_silence()
