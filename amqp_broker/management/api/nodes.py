"""The nodes: what each uses of its machine, and the limits in force. A broker alone is one; in a cluster, the one that
owns the broker answers, and tells of the others what they have last said of themselves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import trio

from amqp_broker import __version__
from amqp_broker.broker.names import node_of
from amqp_broker.management.api.lists import answer_one, columns_of
from amqp_broker.management.api.overview import CHURN, churn, contexts, exchange_types, version_of
from amqp_broker.management.api.rates import NODE_RANGE, with_rates, zero_rates
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json, no_such_object
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.things import NO_LIMIT, node_key
from amqp_broker.server.other_nodes import OtherNode
from amqp_broker.server.status import ServerStatus, server_status

PROCESSES_TOTAL = 1_048_576  # Erlang's; no client takes one here

IO = ("read", "write", "sync", "seek", "reopen")
NEVER_COUNTED = (
    "gc_num",
    "gc_bytes_reclaimed",
    "context_switches",
    *(f"io_{what}_{number}" for what in IO for number in ("count", "bytes", "avg_time")),
    "mnesia_ram_tx_count",
    "mnesia_disk_tx_count",
    "msg_store_read_count",
    "msg_store_write_count",
    "queue_index_write_count",
    "queue_index_read_count",
)
MEMORY_PARTS = (
    "connection_readers",
    "connection_writers",
    "connection_channels",
    "connection_other",
    "queue_procs",
    "queue_slave_procs",
    "quorum_queue_procs",
    "quorum_queue_dlx_procs",
    "stream_queue_procs",
    "stream_queue_replica_reader_procs",
    "stream_queue_coordinator_procs",
    "plugins",
    "other_proc",
    "metrics",
    "mgmt_db",
    "mnesia",
    "metadata_store",
    "metadata_store_ets",
    "quorum_ets",
    "other_ets",
    "binary",
    "msg_index",
    "code",
    "atom",
    "other_system",
    "allocated_unused",
    "reserved_unallocated",
)


async def _status(call: Call) -> ServerStatus:
    return await trio.to_thread.run_sync(server_status, call.management.server)


async def describe_node(call: Call) -> dict[str, Any]:
    """This node."""
    status = await _status(call)
    memory, disk, descriptors = status["memory"], status["disk"], status["descriptors"]
    uses = {
        "mem_used": memory["used_bytes"],
        "mem_limit": memory["high_water_bytes"],
        "fd_used": descriptors["used"],
        "fd_total": descriptors["limit"] or NO_LIMIT,
        "sockets_used": len(call.broker.open_connections),
        "disk_free": disk["free_bytes"] if disk is not None else NO_LIMIT,
        "disk_free_limit": disk["limit_bytes"] if disk is not None else 0,
        "os_pid": status["pid"],
        "processors": os.cpu_count() or 1,
    }
    node = _described(call, call.management.node, __version__, uses)
    return node | {
        "mem_alarm": "memory" in status["alarms"],
        "disk_free_alarm": "disk" in status["alarms"],
        **_of_store(status),
        "uptime": int((time.monotonic() - call.management.server.started_s) * 1000),
        "contexts": contexts(call),
        "db_dir": status["data_folder"] or "",
        **churn(call),
    }


def _of_store(status: ServerStatus) -> dict[str, str]:
    """Where the alarm is not this machine's disk's: whose it is."""
    store = status["store"]
    if store is None or not store["is_low"]:
        return {}
    reason = f"{store['used_bytes']} of the {store['quota_bytes']} bytes of {store['name']}'s quota are used"
    return {"disk_free_alarm_reason": reason}


def _described_other(call: Call, other: OtherNode) -> dict[str, Any]:
    """A node that passes its clients on."""
    node = _described(call, node_of(other.name), other.version, other.uses)
    uptime_ms = max(0, call.broker.clock.wall_ms() - other.started_s * 1000)
    return node | {"uptime": uptime_ms, **zero_rates(CHURN)}


def _described(call: Call, name: str, version: str, uses: Mapping[str, int]) -> dict[str, Any]:
    """What is the same for all of them."""
    used = {
        "mem_used": uses.get("mem_used", 0),
        "fd_used": uses.get("fd_used", 0),
        "sockets_used": uses.get("sockets_used", 0),
        "proc_used": 1,
        "disk_free": uses.get("disk_free", NO_LIMIT),
    }
    node: dict[str, Any] = {
        "partitions": [],
        "os_pid": str(uses.get("os_pid", 0)),
        "fd_total": uses.get("fd_total", NO_LIMIT),
        "sockets_total": uses.get("fd_total", NO_LIMIT),
        "mem_limit": uses.get("mem_limit", 0),
        "mem_alarm": False,
        "disk_free_limit": uses.get("disk_free_limit", 0),
        "disk_free_alarm": False,
        "proc_total": PROCESSES_TOTAL,
        "rates_mode": "basic",
        "uptime": 0,
        "run_queue": 0,
        "processors": uses.get("processors", 1),
        "exchange_types": exchange_types(call),
        "auth_mechanisms": [
            {"name": "PLAIN", "description": "SASL PLAIN authentication mechanism", "enabled": True},
            {"name": "AMQPLAIN", "description": "QPid AMQPLAIN mechanism", "enabled": True},
        ],
        "applications": [
            {"name": "rabbit", "description": "RabbitMQ", "version": version_of(call)},
            {"name": "amqp_broker", "description": "amqp-broker", "version": version},
        ],
        "contexts": [],
        "log_files": ["<stderr>"],
        "db_dir": "",
        "config_files": [],
        "net_ticktime": 60,
        "enabled_plugins": ["rabbitmq_management", *call.management.server.enabled_plugins],
        "mem_calculation_strategy": "rss",
        "ra_open_file_metrics": {"ra_log_wal": 0, "ra_log_segment_writer": 0},
        "being_drained": False,
        "name": name,
        "running": True,
        "type": "disc",
        "cluster_links": [],
        "metrics_gc_queue_length": {},
    }
    return node | with_rates(call, node_key(name), used, NODE_RANGE) | zero_rates(NEVER_COUNTED)


async def _describe_all(call: Call) -> list[dict[str, Any]]:
    """All of them; where there are several and one owns all queues, which that is: it is the one that answers."""
    others = call.management.server.other_nodes()
    nodes = [await describe_node(call), *(_described_other(call, one) for one in others)]
    if others and call.management.shards is None:
        for node in nodes:
            node["role"] = "owner" if node is nodes[0] else "door"
    return nodes


async def list_nodes(call: Call) -> Answer:
    """All of them."""
    return answer_json([columns_of(call, node) for node in await _describe_all(call)])


async def show_node(call: Call) -> Answer:
    """The node of a name."""
    return await answer_one(call, await _named(call))


async def _named(call: Call) -> dict[str, Any]:
    """The node that is asked for."""
    for node in await _describe_all(call):
        if node["name"] == call.variables["node"]:
            return node
    raise no_such_object()


async def show_memory(call: Call) -> Answer:
    """What the memory is used for; only the whole is known here."""
    return answer_memory((await _named(call))["mem_used"])


def answer_memory(used_bytes: int) -> Answer:
    """What so much memory is used for."""
    parts = dict.fromkeys(MEMORY_PARTS, 0) | {"other_system": used_bytes}
    total = {"erlang": used_bytes, "rss": used_bytes, "allocated": used_bytes}
    return answer_json({"memory": {**parts, "strategy": "rss", "total": total}})


async def show_relative_memory(call: Call) -> Answer:
    """The same as shares of the whole."""
    await _named(call)
    shares = dict.fromkeys(MEMORY_PARTS, 0) | {"other_system": 100}
    return answer_json({"memory": {**shares, "total": 100}})


async def show_tables(call: Call) -> Answer:
    """Erlang's tables, of which there are none."""
    await _named(call)
    return answer_json({"ets_tables": []})


ENDPOINTS = (
    Endpoint("/api/nodes", {"GET": (Access.MONITORING, list_nodes)}),
    Endpoint("/api/nodes/{node}", {"GET": (Access.MONITORING, show_node)}),
    Endpoint("/api/nodes/{node}/memory", {"GET": (Access.MONITORING, show_memory)}),
    Endpoint("/api/nodes/{node}/memory/relative", {"GET": (Access.MONITORING, show_relative_memory)}),
    Endpoint("/api/nodes/{node}/memory/ets", {"GET": (Access.MONITORING, show_tables)}),
)
