"""The commands of rabbitmq-queues. Those on replicas have nothing to do here: each node has all of every queue."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.checks import COMMANDS as CHECKS
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Report, Result, Table, WrongUse
from amqp_broker.cli.rabbitmqctl.refused import OF_QUEUES, commands_of

REPLICATION, QUEUES, MONITORING = "Replication", "Queues", "Monitoring, observability and health checks"
PEEKED_CHARACTERS_MAX = 64
REBALANCED_OF_3_10 = ("all", "classic", "quorum", "stream")
REBALANCED = ("all", "quorum", "stream")
BALANCED_OF_3_10 = {"quorum": "Number of quorum queues", "mirrored": "Number of replicated classic queues"}
BALANCED = {"quorum": "Number of quorum queues", "stream": "Number of streams"}
STATUS_OF_3_10 = ("Node Name", "Raft State", "Log Index", "Commit Index", "Snapshot Index", "Term", "Machine Version")
STATUS_COLUMNS = (
    "Node Name", "Raft State", "Membership", "Last Log Index", "Last Written", "Last Applied", "Commit Index",
    "Snapshot Index", "Term", "Machine Version",
)  # fmt: skip


def _quorum_queue(call: Call, refusal: str, missing: Failed | None = None) -> dict[str, Any]:
    """The quorum queue that is named first; one of another type is refused in these words."""
    missing = missing or call.not_found()
    shown: dict[str, Any] = call.ask("queues.show", vhost=call.virtual_host, name=call.words[0], missing=missing)
    if shown["type"] != "quorum":
        raise Failed(Code.UNAVAILABLE, refusal.format(shown["type"]))
    return shown


def _no_such_queue(call: Call) -> Failed:
    return Failed(Code.UNAVAILABLE, f"Target queue was not found in virtual host '{call.virtual_host}'")


def quorum_status(call: Call) -> Result:
    """Where a quorum queue is: at one node, which leads it."""
    call.say(f"Status of quorum queue {call.words[0]} on node {call.node} ...")
    _quorum_queue(call, "Cannot get quorum status of a {} queue")
    columns = STATUS_OF_3_10 if call.is_of_3_10() else STATUS_COLUMNS
    row = dict.fromkeys(columns, 0) | {"Node Name": call.node, "Raft State": "leader", "Membership": "voter"}
    return Table(columns, [row], is_stream=True, is_drawn=True)


def peek(call: Call) -> Result:
    """A message of a queue of any type, by its place; it stays where it is."""
    name, place = call.words
    if not place.isdecimal() or not int(place):
        raise WrongUse('"position value must be a positive integer"')
    call.say(f"Peeking at quorum queue {name} at position {place} on node {call.node} ...")
    asked: dict[str, Any] = {"offset": int(place) - 1, "limit": 1, "state": "ready"}
    missing = _no_such_queue(call)
    found = call.ask("queues.peek", missing=missing, vhost=call.virtual_host, name=name, **asked)["messages"]
    if not found:
        raise Failed(Code.UNAVAILABLE, "Target queue does not have a message at that position")
    message = _as_told(found[0])
    if call.formatter == "json":
        return Report([], {"message": message, "result": "ok"})
    rows = [{"keys": key, "values": _text(value)} for key, value in message.items()]
    return Table(("keys", "values"), rows, is_drawn=True)


def _as_told(message: dict[str, Any]) -> dict[str, Any]:
    """A message in RabbitMQ's terms."""
    properties = dict(message["properties"])
    headers = properties.pop("headers", None) or {}
    return {
        **properties,
        "routing_keys": [message["routing_key"]],
        "exchange": message["exchange"],
        f"payload (max {PEEKED_CHARACTERS_MAX} bytes)": message["payload"][:PEEKED_CHARACTERS_MAX],
        **{f"header.{name}": value for name, value in headers.items()},
    }


