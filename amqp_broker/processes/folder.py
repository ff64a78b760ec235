"""The data folder of several processes: whose folder is where, and which virtual hosts are in it.

The root, process 0, has the journal that a broker of one process has; each other one has a folder of its own below
``processes``, beside the directory, which says whose each virtual host is. A virtual host that the root has and the
directory does not know was made by a broker of one process, and stays the root's.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import trio

from amqp_broker.explanations import system_reason
from amqp_broker.server.data_folder import PROCESSES_FOLDER_NAME, CannotUseDataFolder, cannot_use
from amqp_broker.server.journal_folder import JOURNAL_FOLDER_NAME
from amqp_broker.server.sharding.directory import BadDirectory, Directory, Place
from amqp_broker.server.sharding.shards import ROOT
from amqp_broker.server.sharding.sharing import DirectoryUnavailable, Kept

DIRECTORY_NAME: Final = "directory"
_REVISION: Final = 1  # of whatever stands in the file: the root alone writes it


def folder_of(data_folder: Path, number: int) -> Path:
    """The folder that holds a process's link and, but for the root, its journal."""
    return data_folder / PROCESSES_FOLDER_NAME / str(number)


def directory_path(data_folder: Path) -> Path:
    """The directory's file."""
    return data_folder / PROCESSES_FOLDER_NAME / DIRECTORY_NAME


def read_directory(data_folder: Path) -> Directory:
    """The directory as it is on disk; an empty one where there is none.

    Raises:
        CannotUseDataFolder: it cannot be read.
    """
    try:
        return Directory.decode(directory_path(data_folder).read_bytes())
    except FileNotFoundError:
        return Directory()
    except OSError as error:
        raise cannot_use(data_folder, error) from error
    except BadDirectory as error:
        raise CannotUseDataFolder(f"data folder {data_folder} cannot be used: {error}") from error


def check_processes(data_folder: Path, count: int) -> None:
    """See that every virtual host has its process among so many, and that no journal is missing that has some.

    Raises:
        CannotUseDataFolder: one has not; or it cannot be known.
    """
    places = read_directory(data_folder).places
    _check_journals(data_folder, places)
    needed = max((place.shard for place in places.values()), default=ROOT) + 1
    if needed > count:
        names = sorted(name for name, place in places.items() if place.shard >= count)
        which = f"virtual host{'s' if names[1:] else ''} {', '.join(map(repr, names))}"
        raise CannotUseDataFolder(
            f"data folder {data_folder} was used by {needed} processes, and this broker has {count}: {which} would be "
            f"missing: start with --processes {needed}; to use fewer, delete what is missing "
            "there first (GET /api/definitions and a shovel take along what is in it)"
        )


def _check_journals(data_folder: Path, places: Mapping[str, Place]) -> None:
    """See that neither the directory nor the root's journal is gone: all virtual hosts elsewhere would be deleted."""
    directory = directory_path(data_folder)
    journals = sorted(str(one) for one in directory.parent.glob(f"[1-9]*/{JOURNAL_FOLDER_NAME}"))
    if journals and not directory.exists():
        raise CannotUseDataFolder(
            f"data folder {data_folder} cannot be used: {directory} is missing, which says whose the virtual hosts in "
            f"{', '.join(journals)} are: restore it from the backup, or move {directory.parent} away to begin without "
            "them"
        )
    names = sorted(name for name, place in places.items() if place.shard != ROOT)
    journal = data_folder / JOURNAL_FOLDER_NAME
    if names and not (journal.is_dir() and any(journal.iterdir())):
        which = f"virtual host{'s' if names[1:] else ''} {', '.join(map(repr, names))}"
        raise CannotUseDataFolder(
            f"data folder {data_folder} cannot be used: the journal in {journal} is missing, without which {which} "
            f"would be deleted: restore it from the backup, or move {directory.parent} away to begin without them"
        )


def make_folders(data_folder: Path, count: int) -> None:
    """Make the folder of each process, and a directory where there is none.

    Raises:
        CannotUseDataFolder: the system refuses it.
    """
    directory = directory_path(data_folder)
    try:
        directory.parent.mkdir(exist_ok=True, mode=0o700)
        if not directory.exists():  # before any process has a journal
            write_directory(data_folder, Directory().encode())
        for number in range(count):
            folder_of(data_folder, number).mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise cannot_use(data_folder, error) from error


def keep_at_root(data_folder: Path, virtual_hosts: list[str]) -> None:
    """Have the directory know these virtual hosts, which the root has at its start; new ones are the root's.

    Raises:
        CannotUseDataFolder: the file cannot be read or written.
    """
    found = read_directory(data_folder)
    directory = found.with_places(virtual_hosts, ROOT)
    if directory is not found:
        try:
            write_directory(data_folder, directory.encode())
        except OSError as error:
            raise cannot_use(data_folder, error) from error


def write_directory(data_folder: Path, value: bytes) -> None:
    """Put a value in the file's place, whole or not at all; it is on the disk when this returns.

    Raises:
        OSError: the system refuses it; the file is as it was.
    """
    path = directory_path(data_folder)
    beside = path.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        rest = memoryview(value)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class DirectoryFile:
    """The directory's place, for ``sharing.py``.

    Args:
        data_folder: of the broker.
        announce: has the other processes agree with what was written; returns when they do.
    """

    def __init__(self, data_folder: Path, announce: Callable[[], Awaitable[None]]) -> None:
        self._data_folder = data_folder
        self._announce = announce
        self._is_announced = False

    async def follow(self, take: Callable[[bytes], None], tell: Callable[[], None]) -> None:
        """Nothing, until cancelled: whoever writes it has the others read it."""
        await trio.sleep_forever()

    async def read(self) -> Kept | None:
        """What stands there now; None where nothing does.

        Raises:
            DirectoryUnavailable: the system refuses it.
        """
        await trio.lowlevel.checkpoint()
        try:
            return Kept(directory_path(self._data_folder).read_bytes(), _REVISION)  # small, and in memory
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DirectoryUnavailable(system_reason(error)) from error

    async def replace(self, value: bytes, revision: int, claim: bytes) -> int | None:
        """Write a value.

        Raises:
            DirectoryUnavailable: the system refuses it; it may stand there all the same.
        """
        self._is_announced = False
        try:
            await trio.to_thread.run_sync(write_directory, self._data_folder, value)
        except OSError as error:
            raise DirectoryUnavailable(system_reason(error)) from error
        return _REVISION

    async def announce(self) -> None:
        """Have the others agree with what stands there, if they were not told of it by this process."""
        if not self._is_announced:
            await self._announce()
            self._is_announced = True
