"""Management over a pair of links: declare, bind, look, purge and delete, as RabbitMQ 4's clients ask for it.

A request is a message whose subject is the method and whose ``to`` is the path, as in HTTP; the answer's subject is the
status. What a request asks for is a call of the virtual host, with the client as the one who is asked for permission.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote

from amqp_broker.broker.erlang_text import erlang_string
from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import AmqpError, LimitReached, ReplyCode
from amqp_broker.protocols.amqp10.addresses import NAME_BYTES_MAX, quote_name
from amqp_broker.protocols.amqp10.compound import Array, Map
from amqp_broker.protocols.amqp10.errors import UNAUTHORIZED_ACCESS, ProtocolError, Scope
from amqp_broker.protocols.amqp10.typed import Flag, UInt, ULong
from amqp_broker.protocols.amqp10.values import map_of, readable, table_of
from amqp_broker.session.login import Refused
from amqp_broker.wire.table import Table, encode_table

if TYPE_CHECKING:
    from amqp_broker.access.client import Client
    from amqp_broker.broker.virtual_host import VirtualHost

_STATUS: Final = {ReplyCode.NOT_FOUND: 404, ReplyCode.ACCESS_REFUSED: 403, ReplyCode.PRECONDITION_FAILED: 409}

# What is said of a new queue with status 400 by RabbitMQ, where it says 409 of all else that does not fit.
_IMPOSSIBLE_QUEUE: Final = ("invalid property '", "Invalid value for  x-stream", "Exceeded max value for x-stream")

_WRONG_PERCENT: Final = re.compile("%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)  # in a URI
_WRONG_CHARACTER: Final = re.compile(r"[^!#$%&'()*+,./0-9:;=?@A-Z_a-z~-]")  # likewise (RFC 3986, 2)

_BINDING_FIELDS: Final = ("source", "destination_queue", "destination_exchange", "binding_key", "arguments")


class Refusal(Exception):
    """A request that cannot be met.

    Args:
        status: as in HTTP.
        text: why.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Answer:
    """The answer to a request.

    Args:
        status: as in HTTP.
        body: a value of AMQP 1.0.
    """

    __slots__ = ("body", "status")

    def __init__(self, status: int, body: Any = None) -> None:
        self.status = status
        self.body = body


