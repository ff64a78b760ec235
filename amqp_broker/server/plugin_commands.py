"""Commands of the control socket about plugins: to switch them on and off."""

from __future__ import annotations

from functools import partial
from typing import Final

from amqp_broker.broker.problems import AdministrationError
from amqp_broker.server.control_commands import Arguments, BadRequest, Command, Controlled


async def switch(to_on: bool, controlled: Controlled, arguments: Arguments) -> str:
    """Switch a plugin on or off; returns its kind."""
    name = arguments.get("name")
    if not isinstance(name, str):
        raise BadRequest("name must be a text")
    if controlled.plugins is None:
        raise AdministrationError("this broker has no plugins")
    plugins = controlled.plugins()
    return controlled.broker.handle(lambda: plugins.switch(name, to_on))


PLUGIN_COMMANDS: Final[dict[str, Command]] = {
    "plugins.enable": partial(switch, True),
    "plugins.disable": partial(switch, False),
}
