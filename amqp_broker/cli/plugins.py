"""``amqp-broker plugins``: what the packages of this environment bring, and what of it is switched on.

A broker that runs does so at once; where none runs, the choice is kept in its data folder for the next start.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from amqp_broker.broker.plugin_types import PluginType
from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG, ExitCode
from amqp_broker.cli.tables import Column
from amqp_broker.errors import AmqpError
from amqp_broker.server.plugin_choices import (
    check_switchable,
    find_plugin,
    installed_plugins,
    is_on,
    read_choices,
    write_choices,
)
from amqp_broker.settings import Settings

COLUMNS = ("kind", Column("name", is_whole=True), "state", Column("package", is_whole=True))

PluginName = Annotated[str, typer.Argument(metavar="NAME", help="The plugin's name, as 'plugins list' shows it.")]

application = typer.Typer(
    help="What the packages of this environment bring to a broker.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.callback()
def _group() -> None:
    """What the packages of this environment bring to a broker."""


@application.command("list", epilog=EPILOG)
def list_plugins(
    check: Annotated[bool, typer.Option("--check", help="Load each, and say which cannot be.")] = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
    as_json: control.Json = False,
) -> None:
    """List what installed packages bring, the plugins in the box among them, and what is switched on.

    \b
    amqp-broker plugins list
    amqp-broker plugins list --check --json
    """
    settings = _settings(data_dir, config)
    choices = _choices(Path(settings.data_dir))
    for one in settings.auth_backends:
        choices |= dict.fromkeys(one.split("/"), True)
    for one in settings.plugin_protocols:
        choices[one.partition(":")[0]] = True
    rows = [_row(plugin, choices, check) for plugin in installed_plugins()]
    tables.show(rows, (*COLUMNS, "check") if check else COLUMNS, as_json)


@application.command("enable", epilog=EPILOG)
def enable(
    name: PluginName,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
    as_json: control.Json = False,
) -> None:
    """Switch a plugin on: at once where the broker runs, and at each start.

    \b
    amqp-broker plugins enable timestamp
    """
    _switch(name, True, data_dir, config, as_json)


@application.command("disable", epilog=EPILOG)
def disable(
    name: PluginName,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
    as_json: control.Json = False,
) -> None:
    """Switch a plugin off. Exchanges of a type that is switched off stay; nobody can declare others.

    \b
    amqp-broker plugins disable x-random
    """
    _switch(name, False, data_dir, config, as_json)


def _switch(name: str, to_on: bool, data_dir: str | None, config: Path | None, as_json: bool) -> None:
    folder = Path(_settings(data_dir, config).data_dir)
    command = "plugins.enable" if to_on else "plugins.disable"
    try:
        *_, last = control.exchange(str(folder), command, {"name": name})
        kind, when = str(last["result"]), "now"
    except control.NotLetIn as error:
        options.fail(ExitCode.CANNOT_USE_DATA_FOLDER, str(error))
    except control.NotReached:
        kind, when = _switch_without_broker(folder, name, to_on), "next start"
    except control.Refused as error:
        options.fail(ExitCode.REFUSED, str(error))
    state = "on" if to_on else "off"
    text = f"{kind} {name} is {state}" + ("" if when == "now" else " from the broker's next start")
    control.tell(text, {"name": name, "kind": kind, "state": state, "from": when}, as_json)


def _switch_without_broker(folder: Path, name: str, to_on: bool) -> str:
    """Keep a choice for the next start; returns the kind of the plugin."""
    choices = _choices(folder)
    try:
        plugin = find_plugin(name)
        check_switchable(plugin)
        if to_on:
            plugin.load()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_choices(folder, {**choices, name: to_on})
    except NotThere as error:
        if not to_on and choices.pop(name, None) is not None:
            write_choices(folder, choices)  # its package is gone
            return "plugin"
        _refuse(error)
    except (AdministrationError, AmqpError) as error:
        _refuse(error)
    except OSError as error:
        options.fail(ExitCode.CANNOT_USE_DATA_FOLDER, f"{folder} cannot be made: {error.strerror}: choose another")
    return plugin.kind


def _refuse(error: AdministrationError | AmqpError) -> NoReturn:
    options.fail(ExitCode.REFUSED, error.explanation if isinstance(error, AmqpError) else str(error))


def _settings(data_dir: str | None, config: Path | None) -> Settings:
    return options.configure(None, None, data_dir, config, None, None).settings


def _choices(folder: Path) -> dict[str, bool]:
    try:
        return read_choices(folder)
    except AdministrationError as error:
        options.fail(ExitCode.REFUSED, str(error))


def _row(plugin: PluginType, choices: Mapping[str, bool], check: bool) -> dict[str, str]:
    row = {"kind": plugin.kind, "name": plugin.name, "package": plugin.package, "module": plugin.value}
    row["state"] = "on" if is_on(plugin, choices) else "off"
    if check:
        row["check"] = _check(plugin)
    return row


def _check(plugin: PluginType) -> str:
    try:
        plugin.load()
    except AmqpError as error:
        return error.explanation
    return "loads"
