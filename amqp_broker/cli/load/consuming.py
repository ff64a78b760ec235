"""A consumer: it counts what comes, notes how long it was on its way, and acknowledges what one read has brought."""

from __future__ import annotations

import struct

from amqp_broker.cli.load.figures import CONSUMED, DELIVERIES, Figures
from amqp_broker.cli.load.link import BODY_FRAME, CHANNEL, HEADER_FRAME, METHOD_FRAME, BrokerRefused, Link
from amqp_broker.cli.load.plan import STAMP_BYTES, Plan

DELIVER, CANCEL = 60 << 16 | 60, 60 << 16 | 30
_ACK = struct.Struct(">BHIIQBB")
_ACK_METHOD = 60 << 16 | 80


class Consumer:
    """A consumer of the load that ``amqp-broker bench`` makes.

    Args:
        plan: what it does.
        figures: where it counts.
    """

    def __init__(self, plan: Plan, figures: Figures) -> None:
        self.link = Link(plan.address)
        self._figures = figures
        self._is_auto_ack = plan.is_auto_ack
        self.link.consume(plan.queue, no_ack=plan.is_auto_ack, prefetch=plan.prefetch)
        self._tag = 0
        self._missing_bytes = 0
        self._is_first = False

    def begin(self, now_ns: int) -> None:
        """From now on it consumes."""
        self.link.do_not_wait()

    def receive(self, now_ns: int) -> None:
        """Take what is there."""
        count = 0
        for kind, payload in self.link.frames():
            if kind == METHOD_FRAME:
                method = int.from_bytes(payload[:4], "big")
                if method == DELIVER:
                    tag_offset = 5 + payload[4]
                    self._tag = int.from_bytes(payload[tag_offset : tag_offset + 8], "big")
                elif method == CANCEL:
                    raise BrokerRefused("the broker cancelled a consumer: its queue is gone")
            elif kind == HEADER_FRAME:
                self._missing_bytes, self._is_first = int.from_bytes(payload[4:12], "big"), True
            elif kind == BODY_FRAME:
                if self._is_first:
                    self._note_time(payload, now_ns)
                self._missing_bytes -= len(payload)
                count += not self._missing_bytes
        if count:
            self._figures.add(CONSUMED, count)
            if not self._is_auto_ack:
                tag = self._tag if not self._missing_bytes else self._tag - 1
                self.link.send(_ACK.pack(1, CHANNEL, 13, _ACK_METHOD, tag, 1, 0xCE))

    def _note_time(self, payload: memoryview, now_ns: int) -> None:
        sent_ns = int.from_bytes(payload[:STAMP_BYTES], "big")
        if sent_ns <= now_ns:  # else it is somebody else's message
            self._figures.took(DELIVERIES, now_ns - sent_ns)
        self._is_first = False
