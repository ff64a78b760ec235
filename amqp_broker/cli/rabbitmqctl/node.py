"""The commands on the node: how it is, whether it has started, and its end. There is one node, seen from here."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from amqp_broker import __version__
from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Report, Result, Table, WrongUse
from amqp_broker.feature_flags import FEATURE_FLAGS

NODES, MONITORING = "Nodes", "Monitoring, observability and health checks"
CONFIGURATION = "Configuration and Environment"
LOOK_EVERY_S = 0.1
STARTUP_TIMEOUT_S = 300.0
UNITS = {"bytes": 1.0, "mb": 1e6, "gb": 1e9}
PURPOSES = {
    ("amqp", False): ("amqp", "AMQP 0-9-1"),
    ("amqp", True): ("amqp/ssl", "AMQP 0-9-1 over TLS"),
    ("mqtt", False): ("mqtt", "MQTT"),
    ("mqtt", True): ("mqtt/ssl", "MQTT over TLS"),
    ("streams", False): ("stream", "stream"),
    ("streams", True): ("stream/ssl", "stream over TLS"),
    ("http", False): ("http", "HTTP API"),
    ("http", True): ("https", "HTTP API over TLS (HTTPS)"),
    ("metrics", False): ("http/prometheus", "Prometheus exporter API over HTTP"),
    ("metrics", True): ("https/prometheus", "Prometheus exporter API over TLS (HTTPS)"),
}


def listeners_of(call: Call, said: dict[str, Any]) -> list[dict[str, Any]]:
    """Where the broker listens, as RabbitMQ describes it."""
    found = []
    for one in said["ports"]:
        protocol, purpose = PURPOSES.get((one["protocol"], one["tls"]), (one["protocol"], one["protocol"]))
        interface = f"[{one['address']}]" if ":" in one["address"] else one["address"]
        found.append(
            {
                "interface": interface,
                "node": call.node,
                "port": one["port"],
                "protocol": protocol,
                "purpose": purpose,
            }
        )
    return found


def listener_line(one: dict[str, Any]) -> str:
    """A listener in words."""
    return f"Interface: {one['interface']}, port: {one['port']}, protocol: {one['protocol']}, purpose: {one['purpose']}"


def alarm_texts(call: Call, said: dict[str, Any]) -> list[str]:
    """The alarms that are raised, in words."""
    names = {"memory": "Memory alarm", "disk": "Free disk space alarm"}
    return [f"{names.get(name, name)} on node {call.node}" for name in said["alarms"]]


def _sections(sections: dict[str, list[str]]) -> list[str]:
    """Headings, in bold, each with its lines."""
    return "\n\n".join(
        f"\x1b[1m{title}\x1b[0m\n\n" + "\n".join(lines or ["(none)"]) for title, lines in sections.items()
    ).splitlines()


def _size_text(size_bytes: int, unit: str) -> str:
    return f"{size_bytes / UNITS[unit]:.4f}".rstrip("0").rstrip(".") + f" {unit}"


def status(call: Call) -> Result:
    """How the node is."""
    unit = call.options.get("unit", "gb").lower()
    if unit not in UNITS:
        raise WrongUse(f"\"unit '{unit}' is not supported. Please use one of: {', '.join(UNITS)}\"")
    call.say(f"Status of node {call.node} ...")
    said, size = call.ask("status"), partial(_size_text, unit=unit)
    counts, memory, disk, descriptors = said["counts"], said["memory"], said["disk"], said["descriptors"]
    used, limit = descriptors["used"], descriptors["limit"]
    runtime = [
        f"OS PID: {said['pid']}",
        "OS: Linux",
        f"Uptime (seconds): {int(said['uptime_s'])}",
        "Is under maintenance?: false",
        f"RabbitMQ version: {said['behaves_like']}",
        "RabbitMQ release series support status: supported",
        f"Node name: {call.node}",
        f"Product: amqp-broker {said['version']}{' (compiled)' if said['is_compiled'] else ''}",
    ]
    lines = _sections(
        {
            "Runtime": runtime,
            "Data directory": [f"Node data directory: {said['data_folder'] or 'kept nowhere'}"],
            "Alarms": alarm_texts(call, said),
            "Memory": [
                f"Total memory used: {size(memory['used_bytes'])}",
                "Calculation strategy: rss",
                f"Memory high watermark setting: {memory['high_water_bytes']} bytes, "
                f"computed to: {size(memory['high_water_bytes'])}",
            ],
            "File Descriptors": [f"Total: {used}, limit: {limit or 'none'}", f"Sockets: {counts['connections']}"],
            "Free Disk Space": [
                f"Low free disk space watermark: {size(disk['limit_bytes'])}",
                f"Free disk space: {size(disk['free_bytes'])}",
            ]
            if disk is not None
            else [],
            "Totals": [
                f"Connection count: {counts['connections']}",
                f"Queue count: {counts['queues']}",
                f"Virtual host count: {counts['virtual_hosts']}",
            ],
            "Listeners": [listener_line(one) for one in listeners_of(call, said)],
        }
    )
    return Report(lines, _status_value(call, said))


def _status_value(call: Call, said: dict[str, Any]) -> dict[str, Any]:
    counts, memory, disk, descriptors = said["counts"], said["memory"], said["disk"], said["descriptors"]
    return {
        "active_plugins": ["rabbitmq_management", "rabbitmq_prometheus"],
        "alarms": said["alarms"],
        "config_files": [],
        "data_directory": said["data_folder"] or "",
        "disk_free": disk["free_bytes"] if disk is not None else 0,
        "disk_free_limit": disk["limit_bytes"] if disk is not None else 0,
        "file_descriptors": {
            "sockets_limit": descriptors["limit"] or 0,
            "sockets_used": counts["connections"],
            "total_limit": descriptors["limit"] or 0,
            "total_used": descriptors["used"],
        },
        "is_under_maintenance": False,
        "listeners": listeners_of(call, said),
        "memory": {"strategy": "rss", "total": {"rss": memory["used_bytes"], "allocated": memory["used_bytes"]}},
        "os": "Linux",
        "pid": said["pid"],
        "product_name": "RabbitMQ",
        "product_version": said["behaves_like"],
        "rabbitmq_version": said["behaves_like"],
        "amqp_broker_version": said["version"],
        "release_series_support_status": "supported",
        "run_queue": 0,
        "totals": {
            "connection_count": counts["connections"],
            "queue_count": counts["queues"],
            "virtual_host_count": counts["virtual_hosts"],
        },
        "uptime": int(said["uptime_s"]),
        "vm_memory_calculation_strategy": "rss",
        "vm_memory_high_watermark_limit": memory["high_water_bytes"],
    }


def cluster_status(call: Call) -> Result:
    """The node's cluster, as clients see it: one node."""
    call.say(f"Cluster status of node {call.node} ...")
    said = call.ask("status")
    listeners, alarms, node = listeners_of(call, said), alarm_texts(call, said), call.node
    lines = _sections(
        {
            "Basics": [f"Cluster name: {said['cluster_name']}"],
            "Disk Nodes": [node],
            "Running Nodes": [node],
            "Versions": [f"{node}: RabbitMQ {said['behaves_like']} (amqp-broker {said['version']})"],
            "Maintenance status": [f"Node: {node}, status: not under maintenance"],
            "Alarms": alarms,
            "Network Partitions": [],
            "Listeners": [
                f"Node: {node}, {listener_line(one)[0].lower()}{listener_line(one)[1:]}" for one in listeners
            ],
            "Feature flags": [f"Flag: {name}, state: enabled" for name in FEATURE_FLAGS],
        }
    )
    value = {
        "alarms": said["alarms"],
        "cluster_name": said["cluster_name"],
        "disk_nodes": [node],
        "feature_flags": [{"name": name, "state": "enabled", "stability": "stable"} for name in FEATURE_FLAGS],
        "listeners": {node: listeners},
        "maintenance_status": {node: "not under maintenance"},
        "partitions": {},
        "ram_nodes": [],
        "running_nodes": [node],
        "versions": {node: {"rabbitmq_name": "RabbitMQ", "rabbitmq_version": said["behaves_like"]}},
    }
    return Report(lines, value)


