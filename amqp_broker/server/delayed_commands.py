"""What can be asked for on the control socket about delayed messages: to list, search and cancel them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from amqp_broker.broker.delayed.holder import Holder
from amqp_broker.broker.delayed.looking import LIMIT_MAX, DelayedInfo, DelayedLook, cancel_by_id
from amqp_broker.broker.message_filter import MessageFilter, UnknownProperty, make_filter
from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.logs import log_event
from amqp_broker.server.control_commands import Arguments, BadRequest, Command, Controlled
from amqp_broker.server.walks import walk

EMPTY: DelayedInfo = {"held": 0, "looked_at": 0, "next": None, "messages": []}


async def look(controlled: Controlled, arguments: Arguments) -> DelayedInfo:
    """What an exchange holds, as far as one look goes: all of it or what a filter finds."""
    holder, wanted = _holder(controlled, arguments), _filter(arguments)
    if holder is None:
        return EMPTY
    return await _walked(controlled, holder, wanted, arguments, cancels=False)


async def cancel(controlled: Controlled, arguments: Arguments) -> dict[str, Any]:
    """Cancel messages by their ids, or those that a filter finds as far as one look goes."""
    holder, wanted = _holder(controlled, arguments), _filter(arguments)
    ids = _texts(arguments, "ids")
    if bool(ids) is not wanted.is_any:
        raise AdministrationError("what is cancelled is named by ids or by what to look for, one of the two")
    if holder is None:
        cancelled, end = list[str](), None
    elif ids:
        cancelled, end = controlled.broker.handle(lambda: cancel_by_id(holder, ids)), None
    else:
        seen = await _walked(controlled, holder, wanted, arguments, cancels=True)
        cancelled, end = [message["id"] for message in seen["messages"]], seen["next"]
    names = {"exchange": _text(arguments, "exchange"), "vhost": _text(arguments, "vhost")}
    if cancelled:
        log_event(logging.INFO, "delayed messages cancelled", **names, messages=len(cancelled), who=controlled.who)
    return {**names, "cancelled": cancelled, "next": end}


async def _walked(
    controlled: Controlled, holder: Holder, wanted: MessageFilter, arguments: Arguments, *, cancels: bool
) -> DelayedInfo:
    limit = arguments.get("limit", LIMIT_MAX)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise BadRequest("limit must be a number, 1 or more")
    looking = DelayedLook(holder, wanted, limit=limit, after=_text(arguments, "after", ""), cancels=cancels)
    await walk(controlled.broker, looking.steps())
    return looking.seen()


def _holder(controlled: Controlled, arguments: Arguments) -> Holder | None:
    """What the exchange holds; None when it never held anything."""
    name = _text(arguments, "exchange")
    virtual_host = controlled.administration.virtual_host(_text(arguments, "vhost"))
    exchange = virtual_host.exchanges.get(name)
    if exchange is None:
        raise NotThere(f"there is no exchange '{name}' in virtual host '{virtual_host.name}'")
    if exchange.holder is None and not exchange.is_delaying:
        raise AdministrationError(
            f"exchange '{name}' in virtual host '{virtual_host.name}' does not hold messages back: it is not of type "
            "x-delayed-message, and has neither the argument x-delayed-exchange nor a policy with delayed-message"
        )
    return exchange.holder if isinstance(exchange.holder, Holder) else None


def _filter(arguments: Arguments) -> MessageFilter:
    try:
        return make_filter(
            None,
            None if arguments.get("routing_key") is None else _text(arguments, "routing_key"),
            _text(arguments, "text", ""),
            *(_mapping(arguments, name) for name in ("headers", "properties", "json")),
        )
    except UnknownProperty as error:
        raise AdministrationError(str(error)) from error


def _text(arguments: Arguments, name: str, default: str | None = None) -> str:
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    return value


def _texts(arguments: Arguments, name: str) -> list[str]:
    value = arguments.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadRequest(f"{name} must be a list of texts")
    return value


def _mapping(arguments: Arguments, name: str) -> Mapping[str, str]:
    value = arguments.get(name, {})
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise BadRequest(f"{name} must be an object of texts")
    return value


DELAYED_COMMANDS: Final[dict[str, Command]] = {"delayed.look": look, "delayed.cancel": cancel}
