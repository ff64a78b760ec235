"""The answers of a divided broker's owners, put together: numbers, and the rows of nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from amqp_broker.management.api.overview import CHURN

Row = dict[str, Any]

OF_BROKER: Final = ("sockets_used", *CHURN)
OF_PROCESS: Final = ("fd_total", "fd_used", "mem_limit", "mem_used", "proc_used", "sockets_total")
ALARMS: Final = ("disk_free_alarm", "mem_alarm")


def summed(left: Any, right: Any) -> Any:
    """Numbers added, and those in objects and lists; what is no number, or a time, is the first one's."""
    if isinstance(left, dict) and isinstance(right, dict):
        return {
            name: left[name] if name == "timestamp" and name in left else summed(left.get(name), right.get(name))
            for name in {**left, **right}
        }
    if isinstance(left, list) and isinstance(right, list):  # samples, the newest first: as far as both are known
        return [summed(one, other) for one, other in zip(left, right, strict=False)]
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return right if left is None else left
    return left + right if isinstance(left, int | float) and isinstance(right, int | float) else left


def nodes_together(found: Mapping[int, Sequence[Row]]) -> list[Row]:
    """The nodes of a broker: what an owner says of its own node counts, and several owners of one node are added.

    Args:
        found: what each owner says of all nodes, its own one first, by shard; the root's first.
    """
    nodes: dict[str, Row] = {}
    processes = set[tuple[str, str]]()
    for rows in found.values():
        own = rows[0]
        name, process = own["name"], (own["name"], own["os_pid"])
        node = nodes.setdefault(name, own)
        if node is not own:
            added = OF_BROKER if process in processes else (*OF_BROKER, *OF_PROCESS)
            for number in added:
                for field in (number, f"{number}_details"):
                    if field in own:
                        node[field] = summed(node.get(field), own[field])
            for alarm in ALARMS:
                node[alarm] = node[alarm] or own[alarm]
        processes.add(process)
    for rows in found.values():
        for other in rows[1:]:
            nodes.setdefault(other["name"], other)
    for node in nodes.values():
        node.pop("role", None)  # of the queues of one owner
    return list(nodes.values())