def list_feature_flags(call: Call) -> Result:
    """What RabbitMQ has as feature flags is on."""
    columns = ("name", "state")
    names = [name for word in call.words for name in word.replace(",", " ").split()] or columns
    unknown = [name for name in names if name not in columns]
    if unknown:
        raise WrongUse(f"Info key(s) {','.join(unknown)} are not supported")
    call.say("Listing feature flags ...")
    call.ask("status")
    rows = [{"name": name, "state": "enabled"} for name in FEATURE_FLAGS]
    return Table(names, rows, is_stream=True)


def enable_feature_flag(call: Call) -> Result:
    """What is enabled already."""
    name = call.words[0]
    call.say("Enabling all feature flags ..." if name == "all" else f'Enabling feature flag "{name}" ...')
    call.ask("status")
    if name != "all" and name not in FEATURE_FLAGS:
        raise Failed(Code.USAGE, f"This feature flag is not supported by node {call.node}")
    return None


def list_deprecated_features(call: Call) -> Result:
    """None of RabbitMQ's is deprecated here."""
    call.say("Listing deprecated features ...")
    call.ask("status")
    return Table(("name", "deprecation_phase"), [])


def _await(call: Call, deadline_s: float) -> None:
    while True:
        try:
            call.ask("status")
        except Failed:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(LOOK_EVERY_S)
        else:
            return


