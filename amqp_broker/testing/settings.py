"""The settings of a broker in a test: where they differ from those of one that serves, and which change nothing there.

Imports nothing dear: the pytest plugin checks the ini file's settings here before anything is collected.
"""

from __future__ import annotations

import sys
from typing import Any

from amqp_broker.settings import DESCRIPTIONS, SettingError, Settings, port_setting, split_list
from amqp_broker.settings_without_effect import without_effect

TEN_YEARS_MS = 315_360_000_000

# It does not watch the machine, which is not its own, and no client is too slow for a clock that jumps. What the caller
# gives wins.
DEFAULTS: dict[str, Any] = {
    "host": ("127.0.0.1",),
    "port": 0,
    "management_host": ("127.0.0.1",),
    "management_port": -1,
    "management_tls_port": -1,
    "metrics_port": -1,
    "handshake_timeout_ms": TEN_YEARS_MS,
    "memory_budget_bytes": sys.maxsize - 1,
    "memory_high_water_bytes": sys.maxsize,
    "resource_check_ms": TEN_YEARS_MS,
    "shutdown_grace_ms": 100,
}

_IN_MEMORY = "a broker in a test keeps everything in memory"
_SAYS_NOTHING = "a broker in a test logs to the logger amqp_broker: use pytest's log_level or caplog"
_IS_ALONE = "a broker in a test is alone"
_CLUSTER = ("cluster", "cluster_secret", "cluster_shards", "node_name", "link_host", "link_port", "lease_ttl_ms")
_CLUSTER_TLS = tuple(f"{prefix}_{what}" for prefix in ("link", "etcd") for what in ("ca", "certificate", "key"))
WITHOUT_EFFECT = {
    **dict.fromkeys(("data_dir", "disk_free_limit_bytes", "fsync_interval_ms", "segment_size_bytes"), _IN_MEMORY),
    **dict.fromkeys(("log_level", "log_format"), _SAYS_NOTHING),
    **dict.fromkeys((*_CLUSTER, "processes", *_CLUSTER_TLS), _IS_ALONE),
    "load_definitions": "a broker in a test starts empty: declare what the test needs",
}


def settings_in_tests(given: dict[str, Any]) -> Settings:
    """The settings of a broker in a test.

    Args:
        given: by name, where they differ from the defaults.

    Raises:
        SettingError: there is no such setting, it cannot have this value, or it would change nothing.
    """
    for name in given:
        if name not in DESCRIPTIONS:
            from difflib import get_close_matches

            like_it = get_close_matches(name, DESCRIPTIONS, 1)
            hint = f": did you mean {like_it[0]}?" if like_it else "; amqp-broker config show lists them"
            raise SettingError(f"there is no setting {name}{hint}")
        if name in WITHOUT_EFFECT:
            raise SettingError(f"{name} has no effect: {WITHOUT_EFFECT[name]}")
    lists = {name: _tuple(value) for name, value in given.items() if DESCRIPTIONS[name].is_list}
    protocols = lists.get("protocols")
    ports = {port_setting(name): 0 for name in protocols} if isinstance(protocols, tuple) else {}
    known = {name: port for name, port in ports.items() if name in DESCRIPTIONS}
    settings = Settings(**{**DEFAULTS, **known, **given, **lists})
    for name, reason in without_effect(settings):
        if name in given:
            raise SettingError(f"{name} has no effect: {reason}")
    return settings


def _tuple(value: object) -> Any:
    """The value of a list, which may be given as one text, with commas as on the command line."""
    return split_list(value) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
