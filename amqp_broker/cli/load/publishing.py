"""A publisher: it sends what its rate and its unconfirmed messages allow, as many as fit into one call."""

from __future__ import annotations

import struct
from collections import deque

from amqp_broker.cli.load.figures import CONFIRMED, CONFIRMS, PUBLISHED, REFUSED, Figures
from amqp_broker.cli.load.link import METHOD_FRAME, Link, message_frames
from amqp_broker.cli.load.plan import Plan

BATCH_BYTES = 65_536
BATCH_MESSAGES_MAX = 200
ACK, NACK = 60 << 16 | 80, 60 << 16 | 120
BLOCKED, UNBLOCKED = 10 << 16 | 60, 10 << 16 | 61
_STAMP = struct.Struct(">Q")


class Publisher:
    """A publisher of the load that ``amqp-broker bench`` makes.

    Args:
        plan: what it does.
        figures: where it counts.
    """

    def __init__(self, plan: Plan, figures: Figures) -> None:
        self.link = Link(plan.address)
        self._figures = figures
        self._rate_per_s = plan.rate_per_s
        self._unconfirmed_max = plan.unconfirmed_max
        if plan.unconfirmed_max:
            self.link.select_confirms()
        self._message, self._stamp_offset = message_frames(
            plan.queue, plan.size_bytes, is_persistent=plan.is_persistent
        )
        self._batch_max = max(1, min(BATCH_MESSAGES_MAX, BATCH_BYTES // len(self._message)))
        self._sent = self._confirmed = 0
        self._unconfirmed: deque[tuple[int, int]] = deque()  # the last number of a batch, and when it was sent
        self._begun_ns = 0

    def begin(self, now_ns: int) -> None:
        """From now on it publishes."""
        self.link.do_not_wait()
        self._begun_ns = now_ns

    def wait_s(self, now_ns: int) -> float | None:
        """How long until it may send; None when it must wait for the broker."""
        if self.link.has_unsent or (self._unconfirmed_max and self._sent - self._confirmed >= self._unconfirmed_max):
            return None
        if not self._rate_per_s:
            return 0.0
        due_ns = self._begun_ns + int((self._sent + 1) / self._rate_per_s * 1e9)
        return max(0.0, (due_ns - now_ns) / 1e9)

    @property
    def is_settled(self) -> bool:
        """Whether all was sent, and confirmed if it is to be."""
        return not self.link.has_unsent and (not self._unconfirmed_max or self._confirmed >= self._sent)

    def publish(self, now_ns: int) -> None:
        """Send what may be sent."""
        count = self._batch_max
        if self._unconfirmed_max:
            count = min(count, self._unconfirmed_max - (self._sent - self._confirmed))
        if self._rate_per_s:
            count = min(count, int((now_ns - self._begun_ns) / 1e9 * self._rate_per_s) - self._sent)
        if count <= 0 or self.link.has_unsent:
            return
        frames = bytearray(self._message * count)
        for offset in range(self._stamp_offset, len(frames), len(self._message)):
            _STAMP.pack_into(frames, offset, now_ns)
        self._sent += count
        self._figures.add(PUBLISHED, count)
        if self._unconfirmed_max:
            self._unconfirmed.append((self._sent, now_ns))
        self.link.send(frames)

    def receive(self, now_ns: int) -> None:
        """Hear what the broker says: confirms, most of all."""
        for kind, payload in self.link.frames():
            if kind != METHOD_FRAME:
                continue
            method = int.from_bytes(payload[:4], "big")
            if method in (ACK, NACK):
                number, is_multiple = int.from_bytes(payload[4:12], "big"), payload[12] & 1
                count = number - self._confirmed if is_multiple else 1
                self._settled(count, now_ns, is_refused=method == NACK)

    def _settled(self, count: int, now_ns: int, *, is_refused: bool) -> None:
        """Confirms of single messages may come in any order: they are taken for the oldest ones."""
        self._confirmed += count
        self._figures.add(REFUSED if is_refused else CONFIRMED, count)
        while self._unconfirmed and count > 0:
            last, sent_ns = self._unconfirmed[0]
            done = min(count, last - (self._confirmed - count))
            self._figures.took(CONFIRMS, now_ns - sent_ns, done)
            count -= done
            if last <= self._confirmed - count:
                self._unconfirmed.popleft()