def _text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def change_member(call: Call, *, is_added: bool) -> Result:
    """A node more that keeps a queue, or one less: each of the cluster does, and no other can."""
    name, node = call.words
    call.say(
        f"{f'Adding a replica for queue {name} on' if is_added else f'Removing a replica of queue {name} on'} "
        f"node {node}..."
    )
    missing = None
    if not call.is_of_3_10():
        text = f"queue '{name}' was not found in virtual host '{call.virtual_host}'"
        missing = Failed(Code.DATA, text, heading=False)
    refusal = "Cannot add members to a {} queue" if is_added else "Cannot delete members from a {} queue"
    _quorum_queue(call, refusal, missing)
    if is_added and node != call.node:
        raise Failed(Code.UNAVAILABLE, "node_not_running")
    if not is_added and node == call.node:
        raise Failed(Code.UNAVAILABLE, "last_node")
    return None


def grow(call: Call) -> Result:
    """The same for all queues: nothing is done, and told of none."""
    node, strategy = call.words
    if strategy not in ("all", "even"):
        raise WrongUse(f"\"strategy '{strategy}' is not recognised.\"")
    return _changed_none(call, f"Growing {strategy} quorum queues on {node}...")


def shrink(call: Call) -> Result:
    """The opposite."""
    return _changed_none(call, f"Shrinking quorum queues on {call.words[0]}...")


def _changed_none(call: Call, banner: str) -> Result:
    call.say(banner)
    call.ask("status")
    return Table(("vhost", "name", "size", "result"), [])


def rebalance(call: Call) -> Result:
    """What is where: all at one node."""
    kind, is_of_3_10 = call.words[0], call.is_of_3_10()
    known = REBALANCED_OF_3_10 if is_of_3_10 else REBALANCED
    if kind not in known:
        raise Failed(Code.UNAVAILABLE, f"type {kind} is not supported. Try one of {', '.join(known)}.")
    call.say(f"Re-balancing leaders of {kind} queues...")
    types = [row["type"] for row in call.ask_list("queues.list", vhost=None)]
    row: dict[str, Any] = {"Node name": call.node}
    if is_of_3_10:
        row |= {title: types.count(one) for one, title in BALANCED_OF_3_10.items()}
    else:  # which does not name what there is none of
        row |= {title: types.count(one) for one, title in BALANCED.items() if one in types and kind in ("all", one)}
    if call.formatter == "json":
        return Report([], {"node": call.node, "result": "ok", "value": [list(map(list, row.items()))]})
    return Table(tuple(row), [row], is_drawn=True)


def reclaim_quorum_memory(call: Call) -> Result:
    """Nothing, if the queue is there: there is no log of Raft's."""
    call.say(f"Will flush Raft WAL of quorum queue {call.words[0]} ...")
    _quorum_queue(call, "This operation is not applicable to {} queues", _no_such_queue(call))
    return None


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
        grow,
        (2, 2),
        _PATTERNS,
    ),
    "peek": Command(QUEUES, f"{_HOST} <queue> <position>", "Shows a message, which stays where it is", peek, (2, 2)),
    "quorum_status": Command(MONITORING, f"{_HOST} <queue>", "Shows where a quorum queue is", quorum_status, (1, 1)),
    "rebalance": Command(
        QUEUES,
        "<all | quorum | stream> [--vhost-pattern <pattern>] [--queue-pattern <pattern>]",
        "Has nothing to do: see amqp-broker cluster",
        rebalance,
        (1, 1),
        _PATTERNS,
    ),
    "reclaim_quorum_memory": Command(
        QUEUES,
        f"{_HOST} <queue>",
        "Has nothing to do: there is no log of Raft's",
        reclaim_quorum_memory,
        (1, 1),
    ),
    "shrink": Command(
        REPLICATION,
        "<node> [--errors-only]",
        "Has nothing to do: no node keeps less",
        shrink,
        (1, 1),
        _PATTERNS,
    ),
    **commands_of(OF_QUEUES),
}
