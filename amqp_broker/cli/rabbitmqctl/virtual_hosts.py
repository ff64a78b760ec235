"""The commands on virtual hosts, their limits, policies and parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.lists import Columns, chosen_columns, shown
from amqp_broker.cli.rabbitmqctl.node import do_nothing
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Report, Result, Table, WrongUse
from amqp_broker.cli.rabbitmqctl.values import compact, read_json

HOSTS, POLICIES, PARAMETERS = "Virtual hosts", "Policies", "Parameters"
NO_PARAMETER = "Parameter does not exist"
COLUMNS: Columns = {
    "cluster_state": lambda row: {row["node"]: "running"},
    "default_queue_type": lambda row: row["default_queue_type"] or "undefined",
    **{name: lambda row, name=name: row[name] for name in ("description", "name", "tags", "tracing")},  # type: ignore[misc]
}


def list_vhosts(call: Call) -> Result:
    """The virtual hosts."""
    names = chosen_columns(call, COLUMNS, ("name",))
    call.say("Listing vhosts ...")
    return shown([{**row, "node": call.node} for row in call.ask_list("vhosts.list")], names, COLUMNS)


def add_vhost(call: Call) -> Result:
    """One more; one that is there already is as good."""
    name = call.words[0]
    if not name:
        raise WrongUse("Bad argument: vhost cannot be an empty string", Code.DATA)
    call.say(f'Adding vhost "{name}" ...')
    said: dict[str, Any] = {
        "description": call.options.get("description"),
        "tags": [tag.strip() for tag in call.options["tags"].split(",")] if "tags" in call.options else None,
        "default_queue_type": call.options.get("default-queue-type"),
    }
    is_there = Failed(Code.OK, "")
    try:
        chosen = {key: value for key, value in said.items() if value is not None}
        call.ask("vhosts.add", name=name, present=is_there, **chosen)
    except Failed as failed:
        if failed is not is_there:
            raise
    return None


def update_vhost_metadata(call: Call) -> Result:
    """What is said of a virtual host; what is not named stays."""
    name, given = call.words[0], call.options
    call.say(f'Updating metadata of vhost "{name}" ...')
    said: dict[str, Any] = {}
    if "description" in given:
        said["description"] = given["description"]
    if "tags" in given:
        said["tags"] = [tag.strip() for tag in given["tags"].split(",")]
    if "default-queue-type" in given:
        said["default_queue_type"] = given["default-queue-type"]
    if not said:
        raise WrongUse("not enough arguments.")
    missing = Failed(Code.DATA, f"Virtual host '{name}' does not exist", heading=False)
    call.ask("vhosts.describe", name=name, missing=missing, **said)
    return None


def delete_vhost(call: Call) -> Result:
    """One less, with all that is in it."""
    name = call.words[0]
    call.say(f'Deleting vhost "{name}" ...')
    missing = Failed(Code.DATA, f"Virtual host '{name}' does not exist", heading=False)
    call.ask("vhosts.delete", name=name, missing=missing)
    return None


def set_vhost_tags(call: Call) -> Result:
    """These tags and no others."""
    name, *tags = call.words
    call.say(f'Setting tags for virtual host "{name}" to [{", ".join(tags)}] ...')
    missing = Failed(Code.DATA, f"Virtual host '{name}' does not exist", heading=False)
    call.ask("vhosts.describe", name=name, tags=tags, missing=missing)
    return None


def trace(call: Call, *, is_on: bool) -> Result:
    """The firehose, on or off."""
    name, beginning, done = call.virtual_host, "Starting" if is_on else "Stopping", "enabled" if is_on else "disabled"
    call.say(f'{beginning} tracing for vhost "{name}" ...')
    call.ask("vhosts.trace", name=name, on=is_on)
    return Report([f"Trace {done} for vhost {name}"])


# --- limits


def _limits(call: Call) -> dict[str, dict[str, int]]:
    rows = call.ask_list("vhosts.list")
    names = {"max-connections": "connections_max", "max-queues": "queues_max"}
    return {row["name"]: {name: row[key] for name, key in names.items() if row[key] is not None} for row in rows}


def list_vhost_limits(call: Call) -> Result:
    """The limits of a virtual host, or of all."""
    if "global" in call.options:
        call.say("Listing limits for all vhosts ...")
        rows = [{"vhost": name, "limits": compact(limits)} for name, limits in _limits(call).items() if limits]
        return Table(("vhost", "limits"), rows)
    call.say(f'Listing limits for vhost "{call.virtual_host}" ...')
    every = _limits(call)
    if call.virtual_host not in every:
        raise Failed(Code.DATA, f"Virtual host '{call.virtual_host}' does not exist", heading=False)
    limits = every[call.virtual_host]
    return Report([compact(limits) if limits else ""])


def restart_vhost(call: Call) -> Result:
    """Nothing, if it is there: it runs as long as the broker does."""
    name = call.virtual_host
    call.say(f"Trying to restart vhost '{name}' on node '{call.node}' ...")
    if all(row["name"] != name for row in call.ask_list("vhosts.list")):
        text = f"Failed to start vhost '{name}' on node '{call.node}'Reason: {{:no_such_vhost, \"{name}\"}}"
        raise Failed(Code.SOFTWARE, text)
    return Report([f"Vhost '{name}' is already running on node '{call.node}'"])


def set_vhost_limits(call: Call) -> Result:
    """These limits and no others."""
    call.say(f'Setting vhost limits to "{call.words[0]}" for vhost "{call.virtual_host}" ...')
    _set_limits(call, read_json(call.words[0]))
    return None


def clear_vhost_limits(call: Call) -> Result:
    """None any more."""
    call.say(f'Clearing vhost "{call.virtual_host}" limits ...')
    _set_limits(call, {})
    return None


def _set_limits(call: Call, value: object) -> None:
    call.ask("parameters.set", vhost=call.virtual_host, component="vhost-limits", name="limits", value=value)


# --- policies


def list_policies(call: Call, *, is_operator: bool) -> Result:
    """The policies of a virtual host."""
    what = "operator policy overrides" if is_operator else "policies"
    call.say(f'Listing {what} for vhost "{call.virtual_host}" ...')
    rows = call.ask_list("policies.list", vhost=call.virtual_host, operator=is_operator)
    columns = ("vhost", "name", "pattern", "apply-to", "definition", "priority")
    return Table(columns, [{**row, "definition": compact(row["definition"])} for row in rows])


def set_policy(call: Call, *, is_operator: bool) -> Result:
    """Create a policy, or change it."""
    name, pattern, text = call.words
    priority = call.options.get("priority", "0")
    if not priority.removeprefix("-").isdecimal():
        raise WrongUse(f"Invalid options for this command:\n--priority : {priority}")
    what = "operator policy override" if is_operator else "policy"
    about = f'"{name}" for pattern "{pattern}" to "{text}" with priority "{priority}" for vhost "{call.virtual_host}"'
    call.say(f"Setting {what} {about} ...")
    value = {
        "pattern": pattern,
        "definition": read_json(text),
        "priority": int(priority),
        "apply-to": call.options.get("apply-to", "all"),
    }
    call.ask("policies.set", vhost=call.virtual_host, name=name, value=value, operator=is_operator)
    return None


def clear_policy(call: Call, *, is_operator: bool) -> Result:
    """Delete a policy."""
    what = "operator policy" if is_operator else "policy"
    call.say(f'Clearing {what} "{call.words[0]}" on vhost "{call.virtual_host}" ...')
    missing = Failed(Code.UNAVAILABLE, NO_PARAMETER)
    call.ask("policies.clear", vhost=call.virtual_host, name=call.words[0], operator=is_operator, missing=missing)
    return None


# --- parameters


def list_parameters(call: Call) -> Result:
    """The parameters of a virtual host."""
    call.say(f'Listing runtime parameters for vhost "{call.virtual_host}" ...')
    rows = call.ask_list("parameters.list", vhost=call.virtual_host)
    return Table(("component", "name", "value"), [{**row, "value": compact(row["value"])} for row in rows])


def list_global_parameters(call: Call) -> Result:
    """The parameters of the whole broker."""
    call.say("Listing global runtime parameters ...")
    rows = [row for row in call.ask_list("parameters.list") if row["vhost"] is None]
    return Table(("name", "value"), [{**row, "value": compact(row["value"])} for row in rows])


def set_parameter(call: Call) -> Result:
    """A parameter of a virtual host."""
    component, name, text = call.words
    about = f'"{name}" for component "{component}" to "{text}" in vhost "{call.virtual_host}"'
    call.say(f"Setting runtime parameter {about} ...")
    call.ask("parameters.set", vhost=call.virtual_host, component=component, name=name, value=read_json(text))
    return None


def clear_parameter(call: Call) -> Result:
    """One less."""
    component, name = call.words
    call.say(f'Clearing runtime parameter "{name}" for component "{component}" on vhost "{call.virtual_host}" ...')
    missing = Failed(Code.UNAVAILABLE, NO_PARAMETER)
    call.ask("parameters.clear", vhost=call.virtual_host, component=component, name=name, missing=missing)
    return None


def set_global_parameter(call: Call) -> Result:
    """A parameter of the whole broker."""
    name, text = call.words
    call.say(f'Setting global runtime parameter "{name}" to "{text}" ...')
    call.ask("parameters.set", name=name, value=read_json(text))
    return None


def clear_global_parameter(call: Call) -> Result:
    """One less."""
    call.say(f'Clearing global runtime parameter "{call.words[0]}" ...')
    call.ask("parameters.clear", name=call.words[0], missing=Failed(Code.UNAVAILABLE, NO_PARAMETER))
    return None


def set_cluster_name(call: Call) -> Result:
    """Another name of the cluster."""
    call.say(f"Setting cluster name to {call.words[0]} ...")
    call.ask("parameters.set", name="cluster_name", value=call.words[0])
    return None


_HOST = "[--vhost <vhost>]"
_POLICY = f"{_HOST} [--priority <priority>] [--apply-to <apply-to>] <name> <pattern> <definition>"


def _policies(name: str, article: str, *, is_operator: bool) -> dict[str, Command]:
    def of(run: Callable[..., Result]) -> Callable[[Call], Result]:
        return partial(run, is_operator=is_operator)

    options, plural = {"priority": True, "apply-to": True}, name.replace("policy", "policies")
    several = plural.replace("_", " ")
    return {
        f"clear_{name}": Command(POLICIES, f"{_HOST} <name>", f"Deletes {article}", of(clear_policy), (1, 1)),
        f"list_{plural}": Command(
            POLICIES,
            f"{_HOST} [--no-table-headers]",
            f"Lists the {several} of a virtual host",
            of(list_policies),
        ),
        f"set_{name}": Command(POLICIES, _POLICY, f"Sets or changes {article}", of(set_policy), (3, 3), options),
    }


COMMANDS: Commands = {
    "add_vhost": Command(
        HOSTS,
        '<vhost> [--description <description> --tags "<tag1>,<tag2>" --default-queue-type <quorum|classic>]',
        "Creates a virtual host",
        add_vhost,
        (1, 1),
        {"description": True, "tags": True, "default-queue-type": True},
    ),
    "clear_vhost_limits": Command(HOSTS, _HOST, "Clears the limits of a virtual host", clear_vhost_limits),
    "delete_vhost": Command(HOSTS, "<vhost>", "Deletes a virtual host with all that is in it", delete_vhost, (1, 1)),
    "list_vhost_limits": Command(
        HOSTS, f"{_HOST} [--global]", "Shows limits of virtual hosts", list_vhost_limits, options={"global": False}
    ),
    "list_vhosts": Command(
        "Access Control",
        "[--no-table-headers] [<column> ...] [--timeout <timeout>]",
        "Lists virtual hosts",
        list_vhosts,
        (0, None),
        columns=tuple(COLUMNS),
    ),
    "reconcile_vhosts": Command(
        HOSTS, "", "Has nothing to do", partial(do_nothing, banner="Will try to reconcile virtual hosts ...")
    ),
    "restart_vhost": Command(HOSTS, _HOST, "Has nothing to do", restart_vhost),
    "set_vhost_limits": Command(HOSTS, f"{_HOST} <definition>", "Limits a virtual host", set_vhost_limits, (1, 1)),
    "set_vhost_tags": Command(HOSTS, "<vhost> <tag> [...]", "Gives a virtual host tags", set_vhost_tags, (1, None)),
    "update_vhost_metadata": Command(
        HOSTS,
        '<vhost> [--description <description>] [--tags "<tag1>,<tag2>"] [--default-queue-type <quorum|classic|stream>]',
        "Says something else of a virtual host",
        update_vhost_metadata,
        (1, 1),
        {"description": True, "tags": True, "default-queue-type": True},
    ),
    "trace_off": Command(HOSTS, _HOST, "Ends the firehose", partial(trace, is_on=False)),
    "trace_on": Command(
        HOSTS, _HOST, "Copies all messages to amq.rabbitmq.trace, until the next start", partial(trace, is_on=True)
    ),
    **_policies("policy", "a policy", is_operator=False),
    **_policies("operator_policy", "an operator policy", is_operator=True),
    "clear_global_parameter": Command(
        PARAMETERS, "<name>", "Clears a parameter of the whole broker", clear_global_parameter, (1, 1)
    ),
    "clear_parameter": Command(
        PARAMETERS, f"{_HOST} <component_name> <name>", "Clears a parameter", clear_parameter, (2, 2)
    ),
    "list_global_parameters": Command(
        PARAMETERS, "[--no-table-headers]", "Lists parameters of the whole broker", list_global_parameters
    ),
    "list_parameters": Command(
        PARAMETERS, f"{_HOST} [--no-table-headers]", "Lists parameters of a virtual host", list_parameters
    ),
    "set_global_parameter": Command(
        PARAMETERS, "<name> <value>", "Sets a parameter of the whole broker", set_global_parameter, (2, 2)
    ),
    "set_parameter": Command(
        PARAMETERS, f"{_HOST} <component_name> <name> <value>", "Sets a parameter", set_parameter, (3, 3)
    ),
    "set_cluster_name": Command(
        "Configuration and Environment", "<name>", "Sets the name of the cluster", set_cluster_name, (1, 1)
    ),
}