def await_startup(call: Call) -> Result:
    """Return when the broker serves."""
    _await(call, time.monotonic() + call.timeout_s(STARTUP_TIMEOUT_S))
    return None


def await_online_nodes(call: Call) -> Result:
    """The same, for the one node that there is."""
    if not call.words[0].isdecimal() or not int(call.words[0]):
        raise WrongUse("Bad argument: Argument must be a positive integer", Code.DATA)
    timeout_s = call.timeout_s(STARTUP_TIMEOUT_S)
    about = f"at least {call.words[0]} nodes to join the cluster of {call.node}"
    call.say(f"Will wait for {about}. Timeout: {timeout_s:g} seconds.")
    if int(call.words[0]) > 1:
        text = f"there is one node here, and none joins {call.node}'s cluster: see amqp-broker cluster status"
        raise Failed(Code.SOFTWARE, text)
    _await(call, time.monotonic() + timeout_s)
    return None


def _check_process(written: str) -> None:
    """Where it can be seen, that a process of this number runs."""
    if not written.isdecimal():
        raise WrongUse(f"Invalid options for this command:\n--pid : {written}")
    if Path("/proc/self").exists() and not Path(f"/proc/{written}").exists():
        raise Failed(Code.UNAVAILABLE, "process_not_running")


def wait(call: Call) -> Result:
    """Return when the broker serves; a file with its process number is waited for first."""
    deadline_s = time.monotonic() + call.timeout_s(10)
    if call.words:
        call.say(f"Waiting for pid file '{call.words[0]}' to appear")
        while not Path(call.words[0]).exists():
            if time.monotonic() > deadline_s:
                raise Failed(Code.UNAVAILABLE, f"there is no file {call.words[0]}")
            time.sleep(LOOK_EVERY_S)
    if "pid" in call.options:
        _check_process(call.options["pid"])
    call.say(f"Will wait for node {call.node} ...")
    _await(call, deadline_s)
    return None


def ping(call: Call) -> Result:
    """Whether somebody answers."""
    about = "This only checks if the OS process is running and registered with epmd."
    call.say(f"Will ping {call.node}. {about} Timeout: {int(call.timeout_s(60) * 1000)} ms.")
    call.ask("status")
    return Report(["Ping succeeded"])


def version(call: Call) -> Result:
    """Of this tool."""
    return Report([__version__])


