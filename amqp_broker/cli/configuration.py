"""The sources of the settings: command line, environment, a TOML file, RabbitMQ's own variables, defaults.

The earlier in that list, the stronger. Holds reading and checking them, and who set what. Does not hold which settings
there are; that is ``settings.py``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from amqp_broker.settings import DESCRIPTIONS, Description, LogFormat, SettingError, Settings, split_list
from amqp_broker.settings_without_effect import without_effect

ENVIRONMENT_PREFIX = "AMQP_BROKER_"
CONFIG_VARIABLE = ENVIRONMENT_PREFIX + "CONFIG"

# RabbitMQ's container image takes these; so do we, below our own.
RABBITMQ_VARIABLES = {
    "RABBITMQ_DEFAULT_USER": "default_user",
    "RABBITMQ_DEFAULT_PASS": "default_password",
    "RABBITMQ_DEFAULT_VHOST": "default_virtual_host",
}

# Kubernetes sets AMQP_BROKER_PORT=tcp://10.0.0.1:5672 in every pod beside a service that is called amqp-broker.
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://")

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")


class ConfigurationError(Exception):
    """A setting cannot be taken; the text, one line, names it, where it stands, and the way out."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, and for each of them by name who set it, in words."""

    settings: Settings
    origins: Mapping[str, str]


