"""``amqp-broker queues peek``, ``move``, ``copy``, ``delete-messages`` and ``replay`` against a broker process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from tests.end_to_end.test_control import REFUSED, WRONG_USE, connect, run
from tests.support.command_line import OurBroker


@pytest.fixture
def broker() -> Iterator[OurBroker]:
    process = OurBroker()
    with connect(process, "guest", "guest", "/") as connection:
        channel = connection.channel()
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
        channel.queue_declare("w", durable=True, arguments=arguments)
        channel.queue_declare("q", durable=True)
        channel.confirm_delivery()
        for number in range(6):
            properties = pika.BasicProperties(headers={"tenant": "a" if number % 2 else "b"}, delivery_mode=2)
            channel.basic_publish("", "w", b'{"id": %d}' % number, properties)
        for _ in range(6):
            channel.basic_reject(channel.basic_get("w")[0].delivery_tag, requeue=False)
        channel.queue_declare("q", passive=True)  # all that was rejected is there
        channel.basic_publish("", "q", b"\x00\x1b[2J never died")
    yield process
    process.stop()


def shown(broker: OurBroker, *arguments: str) -> Any:
    return json.loads(broker.ctl("queues", *arguments, "--json"))


def test_messages_on_the_command_line(broker: OurBroker) -> None:
    seen = shown(broker, "peek", "q")
    assert [one["payload"][:9] for one in seen["messages"][:6]] == [f'{{"id": {number}}}' for number in range(6)]
    table = broker.ctl("queues", "peek", "q", "--header", "x-death.queue=w", "--limit", "2").splitlines()
    assert table[0].split() == ["at", "id", "state", "key", "size", "age", "body"]
    assert len(table) == 3
    full = broker.ctl("queues", "peek", "q", "--offset", "6", "--full")
    assert "body (16 B):" in full
    assert "\x1b" not in full

    dry = broker.ctl("queues", "move", "q", "--to-origin", "--header", "tenant=a", "--dry-run").splitlines()
    assert dry[0] == "3 messages of queue 'q' in '/' would be moved"
    assert len(dry) == 5
    moved = broker.ctl("queues", "move", "q", "--to-origin", "--header", "tenant=a")
    assert moved == "3 messages of queue 'q' in '/' moved\n"
    broker.kill_and_restart()  # what was said to be done is on disk
    back = shown(broker, "peek", "w")["messages"]
    assert [(one["payload"], one["properties"]["headers"]) for one in back] == [
        (f'{{"id": {number}}}', {"tenant": "a"}) for number in (1, 3, 5)
    ]
    copied = broker.ctl("queues", "copy", "w", "--to-exchange", "", "--to-key", "q", "--limit", "1")
    assert copied == "1 message of queue 'w' in '/' copied\n"
    ids = [one["id"] for one in shown(broker, "peek", "q", "--body", "id=*")["messages"]]
    assert len(ids) == 4
    deleted = shown(broker, "delete-messages", "q", *[part for one in ids for part in ("--id", one)])
    assert deleted["done"] == 4
    assert shown(broker, "peek", "q")["messages"] == []
    assert "messages moved" in broker.log_text()


@pytest.mark.slow
def test_what_was_consumed_is_replayed_after_a_kill(broker: OurBroker) -> None:
    broker.ctl("policies", "set", "past", "^w$", '{"replay-ms": 3600000}')
    with connect(broker, "guest", "guest", "/") as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for number in range(500):
            channel.basic_publish("", "w", b"%d" % number, pika.BasicProperties(delivery_mode=2))
            channel.basic_get("w", auto_ack=True)
        channel.queue_declare("again", durable=True)
    broker.kill_and_restart()
    dry = broker.ctl("queues", "replay", "w", "--since", "10m", "--to", "again", "--dry-run").splitlines()
    assert dry[0] == "500 messages of queue 'w' in '/' would be replayed"
    replayed = broker.ctl("queues", "replay", "w", "--to-queue", "again")
    assert replayed == "500 messages of queue 'w' in '/' replayed\n"
    broker.kill_and_restart()  # what was said to be done is on disk
    some = broker.ctl("queues", "replay", "w", "--to", "again", "--text", "77", "--since", "1d")
    assert some.startswith("5 messages")
    with connect(broker, "guest", "guest", "/") as connection:
        channel = connection.channel()
        count = channel.queue_declare("again", passive=True).method.message_count
        bodies = [channel.basic_get("again", auto_ack=True)[2] for _ in range(count)]
    assert bodies[:500] == [b"%d" % number for number in range(500)]
    assert bodies[500:] == [body for body in bodies[:500] if b"77" in body]


def test_what_is_refused(broker: OurBroker) -> None:
    for arguments, code, words in (
        (("move", "q"), WRONG_USE, "say where to"),
        (("replay", "q", "--to", "w"), REFUSED, "has no past: let it have x-replay-ms"),
        (("replay", "q", "--to", "w", "--since", "yesterday"), WRONG_USE, "--since takes a time as in 90s"),
        (("move", "q", "--to-queue", "a", "--to-key", "k"), WRONG_USE, "--to-key goes with --to-exchange"),
        (("peek", "q", "--header", "tenant"), WRONG_USE, "--header takes a name and a value, as in name=value"),
        (("peek", "q", "--property", "id=1"), REFUSED, "there is no property 'id'"),
        (("peek", "q", "--state", "gone"), REFUSED, "state is one of ready, unacked, all"),
        (("peek", "nope"), REFUSED, "there is no queue 'nope'"),
        (("move", "q", "--to-queue", "nope"), REFUSED, "no queue 'nope' in vhost '/'"),
        (("delete-messages", "q"), REFUSED, "name ids, a filter or a limit"),
    ):
        done = run(broker.data_folder, "queues", *arguments)
        assert (done.returncode, words in done.stderr) == (code, True), (arguments, done.stderr)
