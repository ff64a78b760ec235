"""Machines for tests: network namespaces of Linux that are joined by a bridge, and the ways between them cut.

The test itself moves into a namespace that holds the bridge, for as long as the `Network` is open; what it starts is
there too, or in that of a machine. Nothing outside is touched. Needs the rights of root, iproute2 and
util-linux.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable

CLONE_NEWNET = 0x40000000
NOBODY = "02:00:00:00:00:fe"  # a hardware address that no machine has


def are_possible() -> bool:
    """Whether this process may make namespaces."""
    return all(map(shutil.which, ("ip", "nsenter"))) and hasattr(os, "geteuid") and os.geteuid() == 0


class Network:
    """A few machines.

    Args:
        names: of the machines.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        _check(_libc().unshare(CLONE_NEWNET))
        self._cuts: set[tuple[str, str]] = set()
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "bridge", "type", "bridge")
        _ip("addr", "add", "10.77.0.1/24", "dev", "bridge")
        _ip("link", "set", "bridge", "up")
        for name in self._names:
            self._add(name)

    def _add(self, name: str) -> None:
        space, place = self._space(name), self._names.index(name)
        _ip("netns", "add", space)
        _ip("link", "add", f"to{place}", "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", f"to{place}", "master", "bridge", "up")
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", space, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")

    @staticmethod
    def _space(name: str) -> str:
        return f"amqp-broker-{os.getpid()}-{name}"

    def address(self, name: str) -> str:
        """Where a machine is reached."""
        return f"10.77.0.{self._names.index(name) + 11}"

    def command(self, name: str) -> list[str]:
        """What a command begins with that is to run on a machine."""
        return ["nsenter", f"--net=/run/netns/{self._space(name)}"]  # not ip, which gives it mounts of its own as well

    def cut(self, source: str, target: str) -> None:
        """From now on nothing that one machine sends reaches the other; nobody is told."""
        self._cuts.add((source, target))
        arguments = ("lladdr", NOBODY, "dev", "eth0", "nud", "permanent")
        _ip("-n", self._space(source), "neigh", "replace", self.address(target), *arguments)

    def heal(self) -> None:
        """All ways are open again."""
        for source, target in self._cuts:
            _ip("-n", self._space(source), "neigh", "del", self.address(target), "dev", "eth0")
        self._cuts.clear()

    def close(self) -> None:
        """The test is back where it came from; what runs on a machine must have ended."""
        for name in self._names:
            _ip("netns", "del", self._space(name))
        _check(_libc().setns(self._home, CLONE_NEWNET))
        os.close(self._home)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