def environment_name(setting: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + setting.upper()


def option_name(setting: str) -> str:
    """The command line option of a setting that has one."""
    return "--" + setting.replace("_", "-")


def load(
    command_line: Mapping[str, str | None],
    config_file: Path | None,
    environment: Mapping[str, str],
    *,
    is_served: bool = True,
) -> Configuration:
    """Gather the settings from everywhere.

    Args:
        command_line: texts by setting; None where nothing was given.
        config_file: the TOML file; when left out, the one that ``AMQP_BROKER_CONFIG`` names, if any.
        environment: the environment variables.
        is_served: whether a broker is served with them; else what would change nothing there is no mistake.

    Raises:
        ConfigurationError: a key is unknown, a value is wrong or would change nothing, the file cannot be read.
    """
    values: dict[str, object] = {}
    origins = dict.fromkeys(DESCRIPTIONS, "default")

    def take(name: str, value: object, origin: str) -> None:
        values[name] = value
        origins[name] = origin

    for variable, name in RABBITMQ_VARIABLES.items():
        if environment.get(variable):  # an empty one counts as not set, as in RabbitMQ
            take(name, _from_text(name, environment[variable], variable), f"environment {variable}")
    if config_file is None and environment.get(CONFIG_VARIABLE):
        config_file = Path(environment[CONFIG_VARIABLE])
    if config_file is not None:
        for name, value in _read_file(config_file).items():
            take(name, value, f"file {config_file}")
    for variable, name in _settings_in(environment).items():
        take(name, _from_text(name, environment[variable], variable), f"environment {variable}")
    for name, text in command_line.items():
        if text is not None:
            take(name, _from_text(name, text, option_name(name)), f"command line {option_name(name)}")

    values["data_dir"] = _absolute_data_folder(str(values.get("data_dir") or ""), environment, origins["data_dir"])
    try:
        settings = Settings(**values)  # type: ignore[arg-type]  # each was checked by its name
    except SettingError as error:  # what a list holds is checked as a whole
        raise ConfigurationError(str(error)) from error
    for name, reason in without_effect(settings) if is_served else ():
        raise ConfigurationError(f"{name} ({origins[name]}) has no effect: {reason}")
    return Configuration(settings, origins)


def wanted_log_format(text: str | None, config_file: Path | None, environment: Mapping[str, str]) -> LogFormat:
    """The format of log lines that was asked for where the settings as a whole cannot be taken.

    Args:
        text: as the command line gives it.
        config_file: as for ``load``.
        environment: the environment variables.
    """
    given: object = text or environment.get(environment_name("log_format"))
    if config_file is None and environment.get(CONFIG_VARIABLE):
        config_file = Path(environment[CONFIG_VARIABLE])
    if not given and config_file is not None:
        from amqp_broker.cli.config_file import BadConfigFile, read_config_file

        with suppress(BadConfigFile):
            given = read_config_file(config_file).get("log_format")
    return "json" if given == "json" else "text"


def _absolute_data_folder(given: str, environment: Mapping[str, str], origin: str) -> str:
    try:
        return str(Path(given or default_data_folder(sys.platform, environment)).expanduser().absolute())
    except (RuntimeError, OSError) as error:  # no such user, a user without a home, a working directory that is gone
        folder = f"data folder {given!r} ({origin})" if given else "the user's state folder"
        reason = error.strerror if isinstance(error, OSError) else "there is no such user, or no home folder"
        raise ConfigurationError(f"{folder} cannot be found: {reason}: name another with --data-dir") from error


def default_data_folder(platform: str, environment: Mapping[str, str]) -> Path:
    """The user's folder for state, as the platform names it, with one of our own in it.

    Args:
        platform: as ``sys.platform`` says it.
        environment: the environment variables.
    """
    home = Path(environment.get("HOME") or Path.home())
    if platform == "win32":
        base = environment.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = environment.get("XDG_STATE_HOME") or home / ".local" / "state"
    return Path(base) / "amqp-broker"


def _read_file(path: Path) -> dict[str, object]:
    from amqp_broker.cli.config_file import (  # a start without a file need not pay for it
        BadConfigFile,
        read_config_file,
    )

    try:
        document = read_config_file(path)
    except BadConfigFile as error:
        raise ConfigurationError(str(error)) from error
    return {_known(name, path): _from_toml(name, value, path) for name, value in document.items()}


def _known(name: str, path: Path) -> str:
    if name in DESCRIPTIONS:
        return name
    from amqp_broker.cli.config_file import RABBITMQ_KEYS

    near = RABBITMQ_KEYS.get(name) or _nearest(name, 0.6)
    way_out = f"did you mean {near}?" if near else "'amqp-broker config show' lists the settings"
    raise ConfigurationError(f"config file {path} has an unknown setting {name!r}: {way_out}")


def _settings_in(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that set something, with the name of the setting. A misspelt one is refused, others are ignored."""
    found = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name == "port" and _KUBERNETES_PORT.match(value):
            continue
        if name in DESCRIPTIONS:
            found[variable] = name
        elif near := _slip_of(name):
            raise ConfigurationError(
                f"environment variable {variable} sets nothing: did you mean {environment_name(near)}?"
            )
    return found


def _slip_of(name: str) -> str | None:
    """The setting that was meant, where the name looks like a slip of the finger: most are in the middle of a word.

    Anything less alike, such as AMQP_BROKER_URL or AMQP_BROKER_VHOST, is likely to be an application's own.
    """
    near = _nearest(name, 0.75)
    return near if near and near[:1] == name[:1] and abs(len(near) - len(name)) <= 2 else None


def _nearest(name: str, likeness: float) -> str | None:
    import difflib  # here, because a start without a mistake should not pay for it

    found = difflib.get_close_matches(name.lower().replace("-", "_"), DESCRIPTIONS, n=1, cutoff=likeness)
    return found[0] if found else None


def _from_text(name: str, text: str, where: str) -> object:
    """A value as the command line and the environment give it."""
    description = DESCRIPTIONS[name]
    value: object = text
    if description.is_list:
        value = split_list(text)
    elif description.kind is int and _WHOLE_NUMBER.fullmatch(text):
        value = int(text)
    return _checked(description, value, where, text)


def _from_toml(name: str, value: object, path: Path) -> object:
    description = DESCRIPTIONS[name]
    given = value
    if description.is_list:
        value = split_list(value) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
    return _checked(description, value, f"{name} in config file {path}", given)


def _checked(description: Description, value: object, where: str, given: object) -> object:
    if any("\0" in text for text in (value if isinstance(value, tuple) else (value,)) if isinstance(text, str)):
        raise ConfigurationError(f"{where} takes {description.takes}, and none with a null character: take it out")
    if not description.accepts(value):
        but = "" if description.is_secret else f", not {given!r}"
        raise ConfigurationError(f"{where} takes {description.takes}{but}")
    return value
