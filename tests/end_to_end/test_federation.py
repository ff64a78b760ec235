"""Federation between two processes, and what the command line tells of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.support.command_line import OurBroker

QUIET = {"AMQP_BROKER_MANAGEMENT_PORT": "-1", "AMQP_BROKER_METRICS_PORT": "-1"}
PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture
def pair() -> Iterator[list[OurBroker]]:
    """A broker, and one that is upstream of it."""
    brokers = [OurBroker(environment={**QUIET, "AMQP_BROKER_CLUSTER_NAME": name}) for name in ("here", "there")]
    yield brokers
    for broker in brokers:
        broker.stop()


@pytest.fixture
def channels() -> Iterator[Callable[[OurBroker], BlockingChannel]]:
    connections: list[pika.BlockingConnection] = []

    def channel(broker: OurBroker) -> BlockingChannel:
        connections.append(pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.address.port)))
        return connections[-1].channel()

    yield channel
    for connection in connections:
        with suppress(pika.exceptions.AMQPConnectionError):  # the test has ended the broker
            connection.close()


def until(is_so: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def links(broker: OurBroker) -> list[dict[str, Any]]:
    return list(json.loads(broker.ctl("federation", "status", "--json")))


def is_running(broker: OurBroker) -> bool:
    return [one["state"] for one in links(broker)] == ["running"]


def depth(channel: BlockingChannel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)


@pytest.mark.slow
def test_nothing_is_lost_when_either_broker_is_killed(
    pair: list[OurBroker], channels: Callable[[OurBroker], BlockingChannel]
) -> None:
    here, there = pair
    mine = channels(here)
    mine.exchange_declare("f.x", "fanout", durable=True)
    mine.queue_declare("q", durable=True)
    mine.queue_bind("q", "f.x")
    address = f"amqp://guest:guest@127.0.0.1:{there.address.port}"
    upstream = json.dumps({"uri": address, "reconnect-delay": 1, "prefetch-count": 10})
    here.ctl("parameters", "set", "up", upstream, "--component", "federation-upstream")
    here.ctl("policies", "set", "f", "^f", '{"federation-upstream-set":"all"}')
    until(lambda: is_running(here))
    here.ctl("federation", "pause", "up")
    until(lambda: links(here)[0]["state"] == "paused")
    theirs = channels(there)
    theirs.tx_select()
    for number in range(5_000):
        theirs.basic_publish("f.x", "", b"%d" % number, PERSISTENT)
    theirs.tx_commit()
    here.ctl("federation", "resume", "up")
    for broker in (here, there):
        until(lambda: links(here)[0]["forwarded"] > 0)
        broker.kill_and_restart()
    arrived: list[int] = []
    missing = set(range(5_000))
    for _, _, body in channels(here).consume("q", auto_ack=True, inactivity_timeout=60):
        assert body is not None, f"nothing came for 20 s, and {len(missing)} are missing"
        arrived.append(int(body))
        missing.discard(arrived[-1])
        if not missing:
            break
    until(lambda: depth(channels(there), "federation: f.x -> here") == 0)
    assert max(Counter(arrived).values()) <= 3  # what was on its way at a kill, or not yet forgotten, comes once more
    assert address.replace("guest:guest@", "") in json.dumps(links(here))
    shown = here.ctl("federation", "status")
    assert " up " in shown  # the address is shortened, as the width of a terminal wants it
    assert "guest" not in shown + json.dumps(links(here))
    here.ctl("federation", "restart", links(here)[0]["id"])
    until(lambda: is_running(here))
    with pytest.raises(RuntimeError, match="there is no federation link 'none'"):
        here.ctl("federation", "restart", "none")
    assert json.loads(here.ctl("ctl", "federation_status", "--formatter", "json"))[0]["status"] == "running"
