"""Explanations of where a message would go: the walk of ``routing.py``, with what each binding on the way has to say.

Nothing is published, and nothing changes: matchers are asked to explain themselves (``Matcher.explain``), not to match.
What the queues would then do with the message (refuse it, let it expire) is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope
from amqp_broker.broker.json_values import json_ready_table
from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.table import Table, encode_table

if TYPE_CHECKING:
    from amqp_broker.broker.contents import Contents
    from amqp_broker.broker.exchanges.binding import Binding
    from amqp_broker.broker.virtual_host import VirtualHost

SLICE_BINDINGS = 200  # to be asked, some microseconds each; tests change it, and the next
BINDINGS_SHOWN_MAX = 500  # of those of one exchange that do not match


class BindingVerdict(TypedDict):
    """The verdict of a binding."""

    destination: str
    destination_type: str  # queue or exchange
    routing_key: str
    arguments: dict[str, object]
    matches: bool | None  # None: it cannot be told beforehand
    why: str


class ExchangeStep(TypedDict):
    """An exchange on the way."""

    exchange: str
    type: str
    reached: str  # how the message comes here
    internal: bool
    bindings: list[BindingVerdict]  # those that match first
    bindings_not_shown: int  # that do not match either
    matched: bool | None  # whether any did; None where that cannot be told
    alternate: str | None  # its alternate exchange
    alternate_used: str  # whether that is asked, and why, in words


def explanation_of(broker: Contents, asked: Mapping[str, Any]) -> RouteExplanation:
    """The explanation that an administrator asks for.

    Args:
        asked: ``vhost``, ``exchange``, ``key`` and ``headers``.

    Raises:
        NotThere: there is no such virtual host or exchange.
        AdministrationError: something in it cannot be.
    """
    for name in ("vhost", "exchange", "key"):
        if not isinstance(asked.get(name, ""), str):
            raise AdministrationError(f"{name} must be a text")
    headers = asked.get("headers") or {}
    if not isinstance(headers, dict):
        raise AdministrationError("headers must be an object")
    host = broker.virtual_hosts.get(asked.get("vhost", ""))
    if host is None:
        raise NotThere(f"there is no virtual host '{asked.get('vhost', '')}'")
    name = asked.get("exchange", "")
    exchange = host.exchanges.get("" if name == "amq.default" else name)
    if exchange is None:
        raise NotThere(f"there is no exchange '{name}' in virtual host '{host.name}'")
    try:
        encode_table(headers)
    except (WireError, RecursionError) as error:
        raise AdministrationError(f"headers cannot be had: {error}") from error
    keys = (asked.get("key", ""), *(key for name in ("CC", "BCC") for key in _copies(headers, name)))
    return RouteExplanation(host, exchange, keys, headers)


def _copies(headers: Table, name: str) -> list[str]:
    keys = headers.get(name)
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []


class RouteExplanation:
    """The explanation of where a message with this key and these headers would go from an exchange, and why.

    Args:
        virtual_host: where.
        exchange: what it would be published to.
        routing_keys: its routing key, and others as CC and BCC give them.
        headers: its headers.
    """

    def __init__(
        self, virtual_host: VirtualHost, exchange: Exchange, routing_keys: tuple[str, ...], headers: Table
    ) -> None:
        self._host = virtual_host
        self._exchange = exchange
        self._message = Envelope(routing_keys, b"", headers)
        self._to_do: list[tuple[Exchange, str]] = []
        self._seen: dict[Exchange, bool] = {}  # and whether it is certain that the message comes there
        self._queues: dict[str, None] = {}
        self._maybe: dict[str, None] = {}
        self._steps: list[ExchangeStep] = []

    def answer(self) -> dict[str, object]:
        """All that was found, when ``slices`` has come to its end."""
        return {
            "vhost": self._host.name,
            "exchange": self._exchange.name,
            "routing_key": self._message.routing_keys[0],
            "headers": json_ready_table(self._message.headers or {}),
            "queues": list(self._queues),
            "maybe_queues": [name for name in self._maybe if name not in self._queues],
            "routed": True if self._queues else None if self._maybe else False,
            "steps": self._steps,
        }

    def slices(self) -> Iterator[None]:
        """Find out, a slice at a time."""
        if not self._exchange.name:
            self._explain_default()
            return
        self._go_to(self._exchange, "it is published there", is_certain=True)
        while self._to_do:
            exchange, reached = self._to_do.pop(0)
            yield from self._explain(exchange, reached)

    def _explain_default(self) -> None:
        """The default exchange has no bindings of its own: every queue is bound with its name."""
        verdicts: list[BindingVerdict] = []
        for key in self._message.routing_keys:
            is_there = key in self._host.queues
            why = "the routing key is a queue's name" if is_there else f"there is no queue '{key}'"
            if is_there:
                self._queues[key] = None
            verdicts.append(
                {
                    "destination": key,
                    "destination_type": "queue",
                    "routing_key": key,
                    "arguments": {},
                    "matches": is_there,
                    "why": why,
                }
            )
        step = self._step(self._exchange, "it is published there", verdicts, 0, bool(self._queues))
        self._steps.append(step)

    def _go_to(self, exchange: Exchange, reached: str, *, is_certain: bool) -> bool:
        if exchange in self._seen:
            return False
        self._seen[exchange] = is_certain
        self._to_do.append((exchange, reached))
        return True

    def _explain(self, exchange: Exchange, reached: str) -> Iterator[None]:
        matching: list[BindingVerdict] = []
        others: list[BindingVerdict] = []
        not_shown = 0
        certain = possible = False
        for number, binding in enumerate(list(exchange.bindings.values()), 1):
            if not binding.destination.is_deleted:
                verdict = self._ask(exchange, binding)
                matches = verdict["matches"]
                certain = certain or matches is True
                possible = possible or matches is None
                if matches is not False:
                    matching.append(verdict)
                elif len(others) < BINDINGS_SHOWN_MAX:
                    others.append(verdict)
                else:
                    not_shown += 1
            if number % SLICE_BINDINGS == 0:
                yield
        matched = True if certain else None if possible else False
        self._steps.append(self._step(exchange, reached, matching + others, not_shown, matched))

    def _ask(self, exchange: Exchange, binding: Binding) -> BindingVerdict:
        verdict = exchange.matcher.explain(binding, self._message)
        destination, matches, why = binding.destination, verdict.matches, verdict.why
        is_certain = matches is True and self._seen[exchange]
        if matches is not False:
            if not isinstance(destination, Exchange):
                (self._queues if is_certain else self._maybe)[destination.name] = None
            elif not self._go_to(
                destination,
                f"{'' if is_certain else 'perhaps '}by a binding of exchange '{exchange.name}'",
                is_certain=is_certain,
            ):
                why += "; the message has been there already"
        return {
            "destination": destination.name,
            "destination_type": "exchange" if isinstance(destination, Exchange) else "queue",
            "routing_key": binding.routing_key,
            "arguments": json_ready_table(binding.arguments),
            "matches": matches,
            "why": why,
        }

    def _step(
        self,
        exchange: Exchange,
        reached: str,
        bindings: list[BindingVerdict],
        not_shown: int,
        matched: bool | None,
    ) -> ExchangeStep:
        return {
            "exchange": exchange.name,
            "type": exchange.type_name,
            "reached": reached,
            "internal": exchange.internal,
            "bindings": bindings,
            "bindings_not_shown": not_shown,
            "matched": matched,
            "alternate": exchange.alternate,
            "alternate_used": self._alternate(exchange, matched),
        }

    def _alternate(self, exchange: Exchange, matched: bool | None) -> str:
        name = exchange.alternate
        if matched is True:
            return "no: a binding matches"
        if name is None:
            return "no: the exchange has none"
        alternate = self._host.exchanges.get(name)
        if alternate is None:
            return f"no: there is no exchange '{name}'"
        is_certain = matched is False and self._seen[exchange]
        how = f"{'' if is_certain else 'perhaps '}as the alternate of exchange '{exchange.name}'"
        if not self._go_to(alternate, how, is_certain=is_certain):
            return "no: the message has been there already"
        return "yes: no binding matches" if matched is False else "perhaps: whether a binding matches is not known"
