"""A broker that is killed with SIGKILL while delayed messages come due: each is in one place then, and comes once.

The kills come when some of them have come, and others have not.
"""

from __future__ import annotations

import os
from pathlib import Path

import pika
import pytest

from tests.faults.broker_process import BrokerProcess

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("FAULTS_KILLS", "3"))
COUNT = 300
DUE_WITHIN_MS = 500


def publish(broker: BrokerProcess, queue: str) -> None:
    """Publish messages that are due one after the other, the last ones first; all of them are kept."""
    with broker.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare("later", "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, "later", queue)
        channel.tx_select()
        for number in reversed(range(COUNT)):
            delay_ms = 100 + number * DUE_WITHIN_MS // COUNT
            properties = pika.BasicProperties(delivery_mode=2, headers={"x-delay": delay_ms})
            channel.basic_publish("later", queue, b"%d" % number, properties)
        channel.tx_commit()


def until_there_are(broker: BrokerProcess, queue: str, count: int) -> None:
    """Return when so many of them have come into the queue."""
    with broker.connect() as connection:
        channel = connection.channel()
        while channel.queue_declare(queue, passive=True).method.message_count < count:
            pass


def come(broker: BrokerProcess, queue: str) -> list[int]:
    """All that come, until none is held and none waits."""
    found: list[int] = []
    with broker.connect() as connection:
        channel = connection.channel()
        for _, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=30):
            assert body is not None, f"only {len(found)} came"
            found.append(int(body))
            if len(found) == COUNT:
                break
        channel.cancel()
        assert channel.queue_declare(queue, passive=True).method.message_count == 0, "some came twice"
    return found


def test_each_comes_once(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", log=tmp_path / "log").ready()
    for attempt in range(KILLS):
        queue = f"q{attempt}"
        publish(broker, queue)
        until_there_are(broker, queue, COUNT * attempt // KILLS)
        broker.kill()
        broker = BrokerProcess(tmp_path / "data", log=tmp_path / "log").ready()
        assert sorted(come(broker, queue)) == list(range(COUNT))
    broker.end()
