"""Three members of etcd and three nodes of one broker on this machine, until Ctrl-C.

    python run.py

Needs etcd on the path (Debian: etcd-server) and the extra: pip install 'amqp-broker-server[cluster]'. Clients connect
to any of the ports 5672, 5673 and 5674; kill a node, and watch them come back through another one. Each member and
node has a folder below ./cluster-example, with its log.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("cluster-example")
NAMES = ("a", "b", "c")
ETCD_PORTS = {"a": 2379, "b": 2479, "c": 2579}
PEER_PORTS = {"a": 2380, "b": 2480, "c": 2580}
PORTS = {"a": 5672, "b": 5673, "c": 5674}
LINK_PORTS = {"a": 25672, "b": 25673, "c": 25674}
HTTP_PORTS = {"a": 15672, "b": 15673, "c": 15674}


def start(name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def start_etcd(name: str) -> subprocess.Popen[bytes]:
    members = ",".join(f"{one}=http://127.0.0.1:{PEER_PORTS[one]}" for one in NAMES)
    client, peer = f"http://127.0.0.1:{ETCD_PORTS[name]}", f"http://127.0.0.1:{PEER_PORTS[name]}"
    command = ["etcd", "--name", name, "--data-dir", str(FOLDER / f"etcd-{name}" / "data")]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client]
    command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    command += ["--initial-cluster", members, "--initial-cluster-state", "new", "--snapshot-count", "1000"]
    return start(f"etcd-{name}", command, dict(os.environ))


def start_node(name: str, secret: str) -> subprocess.Popen[bytes]:
    etcd = ",".join(f"127.0.0.1:{ETCD_PORTS[one]}" for one in NAMES)
    command = [sys.executable, "-m", "amqp_broker", "serve", "--port", str(PORTS[name]), "--node-name", name]
    command += ["--data-dir", str(FOLDER / f"node-{name}"), "--cluster", f"etcd://{etcd}/example"]
    environment = {
        **os.environ,
        "AMQP_BROKER_CLUSTER_SECRET": secret,
        "AMQP_BROKER_LINK_PORT": str(LINK_PORTS[name]),
        "AMQP_BROKER_MANAGEMENT_PORT": str(HTTP_PORTS[name]),
        "AMQP_BROKER_METRICS_PORT": "-1",
    }
    return start(f"node-{name}", command, environment)


def main() -> None:
    if shutil.which("etcd") is None:
        sys.exit("etcd is not installed: apt install etcd-server, or see https://etcd.io")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # who ends this in another way ends the nodes as well
    secret = secrets.token_hex(16)
    processes = {f"etcd-{name}": start_etcd(name) for name in NAMES}
    processes |= {f"node-{name}": start_node(name, secret) for name in NAMES}
    print(f"three nodes: amqp://localhost:{', '.join(map(str, PORTS.values()))}; logs are below {FOLDER}/")
    print(f"look: amqp-broker cluster status --data-dir {FOLDER / 'node-a'}")
    print(
        f"kill one: kill -9 {processes['node-a'].pid} (a), {processes['node-b'].pid} (b), "
        f"{processes['node-c'].pid} (c)    Ctrl-C ends all",
        flush=True,
    )
    try:
        ended: set[str] = set()
        while True:
            time.sleep(1)
            for name in {name for name, process in processes.items() if process.poll() is not None} - ended:
                ended.add(name)
                print(f"{name} has ended: {FOLDER / name / 'log'} says why, unless it was killed", flush=True)
    except KeyboardInterrupt:
        pass
    for kind in ("node", "etcd"):  # nodes first: they let their clients go, and write the last of the journal
        ending = [process for name, process in processes.items() if name.startswith(kind)]
        for process in ending:
            process.send_signal(signal.SIGTERM)
        for process in ending:
            process.wait(30)


if __name__ == "__main__":
    main()
