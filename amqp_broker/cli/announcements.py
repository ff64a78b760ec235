"""Announcements of a broker about its own life: it starts, what it has recovered, it is ready, it stops, it fails.

Each is an event of the log. With ``--log-format text`` a person most often looks on: where it listens and that it is
ready, or what has failed, is printed in words then; with ``json`` every line is an event. Does not hold what happens;
that is ``serving.py``.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from amqp_broker import __version__
from amqp_broker.cli.tables import size_text
from amqp_broker.logs import log_event
from amqp_broker.settings import DESCRIPTIONS
from amqp_broker.wire import strings

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.network.listeners import Endpoint
    from amqp_broker.server.memory_limit import MemoryLimit
    from amqp_broker.settings import Settings

_LOADED_S = time.monotonic()
_FOR_NEW_FOLDERS = ("default_user", "default_password", "default_virtual_host")


def starting(settings: Settings, memory: MemoryLimit) -> None:
    """The broker begins, under these limits. For people they come when it is ready: what fails is told in one line.

    Args:
        settings: with the limits of memory that are in force.
        memory: what there is of it.
    """
    from amqp_broker.server.descriptors import descriptors_limit

    if settings.log_format == "text":
        return
    log_event(
        logging.INFO,
        "starting",
        version=__version__,
        compiled=_is_compiled(),
        python=".".join(map(str, sys.version_info[:3])),
        pid=os.getpid(),
        data_folder=settings.data_dir,
        memory_bytes=memory.size_bytes,
        memory_by=memory.set_by,
        memory_high_water_bytes=settings.memory_high_water_bytes,
        memory_budget_bytes=settings.memory_budget_bytes,
        disk_free_limit_bytes=settings.disk_free_limit_bytes,
        descriptors=descriptors_limit(),
    )


def recovered(broker: Broker, was_left_open: bool, seconds: float) -> None:
    """The journal was read; a warning when the broker before had not ended as it should.

    Args:
        was_left_open: whether that is so: it was killed, or the machine lost its power.
        seconds: how long the reading took.
    """
    queues = [queue for virtual_host in broker.virtual_hosts.values() for queue in virtual_host.queues.values()]
    log_event(
        logging.WARNING if was_left_open else logging.INFO,
        "recovered after an unclean end" if was_left_open else "recovered",
        queues=len(queues),
        messages=sum(queue.ready_count for queue in queues),
        seconds=round(seconds, 3),
    )


def without_effect(settings: Settings, memory: MemoryLimit, broker: Broker) -> None:
    """The settings that were chosen and change nothing, because of what this machine or this data folder is like.

    What changes nothing anywhere is refused before (``configuration.py``).

    Args:
        settings: as they were chosen.
        memory: what there is of it.
        broker: open.
    """
    from amqp_broker.server.resources import memory_limits_without_effect

    for name, reason in memory_limits_without_effect(settings, memory):
        log_event(logging.WARNING, "setting without effect", setting=name, reason=reason)
    chosen = [name for name in _FOR_NEW_FOLDERS if getattr(settings, name) != DESCRIPTIONS[name].default]
    if chosen and not broker.is_new:
        is_there = broker.users.get(settings.default_user) is not None
        log_event(
            logging.INFO if is_there else logging.WARNING,
            "setting without effect",
            setting=", ".join(chosen),
            reason="it counts for a new data folder, and this one has its users already",
            way_out="change them with 'amqp-broker users', 'vhosts' and 'permissions'",
        )


def ready(
    endpoints: Sequence[Endpoint], http_endpoints: Sequence[Endpoint], settings: Settings, memory: MemoryLimit
) -> None:
    """Clients can connect, here.

    Args:
        http_endpoints: where the HTTP API is.
        settings: with the limits of memory that are in force.
        memory: what there is of it.
    """
    from amqp_broker.server.descriptors import descriptors_limit

    if settings.log_format == "json":
        for endpoint in (*endpoints, *http_endpoints):
            log_event(logging.INFO, "listening", url=endpoint.url, address=str(endpoint), tls=endpoint.is_tls)
        log_event(logging.INFO, "ready", seconds=round(_running_s(), 2))
        return
    for url in dict.fromkeys(endpoint.url for endpoint in endpoints):
        addresses = ", ".join(str(endpoint) for endpoint in endpoints if endpoint.url == url)
        print(f"listening on {url} ({addresses})")
    for line in dict.fromkeys(_place_of(endpoint) for endpoint in http_endpoints):
        print(line)
    print(f"data folder {settings.data_dir}")
    print(
        f"memory {size_text(memory.size_bytes)} ({memory.set_by}): publishers wait above "
        f"{size_text(settings.memory_high_water_bytes)}, messages go to disk above "
        f"{size_text(settings.memory_budget_bytes)}"
    )
    free_bytes = shutil.disk_usage(settings.data_dir).free
    print(f"disk {size_text(free_bytes)} free: publishers wait below {size_text(settings.disk_free_limit_bytes)}")
    print(f"descriptors: {descriptors_limit() or 'any number'}")
    print(_build())
    print(f"ready after {_running_s():.2f} s", flush=True)


def node_ready(endpoints: Sequence[Endpoint], cluster: str, log_format: str) -> None:
    """A node of a cluster has its doors open: clients can connect, whether it owns the broker or not.

    Args:
        endpoints: of all protocols, and where the HTTP API is.
        cluster: its name.
        log_format: of the settings.
    """
    if log_format == "json":
        for endpoint in endpoints:
            log_event(logging.INFO, "listening", url=endpoint.url, address=str(endpoint), tls=endpoint.is_tls)
        log_event(
            logging.INFO,
            "node ready",
            cluster=cluster,
            version=__version__,
            compiled=_is_compiled(),
            seconds=round(_running_s(), 2),
        )
        return
    for line in dict.fromkeys(_place_of(endpoint) for endpoint in endpoints):
        print(line)
    print(_build())
    print(f"node of the cluster {cluster}", flush=True)


def _build() -> str:
    """What runs, in a line."""
    return f"amqp-broker {__version__}{' (compiled)' if _is_compiled() else ''}, {_python()}, process {os.getpid()}"


def _is_compiled() -> bool:
    return not strings.__file__.endswith(".py")


def _python() -> str:
    """Which Python runs it; ``platform`` knows as well, and takes a millisecond to load."""
    return f"{sys.implementation.name} {'.'.join(map(str, sys.version_info[:3]))}".replace("cpython", "Python")


def _place_of(endpoint: Endpoint) -> str:
    """What is to be had at a URL, in a line."""
    from amqp_broker.network.listeners import HTTP, METRICS

    if endpoint.protocol == METRICS:
        return f"metrics on {endpoint.url}/metrics"
    return f"management on {endpoint.url}/" if endpoint.protocol == HTTP else f"listening on {endpoint.url}"


def stopping(clients: int, settings: Settings) -> None:
    """The end begins: the clients that are here are sent away."""
    log_event(logging.INFO, "stopping", clients=clients, grace_ms=settings.shutdown_grace_ms)


def stopped(seconds: float) -> None:
    """The end has taken so long, and all is on disk."""
    log_event(logging.INFO, "stopped", seconds=round(seconds, 3))


def failed(text: str, exit_code: int, log_format: str) -> None:
    """The broker ends because of what it cannot mend itself."""
    if log_format == "json":
        log_event(logging.ERROR, "failed", reason=text, exit_code=exit_code)
    else:
        print(f"amqp-broker: {text}", file=sys.stderr, flush=True)


def _running_s() -> float:
    """The time since this process was started; where the system does not tell, since this module was loaded."""
    if sys.platform == "linux":
        with suppress(OSError):
            stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
            # The 22nd field, counted from behind the program's name, which may hold anything and ends with the last
            # bracket.
            started_s = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
            return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s
    return time.monotonic() - _LOADED_S
