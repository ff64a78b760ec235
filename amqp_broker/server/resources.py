"""The task that watches memory and disk, and raises the alarms that hold publishers back."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import trio

from amqp_broker.broker.alarms import Resource
from amqp_broker.broker.broker import Broker
from amqp_broker.logs import log_event
from amqp_broker.server.journal_flusher import JournalFlusher
from amqp_broker.settings import Settings

# Shares of the machine's memory, where no number of bytes is set
MEMORY_HIGH_WATER_SHARE = 0.6
MEMORY_BUDGET_SHARE = 0.4


async def watch_resources(broker: Broker, settings: Settings, flusher: JournalFlusher | None) -> None:
    """Look every ``resource_check_ms``, until cancelled.

    Args:
        flusher: knows when the disk is full all the same, which free space alone does not tell (a quota, or too little
            room for what is to be written next); None for a broker that keeps nothing on disk.
    """
    memory_limit_bytes = settings.memory_high_water_bytes or int(machine_memory_bytes() * MEMORY_HIGH_WATER_SHARE)
    while True:
        used_bytes = resident_bytes()
        _set(
            broker, Resource.MEMORY, used_bytes, limit_bytes=memory_limit_bytes, is_low=used_bytes > memory_limit_bytes
        )
        if flusher is not None:
            limit_bytes = settings.disk_free_limit_bytes
            free_bytes = shutil.disk_usage(settings.data_dir).free
            is_low = free_bytes < limit_bytes or flusher.is_disk_full
            _set(broker, Resource.DISK, free_bytes, limit_bytes=limit_bytes, is_low=is_low)
        await trio.sleep(settings.resource_check_ms / 1000)


def with_memory_budget(settings: Settings) -> Settings:
    """The settings with a memory budget in bytes, where they have none."""
    budget_bytes = settings.memory_budget_bytes or int(machine_memory_bytes() * MEMORY_BUDGET_SHARE)
    return replace(settings, memory_budget_bytes=budget_bytes)


def _set(broker: Broker, resource: Resource, measured_bytes: int, *, limit_bytes: int, is_low: bool) -> None:
    if broker.alarms.set(resource, is_low):
        event = "alarm raised" if is_low else "alarm cleared"
        log_event(logging.WARNING, event, resource=resource, bytes=measured_bytes, limit_bytes=limit_bytes)


def resident_bytes() -> int:
    """The memory that this process occupies; 0 where the system does not tell."""
    if sys.platform == "darwin":
        from amqp_broker.server import macos_memory

        return macos_memory.resident_bytes()
    if sys.platform == "win32":
        return 0
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def machine_memory_bytes() -> int:
    """The machine's memory; where the system does not tell, more than there can be."""
    if sys.platform == "win32":
        return sys.maxsize
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