class Management:
    """Does what the requests of one client ask for.

    Args:
        virtual_host: where.
        client: who asks.
        node: the name of the node that has all queues.
        renew: is handed a new token of the client's.
    """

    def __init__(self, virtual_host: VirtualHost, client: Client, node: str, renew: Callable[[bytes], None]) -> None:
        self._host = virtual_host
        self._client = client
        self._node = node
        self._renew = renew

    def answer(self, method: str, target: str, body: Any) -> Answer:
        """Do what a request asks for.

        Args:
            method: PUT, GET, POST or DELETE.
            target: the path, and a query behind it.
            body: the value that came with it.

        Raises:
            QueueBusy, NotDecidedYet: it cannot be done yet.
            ProtocolError: a new token was refused.
        """
        try:
            return self._answer(method, target, body)
        except Refusal as refusal:
            return Answer(refusal.status, readable(refusal.text))
        except LimitReached as reached:
            return Answer(403, readable(reached.explanation))
        except AmqpError as error:
            return Answer(_STATUS.get(error.code, 400), readable(error.explanation))

    def _answer(self, method: str, target: str, body: Any) -> Answer:
        wrong = _WRONG_PERCENT.search(target)
        if wrong is not None:
            why = f'invalid_percent_encoding <<"{wrong.group()}">>'
            raise Refusal(400, f"failed to normalize URI '{target[:255]}': {why}")
        wrong = _WRONG_CHARACTER.search(target)
        if wrong is not None:
            found = wrong.group()
            shown = erlang_string(found) if found.isascii() else f'"{found}"'
            raise Refusal(400, f"failed to normalize URI '{target[:255]}': invalid_uri {shown}")
        path, _, query = target.partition("?")
        parts = path.split("/")[1:]
        count = len(parts)
        if count >= 2 and parts[0] == "queues":
            name = unquote(parts[1])
            if count == 2 and method == "GET":
                return Answer(200, self._described(self._queue(name)))
            if count == 2 and method == "PUT":
                return self._declare_queue(name, _map(body))
            if count == 2 and method == "DELETE":
                return self._delete_queue(name)
            if count == 3 and parts[2] == "messages" and method == "DELETE":
                return self._purge(name)
        if count == 2 and parts[0] == "exchanges":
            name = unquote(parts[1])
            if method == "PUT":
                return self._declare_exchange(name, _map(body))
            if method == "DELETE":
                return self._delete_exchange(name)
        if parts[:1] == ["bindings"]:
            if count == 1 and method == "POST":
                return self._bind(_map(body))
            if count == 1 and method == "GET":
                return Answer(200, self._bindings(dict(parse_qsl(query, keep_blank_values=True))))
            if count == 2 and method == "DELETE":
                return self._unbind(parts[1])
        if parts == ["auth", "tokens"] and method == "PUT":
            return self._renew_token(body)
        raise Refusal(400, f"there is no {method[:20]} {path[:255]}")

    # --- the client

    def _renew_token(self, body: Any) -> Answer:
        """Go on with another token; without that the connection ends when the one it has expires."""
        if type(body) is not bytes:
            raise Refusal(400, "the body of this request is binary")
        try:
            self._renew(body)
        except (Refused, AmqpError) as refused:
            text = f"credential update failed: {refused}"
            raise ProtocolError(UNAUTHORIZED_ACCESS, text, Scope.CONNECTION) from refused
        return Answer(204)

    # --- queues

    def _queue(self, name: str) -> Queue:
        queue = self._host.queues.get(name)
        if queue is None:
            raise Refusal(404, f"queue '{name}' in vhost '{self._host.name}' not found")
        return queue

    def _described(self, queue: Queue) -> Map:
        queue.be_current()
        pairs: list[tuple[Any, Any]] = [
            ("leader", self._node),
            ("replicas", Array(b"\xb1", [self._node])),
            ("message_count", ULong(queue.ready_count)),
            ("consumer_count", UInt(len(queue.consumers))),
            ("name", queue.name),
            ("vhost", self._host.name),
            ("durable", Flag(queue.durable)),  # rabbitmq-amqp-js-client compares them with 1, which rhea makes of those
            ("auto_delete", Flag(queue.auto_delete)),
            ("exclusive", Flag(queue.owner is not None)),
            ("type", queue.arguments.queue_type),
            ("arguments", map_of(queue.told_arguments(), is_symbol=False)),
        ]
        return Map(pairs)

    def _declare_queue(self, name: str, body: Map) -> Answer:
        if not name:
            raise Refusal(400, "declare queue with empty name not allowed")
        _check_name(name)
        flags = _flags(body, "queue", {"durable": True, "exclusive": False, "auto_delete": False})
        self._check_not_reserved("queue", name)
        is_there = name in self._host.queues
        try:
            queue = self._host.declare_queue(
                self._client,
                name,
                durable=flags["durable"],
                exclusive=flags["exclusive"],
                auto_delete=flags["auto_delete"],
                arguments=_arguments(body),
            )
        except AmqpError as error:
            if is_there or not error.explanation.startswith(_IMPOSSIBLE_QUEUE):
                raise
            raise Refusal(400, error.explanation) from error
        return Answer(200 if is_there else 201, self._described(queue))

    def _delete_queue(self, name: str) -> Answer:
        _check_name(name)
        queue = self._host.queues.get(name)
        if queue is not None:
            queue.check_dead_letters_left()
        count = self._host.delete_queue(self._client, name, if_unused=False, if_empty=False)
        return Answer(200, Map([("message_count", ULong(count))]))

    def _purge(self, name: str) -> Answer:
        self._client.check_read("queue", name)
        queue = self._host.queues.get(name)
        if queue is None:
            raise Refusal(400, f"no queue '{name}' in vhost '{self._host.name}'")
        queue.check_access(self._client)
        try:
            count, _ = queue.purge()  # it is empty at once; what is left to be done is nobody's to wait for
        except AmqpError as error:
            if error.code is not ReplyCode.NOT_IMPLEMENTED:
                raise
            raise Refusal(400, f"purge not supported by queue '{name}' in vhost '{self._host.name}'") from error
        return Answer(200, Map([("message_count", ULong(count))]))

    # --- exchanges

    def _declare_exchange(self, name: str, body: Map) -> Answer:
        _check_name(name)
        flags = _flags(body, "exchange", {"durable": True, "auto_delete": False, "internal": False}, "type")
        kind = "direct" if body.get("type") is None else _text(body, "type")
        is_there = name in self._host.exchanges
        if not is_there:
            self._check_not_reserved("exchange", name)
        try:
            self._host.declare_exchange(
                self._client,
                name,
                kind,
                durable=flags["durable"],
                auto_delete=flags["auto_delete"],
                internal=flags["internal"],
                arguments=_arguments(body),
            )
        except AmqpError as error:
            if is_there or error.code is not ReplyCode.PRECONDITION_FAILED:
                raise
            raise Refusal(400, error.explanation) from error  # there is nothing that it could be in conflict with
        return Answer(204)

    def _delete_exchange(self, name: str) -> Answer:
        _check_name(name)
        self._check_not_reserved("exchange", name)
        self._host.delete_exchange(self._client, name, if_unused=False)
        return Answer(204)

    def _check_not_reserved(self, kind: str, name: str) -> None:
        if name.startswith("amq."):
            raise Refusal(403, f"{kind} '{name}' in vhost '{self._host.name}' starts with reserved prefix 'amq.'")

    # --- bindings

    def _bind(self, body: Map) -> Answer:
        for field, _ in body.pairs:
            if field not in _BINDING_FIELDS:
                raise Refusal(400, f"bad binding field {str(field)[:50]}")
        kind = "queue" if body.get("destination_queue") is not None else "exchange"
        destination = _text(body, f"destination_{kind}")
        source, key = _text(body, "source"), _text(body, "binding_key")
        _check_name(source)
        _check_name(destination)
        try:
            self._host.bind(self._client, source, kind, destination, key, _arguments(body))
        except AmqpError as error:
            if error.code is ReplyCode.ACCESS_REFUSED:
                raise
            raise Refusal(400, error.explanation) from error
        return Answer(204)

    def _unbind(self, segment: str) -> Answer:
        fields: dict[str, str] = {}
        for part in segment.split(";"):
            name, _, value = part.partition("=")
            fields[name] = unquote(value)
        kind = "queue" if "dstq" in fields else "exchange"
        destination = fields.get("dstq", fields.get("dste"))
        source, key = fields.get("src"), fields.get("key")
        if not destination or not source or key is None or "args" not in fields:
            raise Refusal(400, f"bad binding path segment '{segment[:255]}'")
        self._host.check_binding(self._client, source, kind, destination, key)
        for binding in self._found(source, kind, destination):
            if binding.routing_key == key and _hash(binding.arguments) == fields["args"]:
                self._host.unbind(self._client, source, kind, destination, key, binding.arguments)
                break
        return Answer(204)

    def _bindings(self, query: dict[str, str]) -> list[Any]:
        kind = "queue" if "dstq" in query else "exchange"
        destination = query.get("dstq", query.get("dste"))
        source, key = query.get("src"), query.get("key")
        if destination is None:
            raise Refusal(400, "missing 'dste' or 'dstq' in query")
        if source is None or key is None:
            raise Refusal(400, "missing 'src' or 'key' in query")
        if not source and kind == "queue":  # of the default exchange nothing is kept, and no queue has to be there
            return [_described_binding(source, kind, destination, key, {})] if key == destination else []
        found = [one for one in self._found(source, kind, destination) if one.routing_key == key]
        return [_described_binding(source, kind, destination, key, one.arguments) for one in found]

    def _found(self, source: str, kind: str, destination: str) -> list[Binding]:
        """The bindings between two ends."""
        exchange = self._host.exchanges.get(source)
        target = (self._host.queues if kind == "queue" else self._host.exchanges).get(destination)
        if exchange is None or target is None:
            return []
        return [binding for binding in exchange.bindings.values() if binding.destination is target]


