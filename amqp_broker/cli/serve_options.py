"""The options of ``amqp-broker serve``, and reading a plain command line of them.

A start should not wait for the library that explains a command line, offers help and says what was meant; a command
line without a mistake needs none of that. Does not hold what the options mean; that is ``serve.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

# By the names of their settings; ``config`` is the file of settings.
SERVE_OPTIONS = (
    "host",
    "port",
    "data_dir",
    "config",
    "log_level",
    "log_format",
    "fsync",
    "protocols",
    "mqtt_port",
    "stomp_port",
    "web_socket_port",
    "tls_port",
    "tls_certificate",
    "tls_key",
    "tls_ca",
    "tls_client_certificate",
    "processes",
    "cluster",
    "with_etcd",
    "node_name",
    "link_host",
)
_NAMES = {"--" + name.replace("_", "-"): name for name in SERVE_OPTIONS}


def read_plain(arguments: Sequence[str]) -> dict[str, str] | None:
    """What the command line gives, by name; None where it needs more than reading: a mistake, or a call for help.

    Args:
        arguments: what follows ``serve``.
    """
    given: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        option, is_joined, value = argument.partition("=")
        name = _NAMES.get(option)
        if name is None:
            return None
        text = value if is_joined else next(rest, None)
        if text is None:
            return None
        given[name] = f"{given[name]},{text}" if name == "host" and name in given else text
    return given
