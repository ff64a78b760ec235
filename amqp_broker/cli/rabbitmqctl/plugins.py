"""The commands of rabbitmq-plugins: most of what RabbitMQ has as a plugin is always there, the rest is a setting.

So enabling is a question whether it is there: scripts and Dockerfiles go on where it is, and are told the setting
where it has to be chosen. No broker need run. What packages bring is switched by ``amqp-broker plugins``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Report, Result, WrongUse

PLUGINS = "Plugin Management"
THERE = (
    "rabbitmq_amqp1_0",
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_delayed_message_exchange",
    "rabbitmq_federation",
    "rabbitmq_federation_management",
    "rabbitmq_federation_prometheus",
    "rabbitmq_management",
    "rabbitmq_management_agent",
    "rabbitmq_message_deduplication",
    "rabbitmq_prometheus",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
    "rabbitmq_sharding",
    "rabbitmq_shovel",
    "rabbitmq_shovel_management",
    "rabbitmq_shovel_prometheus",
    "rabbitmq_stream_management",
    "rabbitmq_tracing",
    "rabbitmq_web_dispatch",
)
# The settings that switch the others on, and the protocols of their listeners.
BY_SETTING = {
    "rabbitmq_auth_backend_http": ("auth_backends = [\"internal\", \"http\"]", None),
    "rabbitmq_auth_backend_ldap": ("auth_backends = [\"internal\", \"ldap\"]", None),
    "rabbitmq_auth_backend_oauth2": ("auth_backends = [\"internal\", \"oauth2\"]", None),
    "rabbitmq_auth_mechanism_ssl": ("tls_client_certificate", None),
    "rabbitmq_event_exchange": ("event_exchange = \"on\"", None),
    "rabbitmq_mqtt": ("protocols = [\"mqtt\"]", "mqtt"),
    "rabbitmq_peer_discovery_etcd": ("cluster", None),
    "rabbitmq_stomp": ("protocols = [\"stomp\"]", "stomp"),
    "rabbitmq_stream": ("protocols = [\"streams\"]", "streams"),
    "rabbitmq_web_mqtt": ("protocols = [\"mqtt\", \"web-sockets\"]", "web-sockets"),
    "rabbitmq_web_stomp": ("protocols = [\"stomp\", \"web-sockets\"]", "web-sockets"),
}  # fmt: skip
LEGEND = (" Configured: E = explicitly enabled; e = implicitly enabled", " | Status: * = running on {node}", " |/")


def _check_names(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in THERE and name not in BY_SETTING]
    if unknown:
        raise Failed(Code.DATA, f"The following plugins could not be found: {', '.join(unknown)}")


def _check_modes(call: Call) -> None:
    if "online" in call.options and "offline" in call.options:
        raise WrongUse("Bad argument: Cannot set both online and offline", Code.DATA)


def _listening(call: Call) -> frozenset[str] | None:
    """The protocols that the broker listens for; None where none runs."""
    try:
        return frozenset(one["protocol"] for one in call.ask("status")["ports"])
    except Failed:
        return None


def list_plugins(call: Call) -> Result:
    """All of them, and which are on; those of settings are where a broker runs that has them."""
    written = call.words[0] if call.words else ".*"
    try:
        pattern = re.compile(written)
    except re.error as error:
        raise WrongUse(f"Bad argument: {written} is no regular expression: {error}", Code.DATA) from error
    call.say(f'Listing plugins with pattern "{written}" ...')
    listening = _listening(call)
    is_only_on = not call.options.keys().isdisjoint(("enabled", "implicitly-enabled"))
    lines, entries = [], []
    for name in sorted({*THERE, *BY_SETTING}):
        is_on = name in THERE or (listening is not None and BY_SETTING[name][1] in listening)
        if not pattern.search(name) or (is_only_on and not is_on):
            continue
        entries.append({"name": name, "enabled": "enabled" if is_on else "not_enabled", "running": is_on})
        mark = ("[E*]" if listening is not None else "[E ]") if is_on else "[  ]"
        lines.append(name if "minimal" in call.options else f"{mark} {name}")
    has_legend = not call.is_quiet and "minimal" not in call.options
    legend = [line.format(node=call.node) for line in LEGEND] if has_legend else []
    return Report(
        [*legend, *lines], {"status": "running" if listening is not None else "node_down", "plugins": entries}
    )


def enable(call: Call) -> Result:
    """See that plugins are there; which need a setting is said."""
    _check_modes(call)
    names = THERE if "all" in call.options else call.words
    if not names:
        raise WrongUse("not enough arguments.")
    _check_names(names)
    listening = _listening(call) if any(name in BY_SETTING for name in names) else None
    for name in names:
        setting, protocol = BY_SETTING.get(name, ("", None))
        if setting and not (listening and protocol in listening):
            text = f"{name} is a setting here: {setting}, in the file of settings or as amqp-broker serve takes it"
            raise Failed(Code.UNAVAILABLE, text)
    call.say(f"Enabling plugins on node {call.node}:")
    said = ["The following plugins have been configured:", *(f"  {name}" for name in names)]
    return Report(
        [*([] if call.is_quiet else names), *said, "Plugin configuration unchanged."], {"enabled": list(names)}
    )


def disable(call: Call) -> Result:
    """Nothing can be done without: what may be switched off is a setting."""
    _check_modes(call)
    if not call.words and "all" not in call.options:
        raise WrongUse("not enough arguments.")
    _check_names(call.words)
    names = ", ".join(call.words) or "they"
    text = f"{names} cannot be switched off here: amqp-broker config show shows what can, as management_port = -1"
    raise Failed(Code.UNAVAILABLE, text)


def is_enabled(call: Call) -> Result:
    """Whether all that are named are on."""
    _check_modes(call)
    call.say(f"Asking node {call.node} if {_named(call.words)} enabled...")
    listening = _listening(call)
    enabled = [*THERE, *(name for name, (_, protocol) in BY_SETTING.items() if listening and protocol in listening)]
    missing = [name for name in call.words if name not in enabled]
    if missing:
        named = _named(missing)
        others = f"Enabled plugins and dependencies: {', '.join(sorted(enabled))}"
        text = f"{named[0].upper()}{named[1:]} not enabled on node {call.node}. {others}"
        raise Failed(Code.UNAVAILABLE, text)
    named = _named(call.words)
    return Report([f"{named[0].upper()}{named[1:]} enabled on node {call.node}"], {"result": "ok"})


def _named(names: Sequence[str]) -> str:
    return f"plugin {names[0]} is" if len(names) == 1 else f"plugins {', '.join(names)} are"


def directories(call: Call) -> Result:
    """Where packages are."""
    import sysconfig

    return Report([f"Plugin archives directory: {sysconfig.get_path('purelib')}"])


_MODES = {"offline": False, "online": False}
_SHOWN = {"verbose": False, "minimal": False, "enabled": False, "implicitly-enabled": False}

COMMANDS: Commands = {
    "directories": Command(PLUGINS, "[--offline] [--online]", "Shows where packages are", directories, options=_MODES),
    "disable": Command(
        PLUGINS,
        "<plugin> ... | --all [--offline] [--online]",
        "Fails: what can be switched off is a setting",
        disable,
        (0, None),
        {**_MODES, "all": False},
    ),
    "enable": Command(
        PLUGINS,
        "<plugin> ... | --all [--offline] [--online]",
        "Passes where it is there, and else names the setting",
        enable,
        (0, None),
        {**_MODES, "all": False},
    ),
    "is_enabled": Command(
        PLUGINS, "<plugin> ... [--offline] [--online]", "Fails when one is not on", is_enabled, (1, None), _MODES
    ),
    "list": Command(
        PLUGINS,
        "[pattern] [--verbose] [--minimal] [--enabled] [--implicitly-enabled]",
        "Lists plugins, and which are on",
        list_plugins,
        (0, 1),
        _SHOWN,
        {"v": "verbose", "m": "minimal", "e": "implicitly-enabled", "E": "enabled"},
    ),
    "set": Command(
        PLUGINS,
        "<plugin> ... [--offline] [--online]",
        "The same as enable",
        enable,
        (0, None),
        {**_MODES, "all": False},
    ),
}
