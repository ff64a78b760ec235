"""etcd in a folder and on ports of its own, for tests; they skip where it is not installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from interop.brokers import free_ports as interop_free_ports
from interop.brokers import start_process

ETCD = shutil.which("etcd")
START_TIMEOUT_S = 120.0


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on now, and that no connection goes out from meanwhile."""
    return interop_free_ports(count)


def free_pairs(count: int) -> list[int]:
    """The first of two such ports that follow each other, of so many pairs."""
    found: list[int] = []
    while len(found) < count:
        (first,) = free_ports(1)
        with socket.socket() as second, contextlib.suppress(OSError):
            second.bind(("127.0.0.1", first + 1))
            if all(abs(first - other) > 1 for other in found):
                found.append(first)
    return found


class EtcdMember:
    """One member.

    Args:
        folder: for its data; made when it is not there.
        name: its name among the members.
        client_port: where it answers calls.
        peer_ports: of all members, its own included, by their names.
        options: more of etcd's command line.
        hosts: where the members are, by their names; all on the loopback when left out.
        within: what its command begins with, to run somewhere else.
        scheme: of the URL that clients use.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        client_port: int,
        peer_ports: dict[str, int],
        options: Sequence[str] = (),
        hosts: dict[str, str] | None = None,
        within: Sequence[str] = (),
        scheme: str = "http",
    ) -> None:
        self.name = name
        self._scheme = scheme
        self.client_port = client_port
        self._hosts = hosts or dict.fromkeys(peer_ports, "127.0.0.1")
        self.host = self._hosts[name]
        self._within = list(within)
        self._folder = folder
        self._peer_ports = peer_ports
        self._options = list(options)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, again after a stop; ``wait_until_ready`` says when it answers."""
        assert ETCD is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        peer = f"http://{self.host}:{self._peer_ports[self.name]}"
        client = f"{self._scheme}://{self.host}:{self.client_port}"
        members = ",".join(f"{name}=http://{self._hosts[name]}:{port}" for name, port in self._peer_ports.items())
        log = (self._folder / "log").open("ab")
        with log:
            self.process = start_process(
                [
                    *self._within,
                    ETCD,
                    *("--name", self.name, "--data-dir", str(self._folder / "data")),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--initial-cluster", members, "--initial-cluster-state", "new"),
                    *("--heartbeat-interval", "100", "--election-timeout", "1000"),
                    *("--snapshot-count", "1000"),
                    *self._options,
                ],
                os.environ,
                log,
            )

    def wait_until_ready(self) -> None:
        """Wait until its port answers."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"etcd ended: {(self._folder / 'log').read_text()[-2000:]}")
            try:
                socket.create_connection((self.host, self.client_port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        """End it without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def one_member(folder: Path, options: Sequence[str] = ()) -> EtcdMember:
    """A cluster of one, ready."""
    client_port, peer_port = free_ports(2)
    member = EtcdMember(folder, "one", client_port, {"one": peer_port}, options)
    member.wait_until_ready()
    return member
