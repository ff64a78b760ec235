"""Runs a script of node's against a broker that has something to see, and one that speaks MQTT, STOMP and web sockets:
``python -m tests.browser SCRIPT``."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amqp_broker.testing import Broker

HERE = Path(__file__).parent
KEEP_LOOKING_S = 2.0


@contextmanager
def demo() -> Iterator[str]:
    """A broker with something to see; the address of its page."""
    command = [sys.executable, "-m", "tests.browser.demo"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as broker:
        assert broker.stdout is not None
        assert broker.stdin is not None
        address = broker.stdout.readline().strip()
        ended = threading.Event()
        looking = threading.Thread(target=keep_looking, args=(address, ended))
        looking.start()
        try:
            yield address
        finally:
            ended.set()
            looking.join()
            broker.stdin.close()


def keep_looking(address: str, ended: threading.Event) -> None:
    """As long as somebody asks there are rates, from before the first page on."""
    request = urllib.request.Request(f"{address}api/whoami", headers={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="})
    while not ended.wait(KEEP_LOOKING_S):
        with urllib.request.urlopen(request) as answer:
            answer.read()


def main() -> int:
    """Run what the command line names, and return its exit code."""
    with demo() as address, Broker(protocols=["mqtt", "stomp", "web-sockets"]) as broker:
        urls = {
            "PAGE_URL": address,
            "MQTT_URL": broker.mqtt_url,
            "STOMP_URL": broker.stomp_url,
            "WEB_SOCKET_URL": broker.web_socket_url,
        }
        return subprocess.run(["node", *sys.argv[1:]], env=os.environ | urls, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
