"""The folder that holds the broker's data, and the lock that keeps a second process out of it.

Does not hold what is in the folder; that is the journal's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from amqp_broker.explanations import system_reason

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_FILE_NAME = "lock"
PROCESSES_FOLDER_NAME = "processes"  # what several processes have beside the root's journal (processes/folder.py)


class CannotUseDataFolder(Exception):
    """The data folder cannot be used; the text names it, the reason and the way out."""


def cannot_use(path: Path, error: OSError) -> CannotUseDataFolder:
    """What to raise when the system refuses something in a data folder."""
    place = f" ({error.filename})" if error.filename else ""
    other = "choose another with --data-dir"
    is_there = bool(error.filename) and os.path.lexists(error.filename)
    owner = whose(Path(error.filename) if is_there else path, other) if isinstance(error, PermissionError) else ""
    return CannotUseDataFolder(f"data folder {path} cannot be used: {system_reason(error)}{place}: {owner or other}")


def whose(path: Path, *other_ways_out: str) -> str:
    """Whose it is that the system has refused to this process, and the ways out; "" where it is its own.

    Args:
        path: what was refused; it may be out of sight, or not there yet, and the folder that it is in counts then.
        other_ways_out: told behind the usual ones.
    """
    if sys.platform == "win32":
        return ""
    name, way_in = "it", "have it given to"
    for place in (path, *path.absolute().parents):
        try:
            owner = place.stat().st_uid
        except FileNotFoundError:
            name, way_in = str(place.parent), "have the folder made for"
            continue
        except OSError:
            continue
        if owner == os.geteuid():
            return ""
        theirs, ours = _user_name(owner), _user_name(os.geteuid())
        *ways, last = f"run it as {theirs}", f"{way_in} {ours}", *other_ways_out
        return f"{name} belongs to {theirs}, and this runs as {ours}: {', '.join(ways)}, or {last}"
    return ""


def _user_name(number: int) -> str:
    """The name of a user of this system; the number where there is none, as in containers."""
    if sys.platform == "win32":
        return str(number)
    import pwd  # where something goes wrong only

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def holder_of(path: Path) -> str:
    """The number of the process that holds a data folder; "" when nobody does. Changes nothing.

    Raises:
        OSError: that cannot be found out.
    """
    try:
        descriptor = os.open(path / LOCK_FILE_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return ""
    try:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        # The lock is tried only where a number was left, perhaps by a process that was killed: for this moment no
        # broker could take it.
        return holder if holder and not _try_lock(descriptor) else ""
    finally:
        os.close(descriptor)  # and the lock goes with it


class DataFolder:
    """A data folder, held by this process from ``with`` to the end of its block.

    The lock is the operating system's: it goes with the process, however that ends. The file tells who holds it.

    Args:
        path: the folder; made when it is not there, readable by its owner only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.was_left_open = False  # by the broker before, which did not end as it should
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path / LOCK_FILE_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise cannot_use(self.path, error) from error
        if not _try_lock(descriptor):
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise CannotUseDataFolder(
                f"data folder {self.path} is held by another broker{f' (process {holder})' if holder else ''}: "
                "stop that one, or choose another folder with --data-dir"
            )
        self.was_left_open = os.fstat(descriptor).st_size > 0
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, 1024, os.SEEK_SET)  # past the text: a locked byte cannot be read by others
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
