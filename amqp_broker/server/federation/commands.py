"""The commands of the control socket for federation. Upstreams are set and cleared as parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from amqp_broker.server.control_commands import Arguments, BadRequest, Command, Controlled, List
from amqp_broker.server.federation.supervisor import federation_of


def _list(controlled: Controlled, arguments: Arguments) -> Iterator[Mapping[str, Any]]:
    wanted = arguments.get("vhost")
    return (one for one in federation_of(controlled.broker).all() if wanted in (None, one["vhost"]))


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    return value


async def pause(controlled: Controlled, arguments: Arguments) -> None:
    """Have the links to an upstream stop."""
    _pause(controlled, arguments, is_paused=True)


async def resume(controlled: Controlled, arguments: Arguments) -> None:
    """Have them go on."""
    _pause(controlled, arguments, is_paused=False)


def _pause(controlled: Controlled, arguments: Arguments, *, is_paused: bool) -> None:
    broker, virtual_host, upstream = controlled.broker, _text(arguments, "vhost"), _text(arguments, "upstream")
    federation = federation_of(broker)
    broker.handle(lambda: federation.pause(broker, virtual_host, upstream, is_paused=is_paused, who=controlled.who))


async def restart(controlled: Controlled, arguments: Arguments) -> None:
    """Have a link connect anew."""
    federation_of(controlled.broker).restart(_text(arguments, "id"))


COMMANDS: dict[str, Command] = {
    "federation.pause": pause,
    "federation.resume": resume,
    "federation.restart": restart,
}
LISTS: dict[str, List] = {"federation.list": _list}
