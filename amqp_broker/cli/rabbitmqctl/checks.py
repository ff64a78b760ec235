"""The commands of rabbitmq-diagnostics that ask whether all is well, and what the node says of itself."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.node import MONITORING, alarm_texts, do_nothing, listener_line, listeners_of
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Report, Result, WrongUse

CONNECT_TIMEOUT_S = 5.0
PROTOCOLS = {"amqp091": "amqp", "amqp0.9.1": "amqp", "amqp0-9-1": "amqp", "amqps": "amqp/ssl"}
UNITS = {"b": 1, "bytes": 1, "kb": 1e3, "kib": 2**10, "mb": 1e6, "mib": 2**20, "gb": 1e9, "gib": 2**30, "tb": 1e12}
LOOPBACKS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
ONE_NODE = "Node {} seems to be the only one in a single node cluster, the check does not apply"


def _failed(call: Call, text: str, value: dict[str, Any]) -> Failed:
    return Failed(Code.UNAVAILABLE, text, heading=not call.is_quiet, value={**value, "result": "error"})


def _passed(call: Call, text: str, **value: Any) -> Report:
    return Report([] if "silent" in call.options else [text], {"node": call.node, "result": "ok", **value})


def _started(call: Call) -> bool:
    try:
        call.ask("status")
    except Failed:
        return False
    return True


def check_running(call: Call) -> Result:
    """Whether the broker serves."""
    call.say(f"Checking if RabbitMQ is running on node {call.node} ...")
    call.ask("status")
    return Report([f"RabbitMQ on node {call.node} is fully booted and running"])


def is_running(call: Call) -> Result:
    """The same, without failing."""
    call.say(f"Asking node {call.node} for its status ...")
    is_there = _started(call)
    state = "is fully booted and running" if is_there else "is not running or has not fully booted yet"
    text = f"RabbitMQ on node {call.node} {state}" + ("" if is_there else " (check with is_booting)")
    return Report([text], {"message": text, "result": is_there})


def is_booting(call: Call) -> Result:
    """Whether it is starting: who answers has started."""
    call.say(f"Asking node {call.node} for its boot status ...")
    state = "is fully booted (check with is_running), stopped or has not started booting yet"
    text = f"RabbitMQ on node {call.node} {state}"
    return Report([text], {"message": text, "result": False})


def check_alarms(call: Call, passed: str = "no alarms, local or clusterwide") -> Result:
    """Whether an alarm is raised."""
    call.say(f"Asking node {call.node} to report any local resource alarms ...")
    alarms = alarm_texts(call, call.ask("status"))
    if alarms:
        raise _failed(call, "\n".join(alarms), {"local": alarms, "global": []})
    return _passed(call, f"Node {call.node} reported {passed}")


def check_local_alarms(call: Call) -> Result:
    """The same: there is one node."""
    return check_alarms(call, "no local alarms")


def list_alarms(call: Call) -> Result:
    """The alarms."""
    call.say(f"Asking node {call.node} to report any known resource alarms ...")
    alarms = alarm_texts(call, call.ask("status"))
    return Report(
        alarms or [f"Node {call.node} reported no alarms, local or clusterwide"],
        {"alarms": alarms, "node": call.node, "result": "ok"},
    )


def list_listeners(call: Call) -> Result:
    """Where it listens."""
    call.say(f"Asking node {call.node} to report its protocol listeners ...")
    listeners = listeners_of(call, call.ask("status"))
    lines = [listener_line(one) for one in listeners]
    return Report(lines, {"listeners": listeners, "node": call.node, "result": "ok"})


def check_port_connectivity(call: Call) -> Result:
    """Whether somebody answers on every port."""
    call.say(f"Testing TCP connections to all active listeners on node {call.node} ...")
    ports = call.ask("status")["ports"]
    for one in ports:
        host = LOOPBACKS.get(one["address"], one["address"])
        try:
            socket.create_connection((host, one["port"]), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            text = f"Connection failed to port {one['port']} on node {call.node}: {error.strerror or error}"
            raise _failed(call, text, {"failures": [one["port"]]}) from error
    names = ", ".join(map(str, sorted({one["port"] for one in ports})))
    return _passed(call, f"Successfully connected to ports {names} on node {call.node}.")


def check_port_listener(call: Call) -> Result:
    """Whether it listens on a port."""
    port = call.words[0]
    if not port.isdecimal() or not int(port):
        raise WrongUse("Bad argument: Argument must be a positive integer", Code.DATA)
    call.say(f"Asking node {call.node} if there's an active listener on port {port} ...")
    listeners = listeners_of(call, call.ask("status"))
    ports = sorted({one["port"] for one in listeners})
    if int(port) in ports:
        return _passed(call, f"A listener for port {port} is running on node {call.node}.", port=int(port))
    found = f"Found listeners that use the following ports: {', '.join(map(str, ports))}"
    text = f"No listener for port {port} is active on node {call.node}. {found}"
    raise _failed(call, text, {"missing": port, "ports": ports, "listeners": listeners})


def check_protocol_listener(call: Call) -> Result:
    """Whether it listens for a protocol."""
    asked = call.words[0]
    call.say(f"Asking node {call.node} if there's an active listener for protocol {asked} ...")
    wanted, listeners = PROTOCOLS.get(asked.lower(), asked.lower()), listeners_of(call, call.ask("status"))
    spoken = sorted({one["protocol"] for one in listeners})
    if wanted in spoken:
        return _passed(call, f"A listener for protocol {wanted} is running on node {call.node}.", protocol=wanted)
    found = f"Found listeners for the following protocols: {', '.join(spoken)}"
    text = f"No listener for protocol {asked} is active on node {call.node}. {found}"
    raise _failed(call, text, {"missing": asked, "protocols": spoken, "listeners": listeners})


def check_virtual_hosts(call: Call) -> Result:
    """Whether all virtual hosts are there: who answers has them."""
    call.say(f"Checking if all vhosts are running on node {call.node} ...")
    call.ask("status")
    return _passed(call, f"Node {call.node} reported all vhosts as running")


def check_quorum(call: Call) -> Result:
    """Whether the node would be missed by quorum queues."""
    call.say(f"Checking if node {call.node} is critical for quorum of any quorum queues ...")
    call.ask("status")
    return _passed(call, ONE_NODE.format(call.node))


def await_quorum(call: Call) -> Result:
    """The same, before an upgrade: there is nobody to wait for."""
    timeout_s = call.timeout_s(120)
    call.say(f"Will wait for a quorum + 1 of nodes to be online for all quorum queues for {timeout_s:g} seconds...")
    call.ask("status")
    text = "Target node seems to be the only one in a single node cluster, the command does not apply"
    return Report([text], {"message": text, "result": "ok"})


def check_mirrors(call: Call) -> Result:
    """Whether it would be missed by mirrors, of which there are none."""
    call.say(f"Checking if node {call.node} is critical for data safety of any classic mirrored queues ...")
    call.ask("status")
    return _passed(call, ONE_NODE.format(call.node))


def memory_breakdown(call: Call) -> Result:
    """What the memory is used for; only the whole is known."""
    unit = call.options.get("unit", "gb").lower()
    if unit not in UNITS:
        raise WrongUse(f"\"unit '{unit}' is not supported. Please use one of: bytes, mb, gb\"")
    call.say(f"Reporting memory breakdown on node {call.node}...")
    used_bytes = call.ask("status")["memory"]["used_bytes"]
    line = f"other_system: {round(used_bytes / UNITS[unit], 4)} {unit} (100.0%)"
    return Report([line], {"other_system": {"bytes": used_bytes, "percentage": 100.0}})


def server_version(call: Call) -> Result:
    """The version of RabbitMQ that it behaves like."""
    call.say(f"Asking node {call.node} for its RabbitMQ version...")
    version = call.ask("status")["behaves_like"]
    return Report([version], {"result": "ok", "value": version})


def erlang_version(call: Call) -> Result:
    """What it runs on: no Erlang."""
    call.say(f"Asking node {call.node} for its Erlang/OTP version...")
    call.ask("status")
    return Report(["none: this broker is written in Python"])


def pass_without(call: Call, *, banner: str, text: str) -> Result:
    """A check of something that there is none of here."""
    call.say(banner.format(node=call.node))
    call.ask("status")
    return _passed(call, text.format(node=call.node))


def _check(summary: str, run: Any, arguments: str = "", words: tuple[int, int] = (0, 0), **more: Any) -> Command:
    return Command(MONITORING, f"{arguments} [--timeout <timeout>]".strip(), summary, run, words, **more)


COMMANDS: Commands = {
    "alarms": _check("Lists the alarms that are raised", list_alarms),
    "check_if_any_deprecated_features_are_used": _check(
        "Passes: there are none",
        partial(
            pass_without,
            banner="Checking if any deprecated features are used ...",
            text="Cluster reported no deprecated features in use",
        ),
    ),
    "check_if_cluster_has_classic_queue_mirroring_policy": _check(
        "Passes: there are no mirrors",
        partial(
            pass_without,
            banner="Checking if cluster has any classic queue mirroring policy ...",
            text="Cluster reported no policies that enable classic queue mirroring",
        ),
    ),
    "check_alarms": _check("Fails when an alarm is raised", check_alarms),
    "check_if_node_is_mirror_sync_critical": _check("Passes: there are no mirrors", check_mirrors),
    "check_if_node_is_quorum_critical": _check("Passes: there is one node", check_quorum),
    "check_local_alarms": _check("Fails when an alarm is raised", check_local_alarms),
    "check_port_connectivity": _check("Connects to every port that is listened on", check_port_connectivity),
    "check_port_listener": _check("Fails when nobody listens on a port", check_port_listener, "<port>", (1, 1)),
    "check_protocol_listener": _check(
        "Fails when nobody listens for a protocol", check_protocol_listener, "<protocol>", (1, 1)
    ),
    "check_running": _check("Fails when the broker does not serve", check_running),
    "check_virtual_hosts": _check("Fails when a virtual host is not there", check_virtual_hosts),
    "erlang_version": _check("Says that there is no Erlang", erlang_version),
    "is_booting": _check("Says whether the broker is starting", is_booting),
    "is_running": _check("Says whether the broker serves", is_running),
    "listeners": _check("Lists where the broker listens", list_listeners),
    "memory_breakdown": _check(
        "Says how much memory is used", memory_breakdown, "[--unit <unit>]", options={"unit": True}
    ),
    "server_version": _check("Says which version it behaves like", server_version),
}
BEFORE_UPGRADES: Commands = {
    "await_online_quorum_plus_one": _check("Passes: there is one node", await_quorum),
    "await_online_synchronized_mirror": _check("Passes: there are no mirrors", check_mirrors),
    "post_upgrade": _check("Has nothing to do", partial(do_nothing, banner="Executing post upgrade tasks...")),
}
