"""A disk of its own for a test, in a file, whose machine can lose its power: ext4 over a loop device.

Power is lost by ext4's shutdown: from one moment to the next nothing more is written, what is in memory and what stands
in a transaction of its log that is not complete included. Needs the rights of root, and e2fsprogs.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

SHUTDOWN: Final = 0x8004587D  # EXT4_IOC_SHUTDOWN, linux/fs/ext4/ext4.h
WITHOUT_ITS_LOG: Final = 2


class LoopVolume:
    """One disk, mounted.

    Args:
        path: where; an empty folder, made when it is not there.
        size_bytes: how large it may grow.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._image = path.with_name(path.name + ".image")
        path.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(size_bytes)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()

    def _mount(self) -> None:
        # A device of its own each time: the one before is kept by whoever has copied the mounts meanwhile.
        device = _run("losetup", "--find", "--show", str(self._image)).strip()
        try:
            _run("mount", device, str(self.path))
        finally:
            _run("losetup", "--detach", device)  # as soon as it is not mounted any more

    def lose_power(self) -> None:
        """From now on nothing is written, and nothing can be read that is not in memory."""
        root = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(root, SHUTDOWN, struct.pack("I", WITHOUT_ITS_LOG))
        finally:
            os.close(root)

    def start_again(self) -> None:
        """The machine is on again; whoever used the disk must have ended."""
        _run("umount", str(self.path))
        self._mount()

    def close(self) -> None:
        """It is gone, with all that was on it."""
        with suppress(subprocess.CalledProcessError):
            _run("umount", str(self.path))
        self._image.unlink()


def are_possible(folder: Path) -> bool:
    """Whether this process may have such disks; tried in a folder."""
    if shutil.which("mkfs.ext4") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    try:
        volume = LoopVolume(folder / "tried", 8_388_608)
    except (OSError, subprocess.CalledProcessError):
        return False
    try:
        volume.lose_power()
    except OSError:
        return False
    finally:
        volume.close()
    return True


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
