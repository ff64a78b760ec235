"""``python -m benchmarks.cluster_storm``: the owner of a cluster is killed, and all its clients come back, over TLS.

Three nodes and three members of etcd on the loopback; the clients, each a TLS handshake, a login and an open channel,
are spread over the nodes, and all of them lose their connection when the owner dies. Each tries the next node 0.1 s
after a failure. What is measured is when the first, the median and the last of them has its channel again. Clients and
nodes share the machine's processors, and the handshakes of the clients cost about as much as those of the nodes.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import ssl
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import trio
import trustme
from pamqp import commands, frame

from tests.support.cluster_processes import ClusterOfThree

PAUSE_S = 0.1
PATIENCE_S = 120.0
FILES_BESIDE = 100  # that this process has open anyway
READ_BYTES = 65_536
AMQP_HEADER = b"AMQP\0\0\x09\x01"
STEPS = (
    AMQP_HEADER,
    frame.marshal(commands.Connection.StartOk({"capabilities": {}}, "PLAIN", "\0guest\0guest", "en_US"), 0),
    frame.marshal(commands.Connection.TuneOk(2047, 131_072, 0), 0)
    + frame.marshal(commands.Connection.Open("/"), 0)
    + frame.marshal(commands.Channel.Open(), 1),
)
CHANNEL_OPEN_OK = b"\x00\x14\x00\x0b"


@dataclass
class Storm:
    """What has come of the clients so far.

    Args:
        ports: of the nodes, for TLS.
        context: of the clients.
    """

    ports: list[int]
    context: ssl.SSLContext
    opened: int = 0
    killed_s: float = 0.0
    again_s: list[float] = field(default_factory=list)
    failures: int = 0
    changed: trio.Event = field(default_factory=trio.Event)

    async def client(self, number: int) -> None:
        """One client, for good."""
        while True:
            try:
                await self._be_connected(self.ports[number % len(self.ports)])
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                self.failures += 1
            number += 1
            await trio.sleep(PAUSE_S)

    async def _be_connected(self, port: int) -> None:
        stream = trio.SSLStream(
            await trio.open_tcp_stream("127.0.0.1", port), self.context, server_hostname="localhost"
        )
        try:
            said = b""
            for step in STEPS:
                await stream.send_all(step)
                said = bytes(await stream.receive_some(READ_BYTES))
            while said and CHANNEL_OPEN_OK not in said:
                more = bytes(await stream.receive_some(READ_BYTES))
                said = said + more if more else b""
            if not said:
                raise trio.BrokenResourceError
            self._count()
            while await stream.receive_some(READ_BYTES):
                pass
        finally:
            await trio.aclose_forcefully(stream)

    def _count(self) -> None:
        if self.killed_s:
            self.again_s.append(time.monotonic() - self.killed_s)
        else:
            self.opened += 1
        self.changed.set()
        self.changed = trio.Event()

    async def until_back(self, count: int) -> None:
        """Return when so many have come, or come back where the owner was killed."""
        while (len(self.again_s) if self.killed_s else self.opened) < count:
            await self.changed.wait()


def certificate(folder: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    """A certificate for the nodes: the settings that name it, and clients that trust it."""
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    key, chain = folder / "key.pem", folder / "certificate.pem"
    server.private_key_pem.write_to_path(key)
    for number, one in enumerate(server.cert_chain_pems):
        one.write_to_path(chain, append=number > 0)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    names = {"CERTIFICATE": str(chain), "KEY": str(key), "PORT": "0"}
    return {f"AMQP_BROKER_TLS_{name}": value for name, value in names.items()}, context


async def measure(cluster: ClusterOfThree, context: ssl.SSLContext, count: int) -> None:
    """Have the clients come, kill the owner, and say when they are back."""
    cluster.wait_for_standbys()
    owner = cluster.owner()
    ports = [int(re.findall(r"amqps://[^:]*:(\d+)", node.log)[0]) for node in cluster.nodes]
    storm = Storm(ports, context)
    async with trio.open_nursery() as nursery:
        began_s = time.monotonic()
        for number in range(count):
            nursery.start_soon(storm.client, number)
        with trio.fail_after(PATIENCE_S):
            await storm.until_back(count)
        print(f"{count} clients came in {time.monotonic() - began_s:.1f} s", flush=True)
        storm.failures = 0
        storm.killed_s = time.monotonic()
        owner.process.kill()
        with trio.move_on_after(PATIENCE_S):
            await storm.until_back(count)
        nursery.cancel_scope.cancel()
    again_s = sorted(storm.again_s)
    if len(again_s) < count:
        sys.exit(f"only {len(again_s)} of {count} came back within {PATIENCE_S:g} s")
    first, half, last = again_s[0], again_s[count // 2], again_s[-1]
    print(f"back after kill -9 of the owner: first {first:.2f} s, half {half:.2f} s, all {last:.2f} s")
    print(f"{storm.failures} tries had failed; load of the machine {os.getloadavg()[0]:.1f}")


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser("python -m benchmarks.cluster_storm", description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    count = parser.parse_args().clients
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files_max < count + FILES_BESIDE:
        sys.exit(
            f"{count} clients need as many open files, the system allows {files_max}: ulimit -n, or fewer --clients"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))
    with tempfile.TemporaryDirectory(prefix="amqp-broker-storm-") as name:
        settings, context = certificate(Path(name))
        cluster = ClusterOfThree(Path(name), 3, environment=settings)
        try:
            trio.run(measure, cluster, context, count)
        finally:
            cluster.end()


if __name__ == "__main__":
    main()
