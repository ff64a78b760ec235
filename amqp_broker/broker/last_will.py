"""The will of a client: a message to publish when its connection ends without DISCONNECT (MQTT 5.0, 3.1.2.5).

It is kept as a message of AMQP. Not here: when it is said (``client_sessions.py``), and how (``wills.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amqp_broker.broker.ports import Authorizer


class LastWill:
    """One client's will.

    Args:
        user_name: who publishes it.
        exchange: where to.
        routing_key: likewise.
        header: its content header.
        body: not more than a client can say with its connection.
        topic: under which it is retained; empty if it is not.
        delay_s: how long it waits for the client to come back.
        who: the user; None while the journal is read.
    """

    __slots__ = ("body", "delay_s", "exchange", "header", "routing_key", "topic", "user_name", "who")

    def __init__(
        self,
        user_name: str,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        topic: str,
        delay_s: int,
        who: Authorizer | None,
    ) -> None:
        self.user_name = user_name
        self.exchange = exchange
        self.routing_key = routing_key
        self.header = header
        self.body = body
        self.topic = topic
        self.delay_s = delay_s
        self.who = who