def _described_binding(source: str, kind: str, destination: str, key: str, arguments: Table) -> Map:
    names = f"src={quote_name(source)};dst{kind[0]}={quote_name(destination)};key={quote_name(key)}"
    pairs: list[tuple[Any, Any]] = [
        ("source", source),
        (f"destination_{kind}", destination),
        ("binding_key", key),
        ("arguments", map_of(arguments, is_symbol=False)),
        ("location", f"/bindings/{names};args={_hash(arguments)}"),
    ]
    return Map(pairs)


def _hash(arguments: Table) -> str:
    """What tells the arguments of bindings apart in their locations; nothing where there are none."""
    if not arguments:
        return ""
    number = binascii.crc32(encode_table(dict(sorted(arguments.items()))))
    return base64.urlsafe_b64encode(number.to_bytes(4, "big")).decode().rstrip("=")


def _map(body: Any) -> Map:
    if body is None:
        return Map([])
    if not isinstance(body, Map):
        raise Refusal(400, "the body of this request is a map")
    return body


def _flags(body: Map, kind: str, defaults: dict[str, bool], *others: str) -> dict[str, bool]:
    """The boolean fields of a declaration; there are no fields but these, arguments, and the others."""
    flags = dict(defaults)
    for key, value in body.pairs:
        if isinstance(key, str) and key in defaults and isinstance(value, bool):
            flags[key] = value
        elif key != "arguments" and key not in others:
            raise Refusal(400, f"bad {kind} property {str(key)[:50]}")
    return flags


def _text(body: Map, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise Refusal(400, f"'{name}' takes a string")
    return "".join((value, ""))


def _arguments(body: Map) -> Table:
    arguments = body.get("arguments")
    if arguments is None:
        return {}
    if not isinstance(arguments, Map):
        raise Refusal(400, "'arguments' takes a map")
    for key, _ in arguments.pairs:
        if not isinstance(key, str):
            raise Refusal(400, f"unsupported argument {str(key)[:50]}")
    return table_of(arguments)


def _check_name(name: str) -> None:
    if "\n" in name or "\r" in name:
        raise Refusal(400, f"Bad name '{name}': line feed and carriage return characters not allowed")
    if len(name.encode()) > NAME_BYTES_MAX:
        raise Refusal(400, f"Bad name '{name[:50]}...': it has more than {NAME_BYTES_MAX} bytes")
