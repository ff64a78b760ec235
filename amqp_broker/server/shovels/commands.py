"""Commands of the control socket about shovels. Shovels are set and cleared as the parameters that they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from amqp_broker.server.control_commands import Arguments, BadRequest, Command, Controlled, List
from amqp_broker.server.shovels.supervisor import shovels_of


def _list(controlled: Controlled, arguments: Arguments) -> Iterator[Mapping[str, Any]]:
    wanted = arguments.get("vhost")
    return (one for one in shovels_of(controlled.broker).all() if wanted in (None, one["vhost"]))


def _named(arguments: Arguments) -> tuple[str, str]:
    virtual_host, name = arguments.get("vhost"), arguments.get("name")
    if not isinstance(virtual_host, str) or not isinstance(name, str):
        raise BadRequest("vhost and name must be texts")
    return virtual_host, name


async def pause(controlled: Controlled, arguments: Arguments) -> None:
    """Have one stop carrying."""
    _pause(controlled, arguments, is_paused=True)


async def resume(controlled: Controlled, arguments: Arguments) -> None:
    """Have one go on."""
    _pause(controlled, arguments, is_paused=False)


def _pause(controlled: Controlled, arguments: Arguments, *, is_paused: bool) -> None:
    broker, (virtual_host, name) = controlled.broker, _named(arguments)
    shovels = shovels_of(broker)
    broker.handle(lambda: shovels.pause(broker, virtual_host, name, is_paused=is_paused, who=controlled.who))


async def restart(controlled: Controlled, arguments: Arguments) -> None:
    """Have one connect anew."""
    shovels_of(controlled.broker).restart(*_named(arguments))


COMMANDS: dict[str, Command] = {"shovels.pause": pause, "shovels.resume": resume, "shovels.restart": restart}
LISTS: dict[str, List] = {"shovels.list": _list}
