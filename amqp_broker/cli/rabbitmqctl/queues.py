"""The commands of rabbitmq-queues. Those on replicas have nothing to do here: each node has all of every queue."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.checks import COMMANDS as CHECKS
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.node import do_nothing
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Result, Table, WrongUse
from amqp_broker.cli.rabbitmqctl.refused import OF_QUEUES, commands_of

REPLICATION, QUEUES, MONITORING = "Replication", "Queues", "Monitoring, observability and health checks"
NOT_FOUND = Failed(Code.UNAVAILABLE, "not_found")
STATUS_COLUMNS = ("Node Name", "Raft State", "Log Index", "Commit Index", "Snapshot Index", "Term", "Machine Version")


def _quorum_queue(call: Call, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = call.ask("queues.show", vhost=call.virtual_host, name=name, missing=NOT_FOUND)
    if not shown["has_replicas"]:
        raise Failed(Code.UNAVAILABLE, f"{shown['type']}_queue_not_supported")
    return shown


def quorum_status(call: Call) -> Result:
    """Where a quorum queue is: at one node, which leads it."""
    name = call.words[0]
    call.say(f"Status of quorum queue {name} on node {call.node} ...")
    shown = _quorum_queue(call, name)
    row = dict.fromkeys(STATUS_COLUMNS, 0) | {"Node Name": shown["node"], "Raft State": "leader"}
    return Table(STATUS_COLUMNS, [row])


def peek(call: Call) -> Result:
    """A message of a queue, by its place; it stays where it is."""
    name, place = call.words
    if not place.isdecimal() or not int(place):
        raise WrongUse("Bad argument: the position must be a positive integer", Code.DATA)
    call.say(f"Peeking at queue {name} in virtual host {call.virtual_host} at position {place} ...")
    asked: dict[str, Any] = {"offset": int(place) - 1, "limit": 1, "state": "ready"}
    found = call.ask("queues.peek", missing=NOT_FOUND, vhost=call.virtual_host, name=name, **asked)["messages"]
    if not found:
        raise Failed(Code.UNAVAILABLE, "Message with the given position was not found")
    return Table(("keys", "values"), [{"keys": key, "values": _text(value)} for key, value in found[0].items()])


def _text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def change_member(call: Call, *, is_added: bool) -> Result:
    """A node more that keeps a queue, or one less: each of the cluster does, and no other can."""
    name, node = call.words[0], call.words[1]
    what = f"Adding a replica for queue {name} on" if is_added else f"Removing a replica of queue {name} on"
    call.say(f"{what} node {node} ...")
    here = _quorum_queue(call, name)["node"]
    if is_added and node != here:
        raise Failed(Code.UNAVAILABLE, "node_not_running")
    if not is_added and node == here:
        raise Failed(Code.UNAVAILABLE, "last_node")
    return None


def change_all(call: Call, *, is_grown: bool) -> Result:
    """The same for all queues: nothing is done, and told of none."""
    node = call.words[0]
    call.say(f"{'Growing' if is_grown else 'Shrinking'} all quorum queues on {node}...")
    call.ask("status")
    return Table(("vhost", "name", "size", "result"), [])


_HOST = "[--vhost <vhost>]"
_PATTERNS = {"vhost-pattern": True, "queue-pattern": True, "errors-only": False, "membership": True}
_critical = CHECKS["check_if_node_is_quorum_critical"]

COMMANDS: Commands = {
    "add_member": Command(
        REPLICATION,
        f"{_HOST} <queue> <node>",
        "Passes: each node keeps all",
        partial(change_member, is_added=True),
        (2, 2),
        {"membership": True},
    ),
    "check_if_new_quorum_queue_replicas_have_finished_initial_sync": _critical,
    "check_if_node_is_mirror_sync_critical": CHECKS["check_if_node_is_mirror_sync_critical"],
    "check_if_node_is_quorum_critical": _critical,
    "delete_member": Command(
        REPLICATION,
        f"{_HOST} <queue> <node>",
        "Fails: no node keeps less",
        partial(change_member, is_added=False),
        (2, 2),
    ),
    "grow": Command(
        REPLICATION,
        "<node> <all | even> [--vhost-pattern <pattern>] [--queue-pattern <pattern>]",
        "Has nothing to do: each node keeps all",
        partial(change_all, is_grown=True),
        (2, 2),
        _PATTERNS,
    ),
    "peek": Command(QUEUES, f"{_HOST} <queue> <position>", "Shows a message, which stays where it is", peek, (2, 2)),
    "quorum_status": Command(MONITORING, f"{_HOST} <queue>", "Shows where a quorum queue is", quorum_status, (1, 1)),
    "rebalance": Command(
        QUEUES,
        "<all | classic | quorum | stream> [--vhost-pattern <pattern>] [--queue-pattern <pattern>]",
        "Has nothing to do: see amqp-broker cluster",
        partial(do_nothing, banner="Rebalancing queues ..."),
        (1, 1),
        _PATTERNS,
    ),
    "reclaim_quorum_memory": Command(
        QUEUES,
        f"{_HOST} <queue>",
        "Has nothing to do: there is no log of Raft's",
        partial(do_nothing, banner="Will flush Raft WAL ..."),
        (1, 1),
    ),
    "shrink": Command(
        REPLICATION,
        "<node> [--errors-only]",
        "Has nothing to do: no node keeps less",
        partial(change_all, is_grown=False),
        (1, 1),
        _PATTERNS,
    ),
    **commands_of(OF_QUEUES),
}
