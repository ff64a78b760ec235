"""Shovels and ``amqp-broker migrate``, between two brokers and within one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from interop.brokers import our_environment
from tests.support.command_line import OurBroker, run

PERSISTENT = pika.BasicProperties(delivery_mode=2, headers={"number": 1}, message_id="m")


@pytest.fixture
def here() -> Iterator[OurBroker]:
    broker = OurBroker(environment={"AMQP_BROKER_MANAGEMENT_PORT": "0", "AMQP_BROKER_METRICS_PORT": "-1"})
    yield broker
    broker.stop()


@pytest.fixture
def there() -> Iterator[OurBroker]:
    broker = OurBroker(environment={"AMQP_BROKER_MANAGEMENT_PORT": "0", "AMQP_BROKER_METRICS_PORT": "-1"})
    yield broker
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


def publish(channel: BlockingChannel, queue: str, bodies: list[bytes]) -> None:
    channel.queue_declare(queue, durable=True)
    channel.tx_select()
    for body in bodies:
        channel.basic_publish("", queue, body, PERSISTENT)
    channel.tx_commit()


def until(is_so: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def taken(channel: BlockingChannel, queue: str) -> list[bytes]:
    count = channel.queue_declare(queue, passive=True).method.message_count
    bodies: list[bytes] = []
    for _, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=60) if count else ():
        bodies.append(body)
        if len(bodies) == count:
            break
    return bodies


def shovels(broker: OurBroker) -> list[dict[str, Any]]:
    return list(json.loads(broker.ctl("shovels", "list", "--json")))


def bodies_of(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_to_another_broker_until_the_queue_is_empty(
    here: OurBroker, there: OurBroker, channels: Callable[[OurBroker], BlockingChannel]
) -> None:
    publish(channels(here), "a", bodies_of(500))
    address = f"amqp://guest:guest@127.0.0.1:{there.address.port}"
    here.ctl("shovels", "add", "s", "--from-queue", "a", "--to", address, "--to-queue", "b", "--until", "queue-length")
    until(lambda: not shovels(here))
    assert taken(channels(there), "b") == bodies_of(500)
    assert channels(here).queue_declare("a", passive=True).method.message_count == 0
    assert "guest:guest" not in here.log_text()


@pytest.mark.parametrize("mode", ["on-confirm", "on-publish", "no-ack"])
def test_within_one_broker(here: OurBroker, channels: Callable[[OurBroker], BlockingChannel], mode: str) -> None:
    channel = channels(here)
    publish(channel, "a", bodies_of(20))
    channel.queue_declare("b")
    channel.queue_bind("b", "amq.topic", "x.#")
    here.ctl("shovels", "add", "s", "--from-queue", "a", "--to-exchange", "amq.topic", "--to-key", "x.y", "--ack", mode)
    until(lambda: channel.queue_declare("b", passive=True).method.message_count == 20)
    method, properties, body = channel.basic_get("b", auto_ack=True)
    assert (method.routing_key, body, properties.message_id) == ("x.y", b"0", "m")
    until(lambda: [(one["state"], one["carried"]) for one in shovels(here)] == [("running", 20)])
    names = [one["name"] for one in json.loads(here.ctl("connections", "list", "--json"))]
    assert len(set(names)) == len(names) == 3  # the shovel's both ends, and the channel's
    here.ctl("shovels", "remove", "s")
    until(lambda: not shovels(here))


def test_from_an_exchange_paused_and_resumed(here: OurBroker, channels: Callable[[OurBroker], BlockingChannel]) -> None:
    channel = channels(here)
    here.ctl("shovels", "add", "s", "--from-exchange", "amq.direct", "--from-key", "k", "--to-queue", "b")
    until(lambda: shovels(here)[0]["state"] == "running")
    channel.confirm_delivery()
    channel.basic_publish("amq.direct", "k", b"1", mandatory=True)
    until(lambda: channel.queue_declare("b", passive=True).method.message_count == 1)
    here.ctl("shovels", "pause", "s")
    until(lambda: shovels(here)[0]["state"] == "paused")
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish("amq.direct", "k", b"2", mandatory=True)
    here.kill_and_restart()
    assert [one["state"] for one in shovels(here)] == ["paused"]
    here.ctl("shovels", "resume", "s")
    until(lambda: shovels(here)[0]["state"] == "running")


@pytest.mark.slow
def test_it_comes_back_when_the_other_broker_does(
    here: OurBroker, there: OurBroker, channels: Callable[[OurBroker], BlockingChannel]
) -> None:
    address = f"amqp://guest:guest@127.0.0.1:{there.address.port}"
    publish(channels(here), "a", bodies_of(5))
    there.kill_and_restart()
    here.ctl("shovels", "add", "s", "--from-queue", "a", "--to", address, "--to-queue", "b", "--reconnect", "1")
    until(lambda: shovels(here)[0]["carried"] == 5)
    there.kill_and_restart()
    publish(channels(here), "a", [b"last"])
    until(lambda: shovels(here)[0]["state"] == "running" and shovels(here)[0]["carried"] == 6)
    assert taken(channels(there), "b") == [*bodies_of(5), b"last"]


@pytest.mark.slow
def test_nothing_is_lost_when_either_broker_is_killed(
    here: OurBroker, there: OurBroker, channels: Callable[[OurBroker], BlockingChannel]
) -> None:
    publish(channels(here), "a", bodies_of(5_000))
    address = f"amqp://guest:guest@127.0.0.1:{there.address.port}"
    there.ctl("shovels", "add", "back", "--from-queue", "none", "--to-queue", "none")  # another one beside it
    here.ctl("shovels", "add", "s", "--from-queue", "a", "--to", address, "--to-queue", "b", "--reconnect", "1")
    for broker in (there, here):
        until(lambda: shovels(here)[0]["carried"] > 0)
        broker.kill_and_restart()
    destination = channels(there)
    arrived: list[int] = []
    missing = set(range(5_000))
    for _, _, body in destination.consume("b", auto_ack=True, inactivity_timeout=60):
        assert body is not None, f"nothing came for 20 s, and {len(missing)} are missing"
        arrived.append(int(body))
        missing.discard(arrived[-1])
        if not missing:
            break
    until(lambda: channels(here).queue_declare("a", passive=True).method.message_count == 0)
    # what was on its way when a broker was killed comes twice, and no more than that
    assert len(arrived) <= 5_000 + 2 * 1000


def test_what_is_wrong_is_refused_and_what_cannot_be_reached_is_told(here: OurBroker) -> None:
    def refusal(*arguments: str) -> str:
        with pytest.raises(RuntimeError) as refused:
            here.ctl("shovels", *arguments)
        return str(refused.value)

    assert "name where messages come from" in refusal("add", "s")
    assert "begins with amqp://" in refusal("add", "s", "--from-queue", "a", "--from", "http://x")
    assert "Cannot specify 'dest-exchange' and 'dest-queue'" in refusal(
        "add", "s", "--from-queue", "a", "--to-queue", "b", "--to-exchange", "c"
    )
    assert "ack-mode should be one of" in refusal("add", "s", "--from-queue", "a", "--ack", "never")
    assert "there is no shovel" in refusal("restart", "none")
    here.ctl("shovels", "add", "s", "--from-queue", "a", "--to", "amqp://127.0.0.1:1", "--to-queue", "b")
    until(lambda: shovels(here)[0]["reason"])
    assert "amqp://127.0.0.1:1 cannot be reached" in shovels(here)[0]["reason"]


def test_a_broker_is_brought_to_another(
    here: OurBroker, there: OurBroker, channels: Callable[[OurBroker], BlockingChannel]
) -> None:
    channel = channels(here)
    publish(channel, "a", bodies_of(300))
    publish(channel, "empty", [])
    channel.exchange_declare("orders", "topic", durable=True)
    channel.queue_bind("a", "orders", "#.new")
    addresses = [f"amqp://guest:guest@127.0.0.1:{broker.address.port}" for broker in (here, there)]
    apis = ["--old-api", http_of(here), "--new-api", http_of(there)]

    def migrate(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run("migrate", *addresses, *arguments)

    done = migrate(*apis, "--dry-run")
    assert (done.returncode, "300 messages of 'a'" in done.stdout) == (0, True), done.stderr
    assert channel.queue_declare("a", passive=True).method.message_count == 300
    done = migrate(*apis)
    assert done.returncode == 0, done.stderr
    new = channels(there)
    new.exchange_declare("orders", "topic", durable=True, passive=True)
    assert taken(new, "a") == bodies_of(300)
    assert channel.queue_declare("a", passive=True).method.message_count == 0
    done = migrate(*apis)  # again: nothing is left to do
    assert done.returncode == 0, done.stderr
    done = migrate("--old-api", "http://127.0.0.1:1")
    assert (done.returncode, "no HTTP API at http://127.0.0.1:1" in done.stderr) == (7, True)


@pytest.mark.slow
def test_a_migration_that_is_killed_is_finished_by_the_next(
    here: OurBroker, there: OurBroker, channels: Callable[[OurBroker], BlockingChannel]
) -> None:
    publish(channels(here), "a", bodies_of(3_000))
    new = channels(there)
    new.queue_declare("a", durable=True)
    addresses = [f"amqp://guest:guest@127.0.0.1:{broker.address.port}" for broker in (here, there)]
    command = [sys.executable, "-m", "amqp_broker", "migrate", *addresses, "--no-definitions", "--queue", "a"]
    killed = subprocess.Popen(command, env=our_environment(), stdout=subprocess.DEVNULL)
    until(lambda: killed.poll() is not None or new.queue_declare("a", passive=True).method.message_count)
    killed.kill()
    killed.wait()
    subprocess.run(command, env=our_environment(), stdout=subprocess.DEVNULL, timeout=60, check=True)
    assert channels(here).queue_declare("a", passive=True).method.message_count == 0
    arrived = [int(body) for body in taken(new, "a")]
    assert sorted(set(arrived)) == list(range(3_000))  # what was on its way comes twice, and none is lost


def http_of(broker: OurBroker) -> str:
    line = next(line for line in broker.log_text().splitlines() if "http://" in line)
    return "http://127.0.0.1:" + line.split("http://", 1)[1].split("/")[0].split()[0].rpartition(":")[2]
