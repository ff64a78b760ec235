"""The other nodes of a broker that has several: what is told of them to administrators. Who has one only has none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from amqp_broker.server.memory_limit import MemoryLimit
from amqp_broker.server.resources import ResourceLimits, descriptor_status, disk_status, memory_status
from amqp_broker.settings import Settings


class OtherNode(NamedTuple):
    """A node that passes its clients on.

    Args:
        name: how operators call it.
        version: which release it runs.
        started_s: when it started, in seconds since 1970.
        uses: what ``measured`` has found there last; what is not known is left out.
    """

    name: str
    version: str
    started_s: int
    uses: Mapping[str, int]


def measured(settings: Settings, memory: MemoryLimit, limits: ResourceLimits, folder: Path) -> dict[str, int]:
    """What this process uses of its machine, by RabbitMQ's names. May take some milliseconds.

    Args:
        settings: of the node.
        memory: how much there is.
        limits: those in force.
        folder: of its data.
    """
    used, disk = memory_status(settings, memory, limits), disk_status(folder, limits)
    descriptors = descriptor_status()
    found = {
        "mem_used": used["used_bytes"],
        "mem_limit": used["high_water_bytes"],
        "disk_free": disk["free_bytes"],
        "disk_free_limit": disk["limit_bytes"],
        "fd_used": descriptors["used"],
    }
    return found if descriptors["limit"] is None else {**found, "fd_total": descriptors["limit"]}
