"""Commands of the control socket for a queue's messages: show, move, copy and delete them.

Whoever may open the socket may do all of it, to exclusive queues as well. What is asked for is read in
``message_requests.py``. Loaded when somebody asks.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.moving import Action
from amqp_broker.broker.peeking import Peek, PeekInfo
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.errors import AmqpError
from amqp_broker.logs import log_event
from amqp_broker.server.message_requests import BadMessageRequest, read_bounds, read_filter, read_moving
from amqp_broker.server.walks import walk

PROGRESS_S = 0.5  # how often it is told
DONE = {
    Action.MOVE: "messages moved",
    Action.COPY: "messages copied",
    Action.DELETE: "messages deleted",
    Action.REPLAY: "messages replayed",
}

Tell = Callable[[Mapping[str, Any]], Awaitable[None]]


def _name(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise BadMessageRequest(f"{name} must be a text")
    return value


async def peek(broker: Broker, arguments: Mapping[str, Any]) -> PeekInfo:
    """What is in a queue.

    Raises:
        AdministrationError: there is no such queue, or an argument makes no sense.
    """
    queue = broker.administration.queue(_name(arguments, "vhost"), _name(arguments, "name"))
    looking = Peek(broker, queue, read_bounds(queue, arguments), read_filter(arguments.get("filter") or {}))
    await walk(broker, looking.steps())
    return looking.seen()


async def act(
    name_of_action: str, broker: Broker, arguments: Mapping[str, Any], who: str, tell: Tell | None
) -> dict[str, Any]:
    """Move, copy, delete or replay messages.

    Args:
        name_of_action: ``move``, ``copy``, ``delete`` or ``replay``.
        who: wants it, for the log.
        tell: is told how far it is meanwhile.

    Raises:
        AdministrationError: there is no such queue, or an argument makes no sense.
    """
    action = Action(name_of_action)
    virtual_host, name = _name(arguments, "vhost"), _name(arguments, "name")
    queue, host = broker.administration.queue(virtual_host, name), broker.administration.virtual_host(virtual_host)
    try:
        work = read_moving(broker, host, queue, action, arguments, None)
    except AmqpError as error:
        raise AdministrationError(error.explanation) from error
    try:
        turn = None if tell is None else Teller(lambda: {**work.progress(), "sample": []}, tell).turn
        await walk(broker, work.steps(), turn, writes=work.writes)
    finally:
        done = work.progress()["done"]
        if done and not work.progress()["dry_run"]:
            log_event(logging.INFO, DONE[action], messages=done, queue=name, vhost=virtual_host, who=who)
    return {**work.progress()}


class Teller:
    """Tells how far a work is, now and then.

    Args:
        progress: how far it is.
        tell: is told.
    """

    def __init__(self, progress: Callable[[], Mapping[str, Any]], tell: Tell) -> None:
        self._progress = progress
        self._tell = tell
        self._next_s = trio.current_time() + PROGRESS_S

    async def turn(self) -> None:
        """Others have had their turn."""
        if trio.current_time() >= self._next_s:
            await self._tell(self._progress())
            self._next_s = trio.current_time() + PROGRESS_S
