"""Messages published and got by HTTP: for a person who tries something, not for programs."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from amqp_broker.access.client import Client
from amqp_broker.broker.counters import AMQP091, Counts
from amqp_broker.broker.json_values import json_ready, json_ready_table
from amqp_broker.broker.message import Message, digest_of
from amqp_broker.broker.observer import Settlement
from amqp_broker.broker.publishing import REFUSED, UNROUTED
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.errors import AmqpError, ReplyCode, precondition_failed
from amqp_broker.management.api.exchanges import exchange_name
from amqp_broker.management.api.fields import need, short, text, whole
from amqp_broker.management.api.lists import answer_list
from amqp_broker.management.http.call import REFUSED as REFUSED_CODES
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import (
    Answer,
    HttpError,
    answer_json,
    bad_request,
    not_authorised,
)
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.http_channel import HttpChannel, HttpConnection
from amqp_broker.management.slices import Slices
from amqp_broker.server.changes import until_kept
from amqp_broker.session.settling import count_settled
from amqp_broker.wire.content import Properties, decode_properties, encode_content_header
from amqp_broker.wire.errors import WireError

NUMBERS = ("delivery_mode", "priority", "timestamp")
PROPERTIES = tuple(one.name for one in fields(Properties))
GET_MAX = 10_000
GET_BYTES_MAX = 64_000_000
SETTLEMENTS = {
    "ack_requeue_true": Settlement.REQUEUED,
    "ack_requeue_false": Settlement.ACKNOWLEDGED,
    "reject_requeue_true": Settlement.REQUEUED,
    "reject_requeue_false": Settlement.REJECTED,
}


# --- in


async def publish(call: Call) -> Answer:
    """Publish a message, and say whether a queue has taken it, as soon as it is kept."""
    host, name, body = call.virtual_host(), exchange_name(call), call.body()
    need(body, "properties", "routing_key", "payload", "payload_encoding", separator=",\n ")
    routing_key, payload = short(text(body, "routing_key")), _payload(body)
    header = _header(len(payload), _properties(body["properties"]))
    outcome = await call.change(_publishing(call, host, name, routing_key, header, payload))
    if outcome == REFUSED:
        raise bad_request("the queue has refused the message")
    await until_kept(call.broker, call.broker.durability.position_of_duplicates if outcome == UNROUTED else outcome)
    return answer_json({"routed": outcome != UNROUTED})


def _publishing(
    call: Call, host: VirtualHost, name: str, routing_key: str, header: bytes, payload: bytes
) -> Callable[[], int]:
    client, broker = call.client(host), call.broker
    size_bytes_max = broker.settings.message_size_bytes_max or broker.behaviour.message_size_bytes_max

    def publish_it() -> int:
        try:
            if len(payload) > size_bytes_max:
                raise precondition_failed("message size is larger than configured max size")
            exchange = host.ingress.exchange_for(client, name, routing_key)
            digest = digest_of(header)
            user = client.user
            if digest.user_id not in (None, user.name) and "impersonator" not in user.tags:
                claim = f"user_id property set to '{digest.user_id}'"
                raise precondition_failed(f"{claim} but authenticated user was '{user.name}'")
            host.ingress.check_copies(client, exchange, digest)
            channel = _channel(call, host)
            outcome = host.ingress.publish_of(user.name, exchange, routing_key, header, payload, channel)
        except AmqpError as error:
            if error.code in REFUSED_CODES:
                raise
            raise bad_request(f"{int(error.code)} {error.reply_text}") from error
        counts = host.counts_of_ended.of(AMQP091)
        counts.published += 1
        if call.broker.message_sizes.are_counted:
            call.broker.message_sizes.note(AMQP091, len(payload))
        if outcome == UNROUTED:
            counts.returned += 1
        if outcome != REFUSED:
            counts.confirmed += 1
        return outcome

    return publish_it


def _channel(call: Call, host: VirtualHost) -> HttpChannel:
    """What stands for the request, to those who look on."""
    return HttpChannel(HttpConnection(call.peer, call.user.name, host.name))


def _payload(body: dict[str, Any]) -> bytes:
    payload, encoding = text(body, "payload"), body["payload_encoding"]
    if encoding == "string":
        return payload.encode("utf-8", "surrogateescape")
    if encoding != "base64":
        raise bad_request(["unsupported_encoding", encoding])
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_request(["not_base64", payload]) from error


def _properties(given: object) -> Properties:
    if not isinstance(given, dict):
        raise bad_request("properties must be an object")
    known: dict[str, Any] = {}
    for name, value in given.items():
        if name not in PROPERTIES:
            continue
        if name == "headers":
            if not isinstance(value, dict):
                raise bad_request("headers must be an object")
            _check_no_null(value)
        elif name in NUMBERS:
            if not isinstance(value, int) or isinstance(value, bool):
                raise bad_request(["not_int", name])
        elif not isinstance(value, str):
            raise bad_request(["not_string", name])
        known[name] = value
    return Properties(**known)


def _header(size_bytes: int, properties: Properties) -> bytes:
    try:
        return encode_content_header(size_bytes, properties)
    except (WireError, RecursionError) as error:
        raise bad_request(f"a property cannot be had: {error}") from error


def _check_no_null(value: object) -> None:
    if value is None:
        raise bad_request("null_not_allowed")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_no_null(item)


# --- out


async def get_messages(call: Call) -> Answer:
    """Take messages out of a queue, and give them back or not."""
    host, name, body = call.virtual_host(), call.variables["queue"], call.body()
    need(body, "count")
    need(body, "ackmode")
    need(body, "encoding")
    count, ackmode, encoding = min(whole(body, "count"), GET_MAX), text(body, "ackmode"), body["encoding"]
    truncate_bytes = whole(body, "truncate") if "truncate" in body else None
    if ackmode not in SETTLEMENTS:
        raise bad_request(f"ackmode is one of {', '.join(SETTLEMENTS)}")
    if encoding not in ("auto", "base64"):
        raise bad_request("Unsupported encoding. Please use auto or base64.")
    client = call.client(host)
    queue = _queue(host, client, name)
    channel = _channel(call, host)
    found: list[Message] = []
    rows: list[dict[str, Any]] = []
    size_bytes, slices = 0, Slices()
    try:
        while (len(found) < count or (count < 0 and not found)) and size_bytes < GET_BYTES_MAX:
            message = await call.change(lambda: _get(host, queue, channel))
            if message is None:
                break
            found.append(message)
            rows.append(_describe(queue, message, encoding, truncate_bytes))
            size_bytes += len(message.header) + len(message.body)
            await slices.take_turn()
    finally:
        if found:  # of a queue that is gone meanwhile as well: what it had handed out is to be forgotten
            await call.change(lambda: _settle(host, queue, found, ackmode, channel))
    return answer_list(rows)


def _queue(host: VirtualHost, client: Client, name: str) -> Queue:
    try:
        client.check_read("queue", name)
        queue = host.accessible_queue(client, name)
        queue.check_get()
    except AmqpError as error:
        if error.code in REFUSED_CODES:
            raise not_authorised("Access refused.") from error
        if error.code == ReplyCode.NOT_FOUND:
            raise HttpError(404, "not_found", error.reply_text) from error
        raise bad_request(f"{int(error.code)} {error.explanation}") from error
    return queue


def _counts(host: VirtualHost, queue: Queue) -> tuple[Counts, ...]:
    """Where it is counted what is got: in the queue and the virtual host; there is no channel that would."""
    return queue.counts, host.counts_of_ended.of(AMQP091)


def _get(host: VirtualHost, queue: Queue, channel: HttpChannel) -> Message | None:
    message = queue.get(False)
    for counts in _counts(host, queue):
        if message is None:
            counts.got_empty += 1
        else:
            counts.got += 1
            counts.redelivered += message.redelivered
    if message is not None and host.observers.present:
        host.observers.delivered(channel, queue, message, None, no_ack=False)
    return message


def _settle(host: VirtualHost, queue: Queue, messages: list[Message], ackmode: str, channel: HttpChannel) -> None:
    settlement = SETTLEMENTS[ackmode]
    if host.observers.present:
        host.observers.settled(channel, queue, messages, settlement)
    count_settled(settlement, len(messages), *_counts(host, queue))
    if settlement is Settlement.REQUEUED:
        returning = queue.requeueing()
        returning.add(messages)
        returning.finish()
    elif settlement is Settlement.REJECTED:
        queue.reject(messages)
    else:
        for message in messages:
            queue.acknowledge(message)


def _describe(queue: Queue, message: Message, encoding: str, truncate_bytes: int | None) -> dict[str, Any]:
    properties = decode_properties(queue.header_to_get(message))
    shown = {name: getattr(properties, name) for name in PROPERTIES}
    body = message.body if truncate_bytes is None else message.body[: max(truncate_bytes, 0)]
    payload, payload_encoding = base64.b64encode(body).decode(), "base64"
    if encoding == "auto":
        try:
            payload, payload_encoding = body.decode(), "string"
        except UnicodeDecodeError:
            pass
    return {
        "payload_bytes": len(message.body),
        "redelivered": message.redelivered,
        "exchange": message.address.exchange,
        "routing_key": message.address.routing_key,
        "message_count": queue.ready_count,
        "properties": {
            name: json_ready_table(value) if name == "headers" else json_ready(value)
            for name, value in shown.items()
            if value is not None
        },
        "payload": payload,
        "payload_encoding": payload_encoding,
    }


ENDPOINTS = (
    Endpoint("/api/exchanges/{vhost}/{exchange}/publish", {"POST": (Access.VIRTUAL_HOST, publish)}),
    Endpoint("/api/queues/{vhost}/{queue}/get", {"POST": (Access.VIRTUAL_HOST, get_messages)}),
)
