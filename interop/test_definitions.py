"""Definitions: what is exported, what comes of an import, and whether each broker takes what the other has written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.definitions.applying import import_definitions
from amqp_broker.broker.definitions.export import exported
from amqp_broker.broker.ports import PassiveDriver
from amqp_broker.server.clock import SystemClock
from amqp_broker.settings import Settings
from interop.brokers import OurBroker, RabbitMQ
from interop.operator import Operator
from interop.raw_client import ChannelUnderTest, Exchange, Queue
from interop.under_test import BrokerUnderTest

FEATURE = "definitions"
COMPARED = {
    "queues": ("name", "vhost", "durable", "auto_delete", "arguments"),
    "exchanges": ("name", "vhost", "type", "durable", "auto_delete", "internal", "arguments"),
    "bindings": ("source", "vhost", "destination", "destination_type", "routing_key", "arguments"),
    "policies": ("vhost", "name", "pattern", "apply-to", "definition", "priority"),
    "permissions": ("user", "vhost", "configure", "write", "read"),
    "users": ("name", "tags"),
}


@pytest.fixture
def operator(broker: BrokerUnderTest) -> Iterator[Operator]:
    """Whoever exports and imports; policies and limits are cleared in the end."""
    process: Any = broker.process
    if not isinstance(process, RabbitMQ | OurBroker):
        pytest.skip("this broker was not started by the tests")
    found = Operator(process)
    yield found
    found.clear_all()
    found.set_vhost_limits({})


def named(found: list[dict[str, Any]], name: str, key: str = "name") -> list[dict[str, Any]]:
    return [one for one in found if one[key] == name]


def compared(one: dict[str, Any], keys: tuple[str, ...]) -> str:
    """What stands in definitions of one thing; rabbitmqctl writes some objects as pairs, and leaves some keys out."""
    found = {key: one.get(key, False) for key in keys}
    if isinstance(found.get("definition"), list):
        found["definition"] = dict(found["definition"])
    return json.dumps(found, sort_keys=True)


def test_export(
    operator: Operator, ch: ChannelUnderTest, broker: BrokerUnderTest, q: str, x: str, tmp_path: Path
) -> None:
    other = broker.queue_name("other")
    ch.declare_exchange(x, "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
    ch.declare(q, durable=True, arguments={"x-max-length": 5, "x-queue-type": "classic"})
    ch.declare(other, durable=True, arguments={"x-queue-type": "quorum"})
    ch.bind(q, x, "a.#", note=1)
    operator.set_policy("p", f"^{q}$", {"max-length": 7}, apply_to="queues", priority=3)
    operator.set_operator_policy("o", f"^{q}$", {"max-length": 6}, apply_to="queues")
    operator.set_vhost_limits({"max-queues": 900})
    document = operator.export()
    arguments = {"x-max-length": 5, "x-queue-type": "classic"}
    queue = {"name": q, "vhost": "/", "durable": True, "auto_delete": False, "arguments": arguments}
    (found,) = named(document["queues"], q)
    assert {key: found[key] for key in queue} == queue
    exchange = {
        "name": x,
        "vhost": "/",
        "type": "topic",
        "durable": True,
        "auto_delete": False,
        "arguments": {"alternate-exchange": "amq.fanout"},
    }
    (found_exchange,) = named(document["exchanges"], x)
    assert {key: found_exchange[key] for key in exchange} == exchange
    binding = {
        "source": x,
        "vhost": "/",
        "destination": q,
        "destination_type": "queue",
        "routing_key": "a.#",
        "arguments": {"note": 1},
    }
    assert named(document["bindings"], x, "source") == [binding]
    assert not [one for one in document["exchanges"] if one["name"].startswith("amq.")]
    policy = {
        "vhost": "/",
        "name": "p",
        "pattern": f"^{q}$",
        "apply-to": "queues",
        "definition": {"max-length": 7},
        "priority": 3,
    }
    assert document["policies"] == [policy]
    found_parameters = {(one["component"], one["name"]): one["value"] for one in document["parameters"]}
    assert dict(found_parameters["operator_policy", "o"]["definition"]) == {"max-length": 6}  # pairs, from rabbitmqctl
    assert found_parameters["vhost-limits", "limits"] == {"max-queues": 900}
    guest = named(document["users"], "guest")[0]
    assert (guest["tags"], guest["limits"]) == (["administrator"], {})
    assert set(document) >= {"vhosts", "permissions", "topic_permissions", "global_parameters"}


def test_export_and_import_again(
    operator: Operator, ch: ChannelUnderTest, broker: BrokerUnderTest, q: str, x: str, tmp_path: Path
) -> None:
    ch.declare_exchange(x, "headers", durable=True)
    ch.declare(q, durable=True, arguments={"x-message-ttl": 50_000, "x-list": [1, "a", True]})
    ch.bind(q, x, "", **{"x-match": "any", "a": 1})
    document = operator.export()
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps(document))
    ch.call(Queue.Delete, queue=q)
    ch.call(Exchange.Delete, exchange=x)
    operator.import_file(file)
    again = operator.export()
    for section in ("queues", "exchanges", "bindings", "policies", "permissions"):
        assert sorted(map(str, again[section])) == sorted(map(str, document[section]))
    ch.publish(x, "", b"there", headers={"a": 1})
    ch.sync()
    assert ch.drain(q) == [b"there"]


def test_what_it_exports_is_taken_here(
    operator: Operator, ch: ChannelUnderTest, broker: BrokerUnderTest, q: str, x: str
) -> None:
    """By a new broker of ours, in this process: RabbitMQ of each release that is asked is where somebody comes from."""
    other = broker.queue_name("other")
    ch.declare_exchange(x, "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
    ch.declare(q, durable=True, arguments={"x-max-length": 5, "x-list": [1, "a", True], "x-message-ttl": 60_000})
    ch.declare(other, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 3})
    ch.bind(q, x, "a.#", note=1)
    operator.set_policy("p", f"^{q}$", {"max-length": 7, "dead-letter-exchange": x}, apply_to="queues", priority=3)
    operator.set_operator_policy("o", f"^{q}$", {"max-length": 4}, apply_to="queues")
    operator.set_vhost_limits({"max-queues": 900})
    document = operator.export()
    here = Broker(Settings(), SystemClock(), PassiveDriver())
    here.open()
    counts, _ = here.handle(lambda: import_definitions(here, document, who="a test"))
    assert counts["left_out"] == 0
    taken = json.loads(json.dumps(exported(here)))
    for section, keys in COMPARED.items():
        theirs, ours = (sorted(compared(one, keys) for one in said[section]) for said in (document, taken))
        assert ours == theirs, section
    host = here.virtual_hosts["/"]
    assert (host.queues[q].arguments.length_max, host.queues[q].arguments.dead_letter_exchange) == (4, x)
    assert host.queues[other].declared.queue_type == "quorum"
    assert host.limits.queues_max == 900
    guest = here.users.get("guest")
    assert guest is not None
    assert guest.password_hash.matches(b"guest")


def test_what_is_there_stays(operator: Operator, ch: ChannelUnderTest, q: str, tmp_path: Path) -> None:
    ch.declare(q, durable=True, arguments={"x-max-length": 5})
    ch.publish("", q, b"stays")
    ch.sync()
    queue = {"name": q, "vhost": "/", "durable": True, "auto_delete": False, "arguments": {"x-max-length": 9}}
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps({"queues": [queue]}))
    operator.import_file(file)
    ch.declare(q, durable=True, arguments={"x-max-length": 5})
    assert ch.drain(q) == [b"stays"]


def test_a_binding_from_nowhere_is_left_out(
    operator: Operator, broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, tmp_path: Path
) -> None:
    ch.declare(q, durable=True)
    binding = {
        "source": "nowhere",
        "vhost": "/",
        "destination": q,
        "destination_type": "queue",
        "routing_key": "",
        "arguments": {},
    }
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps({"bindings": [binding]}))
    if broker.kind == "rabbitmq" and broker.process.choice.series == "4.0":
        with pytest.raises(RuntimeError, match="resources_missing"):
            operator.import_file(file)
    else:
        operator.import_file(file)
    assert not named(operator.export()["bindings"], "nowhere", "source")


def test_a_user_without_tags_is_refused(operator: Operator, broker: BrokerUnderTest, tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps({"users": [{"name": "somebody", "password": "secret"}]}))
    missing = "tags_not_present" if broker.kind == "rabbitmq" else "user 'somebody': 'tags' is missing"
    with pytest.raises(RuntimeError, match=missing):
        operator.import_file(file)
    assert not named(operator.export()["users"], "somebody")
