"""A real broker killed with SIGKILL while a STOMP client sends: what it has a receipt for is there, transactions are
whole, and what was acknowledged with a receipt is gone.

With ``FAULTS_PROCESSES=2`` the process that owns the virtual host is killed, and another one goes on.
"""

from __future__ import annotations

import os
import random
import re
import socket
import time
from pathlib import Path

import pytest

from tests.faults.broker_process import BrokerProcess, start_one_or_several
from tests.support.stomp_client import frame_bytes

KILLS = int(os.environ.get("FAULTS_KILLS", "3"))
KILL_AFTER_S = (0.05, 0.3)
AHEAD_MAX = 20
PATIENCE_S = 60.0
CONNECT = frame_bytes("CONNECT", login="guest", passcode="guest", accept_version="1.2")


class Sender:
    """Sends the same number to two queues in a transaction, and asks for a receipt of each COMMIT."""

    def __init__(self) -> None:
        self.sent = 0
        self.kept: set[int] = set()

    def run(self, port: int, until_s: float) -> None:
        """Go on until then; the broker is killed meanwhile."""
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
            client.sendall(CONNECT)
            client.settimeout(0.01)
            data, ahead = b"", 0
            while time.monotonic() < until_s:
                while ahead < AHEAD_MAX:
                    self.sent += 1
                    ahead += 1
                    client.sendall(transaction(self.sent))
                try:
                    data += client.recv(65_536)
                except TimeoutError:
                    continue
                *whole, data = data.split(b"\0")
                receipts = {int(one) for frame in whole for one in re.findall(rb"receipt-id:(\d+)", frame)}
                self.kept |= receipts
                ahead -= len(receipts)


def transaction(number: int) -> bytes:
    """Its frames."""
    name = f"t{number}"
    body = b"%d" % number
    sends = [
        frame_bytes("SEND", body, destination=f"/queue/{queue}", persistent="true", transaction=name)
        for queue in ("one", "other")
    ]
    begin, commit = frame_bytes("BEGIN", transaction=name), frame_bytes("COMMIT", transaction=name, receipt=str(number))
    return begin + b"".join(sends) + commit


def taken(port: int, queue: str) -> list[int]:
    """All that is in a queue, taken out of it with a receipt for the last acknowledgement."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
        client.sendall(CONNECT + frame_bytes("SUBSCRIBE", destination=f"/queue/{queue}", id="s", ack="client"))
        client.sendall(frame_bytes("SEND", b"last", destination=f"/queue/{queue}"))
        data = b""
        while not data.endswith(b"\n\nlast\0\n") and not data.endswith(b"\n\nlast\0"):
            some = client.recv(65_536)
            assert some
            data += some
        messages = [frame for frame in data.split(b"\0") if frame.lstrip(b"\n").startswith(b"MESSAGE")]
        ids = re.findall(rb"\nack:([^\n]+)", messages[-1])
        client.sendall(frame_bytes("ACK", id=ids[0].decode().replace("\\c", ":"), receipt="done"))
        answer = b""
        while b"receipt-id:done" not in answer:  # the end of the last message may come before it
            some = client.recv(65_536)
            assert some, answer
            answer += some
        return [int(frame.partition(b"\n\n")[2]) for frame in messages[:-1]]


def port_of(broker: BrokerProcess) -> int:
    found = re.search(r"stomp://\S*?:(\d+)", broker.said)
    assert found is not None
    return int(found.group(1))


@pytest.mark.slow
def test_what_a_client_has_a_receipt_for_survives_however_often_the_broker_is_killed(tmp_path: Path) -> None:
    moments, sender = random.Random(11), Sender()
    got: list[int] = []
    broker = start_one_or_several(tmp_path / "data", log=tmp_path / "log", stomp_port=0)
    for life in range(KILLS):
        sender.run(port_of(broker), time.monotonic() + moments.uniform(*KILL_AFTER_S))
        broker = broker.kill_and_start()
        one = taken(port_of(broker), "one")
        broker = broker.kill_and_start()  # nothing of it comes back: the acknowledgement had its receipt
        assert taken(port_of(broker), "one") == []
        assert taken(port_of(broker), "other") == one, f"half a transaction in life {life}"
        got += one
    assert broker.end() == 0
    assert sender.kept
    assert sender.kept <= set(got)
    assert got == sorted(set(got))
