"""The commands of the control socket for delayed messages: to list and search, cancel and deliver them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from amqp_broker.broker.delayed.acting import DelayedActInfo, DelayedAction
from amqp_broker.broker.delayed.holder import Holder
from amqp_broker.broker.delayed.looking import DelayedInfo, holder_of
from amqp_broker.broker.problems import NotThere
from amqp_broker.logs import log_event
from amqp_broker.server import delayed_requests
from amqp_broker.server.control_commands import Arguments, BadRequest, Command, Controlled
from amqp_broker.server.message_commands import Teller
from amqp_broker.server.message_requests import read_filter
from amqp_broker.server.walks import walk

DONE: Final = {
    DelayedAction.CANCEL: "delayed messages cancelled",
    DelayedAction.DELIVER: "delayed messages delivered before their time",
}


async def look(controlled: Controlled, arguments: Arguments) -> DelayedInfo:
    """What an exchange holds, as far as one look goes: all of it or what a filter finds."""
    wanted = read_filter(arguments.get("filter") or {})
    return await delayed_requests.look(controlled.broker, _holder(controlled, arguments), arguments, wanted)


def _acting(action: DelayedAction) -> Callable[[Controlled, Arguments], Awaitable[DelayedActInfo]]:
    """What cancels messages, or lets them go: those that ids name or a filter finds."""

    async def act(controlled: Controlled, arguments: Arguments) -> DelayedActInfo:
        work = delayed_requests.read_acting(_holder(controlled, arguments), action, arguments)
        turn = None if controlled.tell is None else Teller(work.progress, controlled.tell).turn
        try:
            await walk(controlled.broker, work.steps(), turn, writes=work.writes)
        finally:
            info = work.progress()
            if info["done"] and not info["dry_run"]:
                place = {"exchange": info["exchange"], "vhost": info["vhost"]}
                log_event(logging.INFO, DONE[action], messages=info["done"], **place, who=controlled.who)
        return info

    return act


def _holder(controlled: Controlled, arguments: Arguments) -> Holder:
    name = _text(arguments, "exchange")
    virtual_host = controlled.administration.virtual_host(_text(arguments, "vhost"))
    exchange = virtual_host.exchanges.get(name)
    if exchange is None:
        raise NotThere(f"there is no exchange '{name}' in virtual host '{virtual_host.name}'")
    return holder_of(exchange, virtual_host.name)


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    return value


DELAYED_COMMANDS: Final[dict[str, Command]] = {
    "delayed.look": look,
    "delayed.cancel": _acting(DelayedAction.CANCEL),
    "delayed.deliver": _acting(DelayedAction.DELIVER),
}
