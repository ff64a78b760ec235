"""The status of a running broker for its administrator: process, listeners, limits in force, counts.

Holds the form only; what there is of queues and clients is told by ``broker/inspection.py``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypedDict

from amqp_broker import __version__
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.descriptions import Counts
from amqp_broker.network.listeners import METRICS, Endpoint
from amqp_broker.server.memory_limit import MemoryLimit
from amqp_broker.server.resources import (
    DescriptorStatus,
    DiskStatus,
    MemoryStatus,
    ResourceLimits,
    StoreStatus,
    descriptor_status,
    disk_status,
    memory_status,
)
from amqp_broker.settings import Settings
from amqp_broker.wire import strings


class Server(Protocol):
    """The server that says how it is."""

    control_folder: Path | None
    data_folder: Path | None
    started_s: float
    settings: Settings
    memory: MemoryLimit
    limits: ResourceLimits
    store_status: Callable[[], StoreStatus | None]

    @property
    def broker(self) -> Broker:
        """What it serves."""
        ...

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where clients may come."""
        ...

    @property
    def http_endpoints(self) -> list[Endpoint]:
        """Where administrators may come."""
        ...


class ListenerStatus(TypedDict):
    """The address and port of a listener; the protocol is ``amqp``, ``mqtt``, ``http`` or ``metrics``."""

    protocol: str
    address: str
    port: int
    tls: bool


class ServerStatus(TypedDict):
    """The status of a broker."""

    version: str
    is_compiled: bool
    pid: int
    uptime_s: float
    listeners: list[str]
    ports: list[ListenerStatus]
    behaves_like: str  # RabbitMQ's version
    cluster_name: str
    data_folder: str | None
    alarms: list[str]
    memory: MemoryStatus
    disk: DiskStatus | None
    store: StoreStatus | None
    descriptors: DescriptorStatus
    counts: Counts | None  # of what there is in the broker; not known to the server


def ports_of(endpoints: Iterable[Endpoint]) -> list[ListenerStatus]:
    """Where it listens, for programs."""
    return [
        ListenerStatus(protocol=one.protocol, address=one.address, port=one.port, tls=one.is_tls) for one in endpoints
    ]


def _listener(endpoint: Endpoint) -> str:
    path = "/metrics" if endpoint.protocol == METRICS else ""
    return f"{endpoint.url}{path} ({endpoint})"


def server_status(server: Server) -> ServerStatus:
    """How a server is; but for the counts, which whoever asks has from the broker itself.

    May be called in any thread, and takes some milliseconds where there are many connections.
    """
    data_folder = server.data_folder or server.control_folder
    return ServerStatus(
        version=__version__,
        is_compiled=not strings.__file__.endswith(".py"),
        pid=os.getpid(),
        uptime_s=round(time.monotonic() - server.started_s, 1),
        listeners=[_listener(endpoint) for endpoint in (*server.endpoints, *server.http_endpoints)],
        ports=ports_of((*server.endpoints, *server.http_endpoints)),
        behaves_like=server.settings.product_version or server.broker.behaviour.version,
        cluster_name=server.broker.cluster_name,
        data_folder=str(data_folder) if data_folder is not None else None,
        alarms=server.broker.alarms.raised,
        memory=memory_status(server.settings, server.memory, server.limits),
        disk=disk_status(data_folder, server.limits) if data_folder is not None else None,
        store=server.store_status(),
        descriptors=descriptor_status(),
        counts=None,
    )
