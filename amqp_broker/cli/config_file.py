"""Reading the file of settings: TOML, one setting a line, and a helpful word where it is something else.

Does not hold which settings there are (``settings.py``), nor who wins over the file (``configuration.py``).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from amqp_broker.settings import DESCRIPTIONS

# What rabbitmq.conf calls it, and what it is called here. Where a unit or a form differs, the setting's text says so.
RABBITMQ_KEYS = {
    "channel_max": "channels_per_connection_max",
    "cluster_name": "cluster_name",
    "consumer_timeout": "consumer_timeout_ms",
    "default_pass": "default_password",
    "default_user": "default_user",
    "default_vhost": "default_virtual_host",
    "disk_free_limit.absolute": "disk_free_limit_bytes",
    "frame_max": "frame_size_bytes_max",
    "handshake_timeout": "handshake_timeout_ms",
    "heartbeat": "heartbeat_s",
    "listeners.ssl": "tls_port",
    "listeners.tcp": "port",
    "log.console.level": "log_level",
    "log.file.level": "log_level",
    "loopback_users": "loopback_users",
    "max_message_size": "message_size_bytes_max",
    "proxy_protocol": "proxy_protocol",
    "ssl_options.cacertfile": "tls_ca",
    "ssl_options.certfile": "tls_certificate",
    "ssl_options.keyfile": "tls_key",
    "ssl_options.verify": "tls_client_certificate",
    "vm_memory_high_watermark.absolute": "memory_high_water_bytes",
}
# These begin lines of a rabbitmq.conf and nothing of ours.
_RABBITMQ_LINE = re.compile(
    r"\s*(listeners|ssl_options|log|vm_memory_high_watermark\w*|disk_free_limit|cluster_formation|management|auth_\w+|"
    r"loopback_users|queue_master_locator|mqtt|stomp|stream|tcp_listen_options)\.[\w.-]+\s*="
)
_SIMPLE_LINE = re.compile(r"\s*([\w.-]+)\s*=\s*([^\"'\[{#\s][^\"'#]*?)\s*(#.*)?$")
_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")
_SHOW = "'amqp-broker config show' lists the settings"


class BadConfigFile(Exception):
    """The file cannot be taken; the text, one line, names the file, the place and the way out."""


def read_config_file(path: Path) -> dict[str, object]:
    """The values in the file by name, as they stand there; the names are not checked, the form is.

    Raises:
        BadConfigFile: it cannot be read, or is no TOML, or has tables.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadConfigFile(
            f"config file {path} cannot be read: {error.strerror}: name another with --config"
        ) from error
    except UnicodeDecodeError as error:
        raise BadConfigFile(f"config file {path} is not valid TOML: it is not in UTF-8: save it as UTF-8") from error
    _check_not_rabbitmqs(text, path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfigFile(f"config file {path} is not valid TOML: {_mistake(text, str(error))}") from error
    for name, value in document.items():
        if isinstance(value, dict) and name not in DESCRIPTIONS:
            raise BadConfigFile(
                f"config file {path} has a table [{name}], and settings stand in none: take the line [{name}] out"
            )
    return document


def _check_not_rabbitmqs(text: str, path: Path) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("[{") or line.startswith("{rabbit"):
            raise BadConfigFile(
                f"config file {path} is RabbitMQ's, in Erlang's form, and a TOML file is taken: {_SHOW}"
            )
        if _RABBITMQ_LINE.match(line):
            key = line.partition("=")[0].strip()
            raise BadConfigFile(f"config file {path}, line {number}: {_in_our_words(key)}")


def _in_our_words(key: str) -> str:
    setting = RABBITMQ_KEYS.get(key) or RABBITMQ_KEYS.get(key.rpartition(".")[0])
    if setting is None:
        return f"{key} is a setting of rabbitmq.conf and has no counterpart here: {_SHOW}"
    return f"{key} is a setting of rabbitmq.conf, and a TOML file is taken: here it is called {setting}"


def _mistake(text: str, reason: str) -> str:
    """What is wrong in the file, and where."""
    place = _PLACE.search(reason)
    lines = text.splitlines()
    number = int(place.group(1)) if place else len(lines)
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    simple = _SIMPLE_LINE.match(line)
    if simple is None:
        return f"line {number} is not understood: {line.strip()[:80]!r}: write it as name = value"
    name, value, _ = simple.groups()
    if name in RABBITMQ_KEYS and name not in DESCRIPTIONS:
        return f"line {number}: {_in_our_words(name)}"
    return f'line {number}: a text stands in quotes: {name} = "{value}"'
