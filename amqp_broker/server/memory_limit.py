"""The memory that this process may have: what the machine has, or less where a control group says so.

A container's limit is a control group's (cgroups(7)). Version 2 has one tree with ``memory.max`` and ``memory.high`` in
each group, version 1 a tree for memory alone with ``memory.limit_in_bytes``; a process is bound by its own group and by
all above it, as far up as can be seen. Beyond such a limit the kernel kills, so the least of all counts.

Does not measure what is used, nor decide what to do about it; that is ``resources.py``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

ROOT = Path("/")
_FILES = {"cgroup2": ("memory.max", "memory.high"), "cgroup": ("memory.limit_in_bytes",)}


class MemoryLimit(NamedTuple):
    """The memory limit in bytes, and what it is that sets it, for people."""

    size_bytes: int
    set_by: str


class _Mount(NamedTuple):
    """A mounted tree of control groups."""

    kind: str  # cgroup or cgroup2
    root: PurePosixPath  # the group that is seen at the mount point
    point: PurePosixPath


def available_memory(root: Path = ROOT) -> MemoryLimit:
    """The memory that this process may have.

    Args:
        root: of the file system that is asked; a test has one of its own.
    """
    limit = MemoryLimit(machine_memory_bytes(), "the machine's memory")
    for file, size_bytes in _group_limits(root):
        if size_bytes < limit.size_bytes:
            limit = MemoryLimit(size_bytes, f"the limit in {file}")
    return limit


def machine_memory_bytes() -> int:
    """The machine's memory; where the system does not tell, more than there can be."""
    if sys.platform == "win32":
        return sys.maxsize
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _group_limits(root: Path) -> Iterator[tuple[PurePosixPath, int]]:
    """Every limit on this process's memory, with the file that it stands in."""
    groups = _groups(_read(root / "proc/self/cgroup"))
    for mount in _mounts(_read(root / "proc/self/mountinfo")):
        group = groups.get(mount.kind)
        if group is None:
            continue
        for folder in _folders(mount, group):
            for name in _FILES[mount.kind]:
                text = _read(root / str(folder / name).lstrip("/")).strip()
                if text.isdigit():  # else there is no such file, or it says "max"
                    yield folder / name, int(text)


def _groups(text: str) -> dict[str, PurePosixPath]:
    """The groups that this process is in, by the kind of tree: lines of ``number:controllers:path``."""
    groups = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            groups["cgroup2"] = PurePosixPath(path)
        elif "memory" in controllers.split(","):
            groups["cgroup"] = PurePosixPath(path)
    return groups


def _mounts(text: str) -> Iterator[_Mount]:
    """The trees that can limit memory: lines as in proc(5), "mountinfo"."""
    for line in text.splitlines():
        mounted, _, file_system = line.partition(" - ")
        fields, kind_and_options = mounted.split(" "), file_system.split(" ")
        if len(fields) < 5 or len(kind_and_options) < 3 or kind_and_options[0] not in _FILES:
            continue
        kind, options = kind_and_options[0], kind_and_options[2].split(",")
        if kind == "cgroup2" or "memory" in options:
            yield _Mount(kind, PurePosixPath(_unescaped(fields[3])), PurePosixPath(_unescaped(fields[4])))


def _folders(mount: _Mount, group: PurePosixPath) -> Iterator[PurePosixPath]:
    """Where a group's limits stand, and those of all groups above it that can be seen.

    In a container the path may be that of the machine, of which only the last part is mounted.
    """
    below = group.relative_to(mount.root) if group.is_relative_to(mount.root) else PurePosixPath()
    folder = mount.point / below
    yield folder
    while folder != mount.point:
        folder = folder.parent
        yield folder


def _read(path: Path) -> str:
    """What a file says; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)
