"""The broker's use of memory, disk and descriptors, the limits in force, and the task that raises the alarms."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import trio

from amqp_broker.broker.alarms import Resource
from amqp_broker.broker.broker import Broker
from amqp_broker.logs import log_event
from amqp_broker.server.descriptors import descriptors_limit
from amqp_broker.server.garbage import give_memory_back
from amqp_broker.server.journal_flusher import JournalFlusher
from amqp_broker.server.memory_limit import MemoryLimit
from amqp_broker.settings import Settings

# Shares of the memory that there is for us, where no number of bytes is set
MEMORY_HIGH_WATER_SHARE = 0.6
MEMORY_BUDGET_SHARE = 0.4
BUDGET_SHARE_OF_HIGH_WATER = MEMORY_BUDGET_SHARE / MEMORY_HIGH_WATER_SHARE


class MemoryStatus(TypedDict):
    """Memory, in bytes."""

    used_bytes: int
    available_bytes: int
    available_by: str  # what sets that limit
    high_water_bytes: int  # above it publishers are held back
    budget_bytes: int  # above it waiting messages go to disk


class DiskStatus(TypedDict):
    """The file system of the data folder."""

    free_bytes: int
    limit_bytes: int  # below it publishers are held back


class StoreStatus(TypedDict):
    """The state of what keeps the journal in place of this machine's disk."""

    name: str  # as operators call it: etcd
    used_bytes: int
    quota_bytes: int
    is_low: bool  # publishers are held back


class DescriptorStatus(TypedDict):
    """File descriptors; a limit of None is none."""

    used: int
    limit: int | None


class ResourceLimits:
    """The limits on memory and disk that are in force: those of the settings, until an operator changes them.

    Shared by all brokers of a process, each of which watches its use of them (``watch_resources``).

    Args:
        settings: with limits in bytes (``with_memory_limits``).
        memory_bytes: how much memory there is.
    """

    def __init__(self, settings: Settings, memory_bytes: int) -> None:
        self._settings = settings
        self.memory_high_water_bytes = settings.memory_high_water_bytes
        self.disk_free_limit_bytes = settings.disk_free_limit_bytes
        self.memory_bytes = memory_bytes
        self.is_memory_low = False  # as far as the log says
        self.changed = trio.Event()  # one of them, or what is measured; to be taken before it is looked at

    @property
    def memory_budget_bytes(self) -> int:
        """Above it waiting messages go to disk: no more than its part of a high-water mark that was lowered."""
        chosen_bytes, high_water_bytes = self._settings.memory_budget_bytes, self.memory_high_water_bytes
        if high_water_bytes >= self._settings.memory_high_water_bytes:
            return chosen_bytes
        return min(chosen_bytes, int(high_water_bytes * BUDGET_SHARE_OF_HIGH_WATER))

    def tell(self) -> None:
        """Have all who watch look at once."""
        self.changed.set()
        self.changed = trio.Event()

    def note_memory(self, is_low: bool) -> bool:
        """Note whether too much memory is in use, which is the same for all brokers; returns whether that is news."""
        is_news, self.is_memory_low = is_low != self.is_memory_low, is_low
        return is_news


