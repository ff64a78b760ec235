"""The plugins that an operator has switched on or off: the file ``enabled_plugins`` in the data folder.

One object of JSON, a name to ``"on"`` or ``"off"``; what is not in it is as its kind is by default (``ON_BY_DEFAULT``).
Whoever changes it while a broker runs lets the broker do it (``plugins.py``). Loads no plugin.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from amqp_broker.broker.plugin_types import BY_SETTING, GROUPS, ON_BY_DEFAULT, PluginType, find_plugin_types
from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.explanations import json_mistake, system_reason

FILE_NAME: Final = "enabled_plugins"
_STATES: Final = {"on": True, "off": False}


class BadChoices(AdministrationError):
    """The file cannot be read or written; the text names it, the reason and the way out."""


def read_choices(folder: Path) -> dict[str, bool]:
    """What was chosen, by the plugin's name; nothing where there is no file.

    Raises:
        BadChoices: the file is not what it should be.
    """
    path = folder / FILE_NAME
    way_out = 'write it as {"NAME": "on"}, or delete it and use \'amqp-broker plugins enable NAME\''
    try:
        choices = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadChoices(f"{path} cannot be read: {system_reason(error)}: let it be read") from error
    except (ValueError, RecursionError) as error:
        raise BadChoices(f"{path} is not valid JSON: {json_mistake(error)}: {way_out}") from error
    if not isinstance(choices, dict) or not all(state in ("on", "off") for state in choices.values()):
        raise BadChoices(f"{path} is no object of names with on or off: {way_out}")
    return {name: _STATES[state] for name, state in choices.items()}


def write_choices(folder: Path, choices: Mapping[str, bool]) -> None:
    """Keep what was chosen; whoever reads sees the file before or after, and never a part.

    Raises:
        BadChoices: the system refuses it.
    """
    path = folder / FILE_NAME
    new = path.with_suffix(".new")
    states = {name: "on" if is_on else "off" for name, is_on in sorted(choices.items())}
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(json.dumps(states, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise BadChoices(f"{path} cannot be written: {system_reason(error)}: let it be written") from error


def installed_plugins() -> list[PluginType]:
    """All that installed packages bring, by kind and name; none is loaded."""
    return [plugin for kind in GROUPS for _, plugin in sorted(find_plugin_types(kind).items())]


def is_on(plugin: PluginType, choices: Mapping[str, bool]) -> bool:
    """Whether a plugin is switched on."""
    return choices.get(plugin.name, plugin.kind in ON_BY_DEFAULT)


def check_switchable(plugin: PluginType) -> None:
    """See that a plugin is one that is switched on and off by itself.

    Raises:
        AdministrationError: it is not; the text says what switches it on.
    """
    setting = BY_SETTING.get(plugin.kind)
    if setting is not None:
        raise AdministrationError(
            f"{plugin.kind} '{plugin.name}' is on where the setting {setting} names it: start the broker with that"
        )


def find_plugin(name: str) -> PluginType:
    """The installed plugin of a name.

    Raises:
        NotThere: no package brings it; the text says which name is like it.
    """
    installed = {plugin.name: plugin for plugin in installed_plugins()}
    if name not in installed:
        import difflib  # only for who has made a mistake

        near = difflib.get_close_matches(name, installed, n=1, cutoff=0.6)
        way_out = f"did you mean {near[0]}?" if near else "'amqp-broker plugins list' shows those that are installed"
        raise NotThere(f"no installed package brings a plugin {name!r}: {way_out}")
    return installed[name]
