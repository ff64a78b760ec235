"""``examples/cluster/run.py`` as its reader runs it, in a network of its own, since its ports are the usual ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interop.brokers import our_environment
from tests.cluster.test_commands import until
from tests.support import namespaces
from tests.support.command_line import run as command
from tests.support.etcd_process import ETCD

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cluster" / "run.py"
ENDS_WITHIN_S = 60
NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)"),
    pytest.mark.skipif(not namespaces.are_possible() or not shutil.which("unshare"), reason="needs the rights of root"),
]


def test_one_command_is_three_nodes_and_one_may_be_killed(tmp_path: Path) -> None:
    def status() -> dict[str, Any]:
        done = command("cluster", "status", "--json", "--data-dir", str(tmp_path / "cluster-example" / f"node-{asked}"))
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {"nodes": [], "owner": None}

    def is_whole(count: int) -> bool:
        said = status()
        return len(said["nodes"]) == count and said["owner"] is not None

    with (tmp_path / "said").open("wb") as said:
        line = [*NETWORK, sys.executable, "-u", str(EXAMPLE)]
        example = subprocess.Popen(line, cwd=tmp_path, env=our_environment(), stdout=said, stderr=said)
    try:
        asked = "a"
        until(lambda: is_whole(3))
        owner = status()["owner"]
        asked = next(name for name in "abc" if name != owner)
        (pid,) = re.findall(rf"(\d+) \({owner}\)", (tmp_path / "said").read_text())
        os.kill(int(pid), signal.SIGKILL)
        until(lambda: is_whole(2) and status()["owner"] != owner)
        until(lambda: f"node-{owner} has ended" in (tmp_path / "said").read_text())
        example.send_signal(signal.SIGINT)
        assert example.wait(ENDS_WITHIN_S) == 0, (tmp_path / "said").read_text()
    finally:
        if example.poll() is None:
            example.send_signal(signal.SIGTERM)
            example.wait(ENDS_WITHIN_S)
