"""The plugins of one broker that runs: those that are switched on are loaded, and switched off again when asked to.

One that cannot be loaded or made is named in the log and left out; the others and the broker go on. Holds no file
(``plugin_choices.py``) and no contract: that of each kind stands where the broker asks it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.plugin_types import BY_SETTING, EXCHANGE_TYPE, OBSERVER, PluginType
from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.errors import AmqpError
from amqp_broker.logs import log_event
from amqp_broker.server.plugin_choices import (
    BadChoices,
    check_switchable,
    find_plugin,
    installed_plugins,
    is_on,
    read_choices,
    write_choices,
)

SwitchOff = Callable[[], None]


class Plugins:
    """The plugins that are on in one broker.

    Args:
        broker: whose.
        folder: its data folder, where choices are kept.
    """

    def __init__(self, broker: Broker, folder: Path) -> None:
        self._broker = broker
        self._folder = folder
        self._switched_on: dict[str, SwitchOff] = {}

    def start(self) -> None:
        """Do as the file says; to be called when the journal is read, so that exchanges of a type that is off live."""
        try:
            choices = read_choices(self._folder)
        except BadChoices as error:
            log_event(logging.ERROR, "plugins not loaded", reason=str(error))
            return
        if not choices:
            return
        installed = installed_plugins()
        for name in choices.keys() - {plugin.name for plugin in installed}:
            log_event(
                logging.ERROR,
                "plugin not found",
                plugin=name,
                way_out=f"install its package again, or 'amqp-broker plugins disable {name}'",
            )
        for plugin in installed:
            if plugin.name in choices and plugin.kind not in BY_SETTING:
                try:
                    self._apply(plugin, is_on(plugin, choices))
                except AmqpError:
                    pass  # it has been logged

    @property
    def names(self) -> list[str]:
        """Those that were switched on, without exchange types."""
        return sorted(self._switched_on)

    def switch(self, name: str, to_on: bool) -> str:
        """Switch a plugin on or off, from now on and at the next start; returns its kind.

        One whose package is gone can be switched off, which forgets it.

        Raises:
            AdministrationError: there is none, it cannot be loaded, or the file cannot be written.
        """
        choices = read_choices(self._folder)
        try:
            plugin = find_plugin(name)
        except NotThere:
            if to_on or name not in choices:
                raise
            write_choices(self._folder, {other: choice for other, choice in choices.items() if other != name})
            return "plugin"
        try:
            check_switchable(plugin)
            self._apply(plugin, to_on)
        except AmqpError as error:
            raise AdministrationError(error.explanation) from error
        write_choices(self._folder, {**choices, name: to_on})
        log_event(logging.INFO, "plugin switched on" if to_on else "plugin switched off", plugin=name, kind=plugin.kind)
        return plugin.kind

    def _apply(self, plugin: PluginType, to_on: bool) -> None:
        """Switch it on or off, if it is not so yet.

        Raises:
            AmqpError: its code fails; it is off then.
        """
        if plugin.kind == EXCHANGE_TYPE:
            types = self._broker.exchange_types
            off = types.switched_off - {plugin.name}
            if to_on:
                plugin.load()
                types.switched_off = off
            else:
                types.switched_off = off | {plugin.name}
        elif not to_on:
            switch_off = self._switched_on.pop(plugin.name, None)
            if switch_off is not None:
                switch_off()
        elif plugin.name not in self._switched_on:
            make = plugin.load()
            self._broker.driver.plugin_is_used(plugin)
            try:
                made = make(self._broker)
            except (Exception, SystemExit) as error:
                raise plugin.failed("could not be made", error) from error
            self._switched_on[plugin.name] = self._attach(plugin, made)

    def _attach(self, plugin: PluginType, made: Any) -> SwitchOff:
        broker = self._broker
        if plugin.kind == OBSERVER:
            broker.observers.add(made, of_messages=getattr(made, "of_messages", True))
            return lambda: broker.observers.remove(made)
        return broker.interceptors.add(plugin, made)
