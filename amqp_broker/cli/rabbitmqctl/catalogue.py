"""The commands that each of RabbitMQ's tools has, and the help on them."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator

from amqp_broker.cli.rabbitmqctl import (
    checks,
    federation,
    following,
    limits,
    lists,
    node,
    operations,
    plugins,
    queues,
    refused,
    streams,
    users,
    virtual_hosts,
)
from amqp_broker.cli.rabbitmqctl.commands import Commands

CTL, DIAGNOSTICS, QUEUES = "rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-queues"
STREAMS, PLUGINS, UPGRADE = "rabbitmq-streams", "rabbitmq-plugins", "rabbitmq-upgrade"
SHARED = ("await_startup", "cluster_status", "list_", "ping", "status", "version", "wait", "environment")

_CTL: Commands = {
    **lists.COMMANDS,
    **users.COMMANDS,
    **virtual_hosts.COMMANDS,
    **operations.COMMANDS,
    **federation.COMMANDS,
    **node.COMMANDS,
    **limits.COMMANDS,
    **streams.COMMANDS,  # RabbitMQ's plugin brings some of them to rabbitmqctl
    **refused.commands_of(refused.OF_CTL),
}
TOOLS: dict[str, Commands] = {
    CTL: _CTL,
    DIAGNOSTICS: {
        **{name: command for name, command in _CTL.items() if name.startswith(SHARED)},
        **checks.COMMANDS,
        **following.COMMANDS,
        "node_health_check": node.COMMANDS["node_health_check"],
        "quorum_status": queues.COMMANDS["quorum_status"],
        "stream_status": streams.COMMANDS["stream_status"],
        **refused.commands_of(refused.OF_DIAGNOSTICS),
    },
    QUEUES: queues.COMMANDS,
    STREAMS: streams.COMMANDS,
    PLUGINS: plugins.COMMANDS,
    UPGRADE: {**limits.UPGRADE_COMMANDS, **checks.BEFORE_UPGRADES},
}
GENERAL = """\
General options, before or after the command:

  -n, --node NAME       the node's name in texts; --data-dir says which broker
  -p, --vhost NAME      the virtual host (default: /)
  -q, --quiet           no banners
  -s, --silent          no banners and no line of column names
  --no-table-headers    no line of column names
  -t, --timeout N       seconds, for commands that wait
  --formatter NAME      table, pretty_table, json or csv
  --data-dir FOLDER     the broker's data (default: as amqp-broker serve has it)
  --config FILE         the broker's file of settings

Exit codes: 0 done; 64 wrong use; 65 an argument that cannot be used; 67 no such
user; 69 no broker, a failed check or a refused value; 70 there is one of that
name already."""


_EXAMPLES = {
    CTL: "list_queues -p orders name messages consumers --formatter json",
    DIAGNOSTICS: "-q check_port_listener 5672",
    QUEUES: "quorum_status orders",
    STREAMS: "add_super_stream orders --partitions 3",
    PLUGINS: "is_enabled rabbitmq_management",
    UPGRADE: "drain",
}


def usage(tool: str, name: str) -> str:
    """How a command is called."""
    command = TOOLS[tool][name]
    return f"{tool} [--node <node>] [--quiet] {name} {command.arguments}".rstrip()


def usage_text(tool: str, name: str) -> str:
    """The same, below a heading."""
    return f"\x1b[1mUsage\x1b[0m\n\n{usage(tool, name)}"


def help_on(tool: str, name: str) -> str:
    """The help on a command."""
    command = TOOLS[tool][name]
    parts = [f"\n{usage_text(tool, name)}\n\n{command.summary}.\n"]
    if command.columns:
        parts.append(f"<column>\n\tmust be one of {', '.join(command.columns)}\n")
    return "\n".join([*parts, GENERAL])


def overview(tool: str) -> str:
    """The help on all commands."""
    return "\n".join(_overview(tool))


def _overview(tool: str) -> Iterator[str]:
    yield f"\n\x1b[1mUsage\x1b[0m\n\n{tool} [--node <node>] [--timeout <timeout>] [--quiet]"
    yield "    <command> [<options>]"
    yield f"\nFor example:\n\n  {_example(tool)}\n\nAvailable commands:"
    groups: dict[str, list[str]] = {}
    for name, command in TOOLS[tool].items():
        groups.setdefault(command.group, []).append(name)
    for group, names in groups.items():
        yield f"\n\x1b[1m{group}\x1b[0m:\n"
        yield from _listed(tool, group, sorted(names))
    yield f"\n{GENERAL}\n\nUse '{tool} help <command>' to learn more about a specific command"


def _listed(tool: str, group: str, names: list[str]) -> Iterator[str]:
    """The commands of a group: those that only say what to do instead need no line each."""
    if group == refused.GROUP:
        yield textwrap.fill(", ".join(names), 78, initial_indent="   ", subsequent_indent="   ")
        return
    width = max(map(len, names)) + 2
    for name in names:
        text = f"{name:<{width}}{TOOLS[tool][name].summary}"
        yield textwrap.fill(text, 78, initial_indent="   ", subsequent_indent=" " * (width + 3))


def _example(tool: str) -> str:
    return f"{tool} {_EXAMPLES[tool]}"


def not_found(tool: str, name: str) -> str:
    """There is no such command: which could have been meant, or all of them."""
    near = difflib.get_close_matches(name, TOOLS[tool], 1, 0.7)
    rest = f"Did you mean '{near[0]}'? \n" if near else overview(tool)
    return f"\nCommand '{name}' not found. \n{rest}"
