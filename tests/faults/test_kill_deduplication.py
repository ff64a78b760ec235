"""A broker that is killed with SIGKILL while messages go through a deduplicating exchange that keeps what it has seen:
who publishes all of them once more finds each in the queue once.
"""

from __future__ import annotations

import os
from pathlib import Path

import pika
import pika.exceptions
import pytest

from tests.faults.broker_process import BrokerProcess

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("FAULTS_KILLS", "3"))
COUNT = 500


def publish(broker: BrokerProcess, attempt: int, killed_after: int | None = None) -> None:
    """Publish all of them, each with a value of its own; the broker is killed when so many are sent."""
    with broker.connect() as connection:
        channel = connection.channel()
        arguments = {"x-cache-size": 10 * COUNT, "x-cache-persistence": "disk"}
        channel.exchange_declare("once", "x-message-deduplication", durable=True, arguments=arguments)
        channel.queue_declare("q", durable=True)
        channel.queue_bind("q", "once")
        for number in range(COUNT):
            headers = {"x-deduplication-header": f"{attempt}-{number}"}
            channel.basic_publish("once", "", b"%d" % number, pika.BasicProperties(delivery_mode=2, headers=headers))
            if number == killed_after:
                broker.kill()
        channel.confirm_delivery()  # answered when all before it has been handled


def taken(broker: BrokerProcess) -> list[int]:
    """All that is in the queue; when this returns, that it was taken is on the disk."""
    found: list[int] = []
    with broker.connect() as connection:
        channel = connection.channel()
        while (body := channel.basic_get("q", auto_ack=True)[2]) is not None:
            found.append(int(body))
        channel.queue_declare("behind", durable=True)  # answered when that and all before it is durable
        channel.queue_delete("behind")
    return found


def test_each_comes_once(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", log=tmp_path / "log").ready()
    for attempt in range(KILLS):
        with pytest.raises((pika.exceptions.AMQPError, OSError)):
            publish(broker, attempt, killed_after=COUNT * (attempt + 1) // (KILLS + 1))
        broker = BrokerProcess(tmp_path / "data", log=tmp_path / "log").ready()
        publish(broker, attempt)
        assert sorted(taken(broker)) == list(range(COUNT))
    broker.end()
