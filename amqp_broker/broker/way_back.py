"""The origin of a dead letter, and the message as it was before: its last death, undone.

``x-death`` has the last death in front (``dead_letter.py``). A message that goes back loses that entry, and where there
is no other, all that told of deaths; its exchange and routing key are again those that it died with. A time to live of
its own is not given back: it died of that, or would again. Holds no queue.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from amqp_broker.broker.message import Address, Message
from amqp_broker.wire.content import decode_properties, encode_content_header
from amqp_broker.wire.hot import encode_address
from amqp_broker.wire.table import FieldValue, Table

LAST: Final = ("reason", "queue", "exchange")
KEY_BYTES_MAX: Final = 255


class WayBack(NamedTuple):
    """The origin of a message, and the form in which it goes back there."""

    queue: str
    address: Address
    header: bytes


def way_back(message: Message) -> WayBack | None:
    """The way back to where a message last died; None where it does not tell.

    RabbitMQ's shovels publish such a message to the queue's name and leave ``x-death`` as it is, so that the next
    death counts on; here it is as if the last one had not been.
    """
    properties = decode_properties(message.header)
    headers: Table = dict(properties.headers or {})
    history = headers.get("x-death")
    if not isinstance(history, list) or not history:
        return None
    last, *earlier = history
    if not isinstance(last, dict):
        return None
    queue, exchange, keys = last.get("queue"), last.get("exchange"), last.get("routing-keys")
    key = keys[0] if isinstance(keys, list) and keys else ""
    if not isinstance(queue, str) or not isinstance(exchange, str) or not isinstance(key, str):
        return None
    if max(len(exchange.encode("utf-8", "replace")), len(key.encode("utf-8", "replace"))) > KEY_BYTES_MAX:
        return None
    _forget_last(headers, earlier)
    header = encode_content_header(len(message.body), replace(properties, headers=headers or None))
    extra = message.address.extra_routing_keys
    return WayBack(queue, Address(exchange, key, encode_address(exchange, key), extra, bool(earlier)), header)


def _forget_last(headers: Table, earlier: list[FieldValue]) -> None:
    if not earlier:
        for name in list(headers):
            if name == "x-death" or name.startswith(("x-first-death-", "x-last-death-")):
                headers.pop(name)
        return
    headers["x-death"] = earlier
    before = earlier[0]
    if "x-last-death-queue" in headers and isinstance(before, dict):
        for name in LAST:
            headers[f"x-last-death-{name}"] = before.get(name, "")
