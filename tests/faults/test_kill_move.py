"""A broker that is killed with SIGKILL while it moves messages: afterwards each is in one of the two queues, once.

The kills come at moments all over the move, measured on one that is left alone.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pika
import pytest

from amqp_broker.server.control_address import SOCKET_NAME, reachable_address
from tests.faults.broker_process import BrokerProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets for Python"),
]

KILLS = int(os.environ.get("FAULTS_KILLS", "2"))
COUNT = 1500


def fill(broker: BrokerProcess) -> None:
    connection = broker.connect()
    channel = connection.channel()
    for queue in ("a", "b"):
        channel.queue_declare(queue, durable=True)
    channel.tx_select()
    for number in range(COUNT):
        channel.basic_publish("", "a", b"%d" % number, pika.BasicProperties(delivery_mode=2))
    channel.tx_commit()
    connection.close()


def numbers(broker: BrokerProcess, queue: str) -> list[int]:
    """What is in a queue; it is left there."""
    connection = broker.connect()
    channel = connection.channel()
    found = []
    while (got := channel.basic_get(queue))[0] is not None:
        found.append(int(got[2]))
    connection.close()
    return found


def move(data: Path, source: str, target: str, patience_s: float | None) -> dict[str, object] | None:
    """Have all be moved; returns the answer, or None when it does not come in time."""
    request = {"command": "queues.move", "arguments": {"vhost": "/", "name": source, "to": target}}
    with reachable_address(data / SOCKET_NAME) as address, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(json.dumps(request).encode() + b"\n")
        connection.settimeout(patience_s)
        answer = b""
        try:
            while b'"result"' not in answer:
                answer += connection.recv(65_536)
        except TimeoutError:
            return None
    result: dict[str, object] = json.loads(answer.splitlines()[-1])["result"]
    return result


def test_each_message_is_in_one_place(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    broker = BrokerProcess(data, log=log).ready()
    fill(broker)
    began_s = time.monotonic()
    assert move(data, "a", "b", None) is not None
    lasting_s = time.monotonic() - began_s
    source, target = "b", "a"
    for attempt in range(1, KILLS + 1):
        answer = move(data, source, target, lasting_s * attempt / (KILLS + 1))
        broker.kill()
        broker = BrokerProcess(data, log=log).ready()
        left, moved = numbers(broker, source), numbers(broker, target)
        assert sorted(left + moved) == list(range(COUNT)), f"after kill {attempt}"
        assert answer is None or not left
        if len(moved) > len(left):
            source, target = target, source
    broker.end()