async def watch_resources(
    broker: Broker,
    settings: Settings,
    limits: ResourceLimits,
    flusher: JournalFlusher | None,
    store_status: Callable[[], StoreStatus | None],
) -> None:
    """Look every ``resource_check_ms``, and when a limit has changed, until cancelled.

    Args:
        limits: those in force.
        flusher: knows when the disk is full all the same, which free space alone does not tell (a quota, or too little
            space for what is to be written next); None for a broker that keeps nothing on disk.
        store_status: of what keeps the journal in place of this disk; None where nothing does.
    """
    is_of_store = False  # the alarm of the disk, also when it is cleared
    while True:
        changed = limits.changed
        broker.paging.limit_to(limits.memory_budget_bytes)
        memory_limit_bytes = limits.memory_high_water_bytes
        used_bytes = resident_bytes()
        if used_bytes > memory_limit_bytes:  # what the C library keeps though nobody uses it must not count
            give_memory_back()
            used_bytes = resident_bytes()
        is_low = used_bytes > memory_limit_bytes
        broker.set_alarm(Resource.MEMORY, is_low)
        if limits.note_memory(is_low):
            _log(Resource.MEMORY, is_low, bytes=used_bytes, limit_bytes=memory_limit_bytes)
        if flusher is not None:
            limit_bytes = limits.disk_free_limit_bytes
            free_bytes = shutil.disk_usage(settings.data_dir).free
            is_disk_low, store = free_bytes < limit_bytes, store_status()
            is_low = is_disk_low or flusher.is_disk_full or (store is not None and store["is_low"])
            if is_low:
                is_of_store = not is_disk_low
            flusher.backlog.room_bytes = min((free_bytes - limit_bytes) // 2, broker.paging.budget_bytes // 2)
            if store is not None and is_of_store:
                used = {"bytes": store["used_bytes"], "quota_bytes": store["quota_bytes"]}
                _set_disk(broker, is_low, of=store["name"], **used)
            else:
                _set_disk(broker, is_low, bytes=free_bytes, limit_bytes=limit_bytes)
        with trio.move_on_after(settings.resource_check_ms / 1000):
            await changed.wait()


def with_memory_limits(settings: Settings, available: MemoryLimit) -> Settings:
    """The settings with a high-water mark and a budget of memory in bytes, where they have none."""
    high_water_bytes = settings.memory_high_water_bytes or int(available.size_bytes * MEMORY_HIGH_WATER_SHARE)
    budget_bytes = settings.memory_budget_bytes or min(
        int(available.size_bytes * MEMORY_BUDGET_SHARE),
        int(high_water_bytes * BUDGET_SHARE_OF_HIGH_WATER),
    )
    return replace(settings, memory_high_water_bytes=high_water_bytes, memory_budget_bytes=budget_bytes)


def memory_limits_without_effect(settings: Settings, available: MemoryLimit) -> list[tuple[str, str]]:
    """The limits on memory that were chosen and change nothing on this machine, each with the reason.

    Args:
        settings: as they were chosen, before ``with_memory_limits``.
    """
    found = []
    if settings.memory_high_water_bytes > available.size_bytes:
        reason = f"there are {available.size_bytes} bytes ({available.set_by}): publishers are never held back"
        found.append(("memory_high_water_bytes", reason))
    high_water_bytes = with_memory_limits(settings, available).memory_high_water_bytes
    if settings.memory_budget_bytes >= high_water_bytes:
        reason = f"publishers are held back above {high_water_bytes} bytes already (memory_high_water_bytes)"
        found.append(("memory_budget_bytes", reason))
    return found


def memory_status(settings: Settings, available: MemoryLimit, limits: ResourceLimits) -> MemoryStatus:
    """What is used of the memory, and the limits in force."""
    return MemoryStatus(
        used_bytes=resident_bytes(),
        available_bytes=available.size_bytes,
        available_by=available.set_by,
        high_water_bytes=limits.memory_high_water_bytes,
        budget_bytes=limits.memory_budget_bytes,
    )


def disk_status(data_folder: Path, limits: ResourceLimits) -> DiskStatus:
    """What is free on the data folder's disk, and the limit in force."""
    return DiskStatus(free_bytes=shutil.disk_usage(data_folder).free, limit_bytes=limits.disk_free_limit_bytes)


def descriptor_status() -> DescriptorStatus:
    """How many descriptors are in use, and the limit in force; may take some milliseconds where they are many."""
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        used = 0
    return DescriptorStatus(used=used, limit=descriptors_limit())


def _set_disk(broker: Broker, is_low: bool, **measured: str | int) -> None:
    if broker.set_alarm(Resource.DISK, is_low):
        _log(Resource.DISK, is_low, **measured)


def _log(resource: Resource, is_low: bool, **measured: str | int) -> None:
    log_event(logging.WARNING, "alarm raised" if is_low else "alarm cleared", resource=resource, **measured)


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