def stop(call: Call, *, is_waiting: bool) -> Result:
    """End the broker as SIGTERM does."""
    if is_waiting:
        pid = call.ask("status")["pid"]
        call.say(f"Shutting down RabbitMQ node {call.node} running at PID {pid}")
    else:
        call.say(f"Stopping and halting node {call.node} ...")
    call.ask("broker.end")
    if not is_waiting:
        return None
    deadline_s = time.monotonic() + call.timeout_s(60)
    while _is_there(call) or _holds_data_folder(call, pid):
        if time.monotonic() > deadline_s:
            raise Failed(Code.UNAVAILABLE, f"the broker with process {pid} has not ended yet")
        time.sleep(LOOK_EVERY_S)
    return Report([] if call.is_quiet else [f"RabbitMQ node {call.node} running at PID {pid} successfully shut down"])


def _is_there(call: Call) -> bool:
    try:
        call.ask("status")
    except Failed:
        return False
    return True


def _holds_data_folder(call: Call, pid: int) -> bool:
    """Whether the broker with this process still holds its folder, which it does until all is written."""
    from amqp_broker.server.data_folder import holder_of

    return holder_of(Path(call.data_folder)) == str(pid)


def do_nothing(call: Call, *, banner: str) -> Result:
    """What need not be done here."""
    call.say(banner.format(node=call.node))
    call.ask("status")
    return None


def list_node_auth_attempt_stats(call: Call) -> Result:
    """Attempts to log in are counted over HTTP only."""
    call.say(f'Listing authentication\n attempts for node "{call.node}" ...')
    return Report([f"Node {call.node} reported no authentication attempt stats"])


COMMANDS: Commands = {
    "await_online_nodes": Command("Cluster", "<count>", "Waits for the node to start", await_online_nodes, (1, 1)),
    "await_startup": Command(NODES, "[--timeout <timeout>]", "Waits until the broker serves", await_startup),
    "cluster_status": Command("Cluster", "[--timeout <timeout>]", "Shows the node's cluster", cluster_status),
    "enable_feature_flag": Command(
        "Feature flags",
        "<all|feature_flag>",
        "All of them are on",
        enable_feature_flag,
        (1, 1),
    ),
    "force_gc": Command(
        "Operations",
        "",
        "Not needed",
        partial(do_nothing, banner="Will ask all processes on node {node} to schedule a full sweep GC"),
    ),
    "list_deprecated_features": Command(
        "Feature flags", "[--used]", "Lists none: there are none", list_deprecated_features, options={"used": False}
    ),
    "list_feature_flags": Command("Feature flags", "", "Lists feature flags", list_feature_flags, (0, None)),
    "list_node_auth_attempt_stats": Command(
        MONITORING,
        "[--by-source]",
        "Lists attempts to log in",
        list_node_auth_attempt_stats,
        (0, 0),
        {"by-source": False},
    ),
    "node_health_check": Command(
        MONITORING,
        "[--timeout <timeout>]",
        "Has nothing to do, as with RabbitMQ: see rabbitmq-diagnostics check_running",
        partial(do_nothing, banner="This command is DEPRECATED and is a no-op: use rabbitmq-diagnostics check_running"),
    ),
    "ping": Command(MONITORING, "[--timeout <timeout>]", "Asks whether the broker answers", ping),
    "shutdown": Command(
        NODES,
        "[--wait] [--no-wait] [--timeout <timeout>]",
        "Ends the broker, and waits for its end",
        partial(stop, is_waiting=True),
        options={"wait": False, "no-wait": False},
    ),
    "status": Command(
        MONITORING, "[--unit <unit>] [--timeout <timeout>]", "Shows how the node is", status, options={"unit": True}
    ),
    "stop": Command(
        NODES,
        "[--idempotent] [<pidfile>]",
        "Ends the broker",
        partial(stop, is_waiting=False),
        (0, 1),
        {"idempotent": False},
    ),
    "version": Command("Help", "", "Shows the version of this tool", version),
    "wait": Command(
        NODES,
        "[<pidfile>] [--pid|-P <pid>] [--timeout <timeout>]",
        "Waits until the broker serves",
        wait,
        (0, 1),
        {"pid": True},
        {"P": "pid"},
    ),
}
