"""Definitions: what is exported, what comes of an import, and whether each broker takes what the other has written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interop.brokers import OurBroker, RabbitMQ
from interop.operator import Operator
from interop.raw_client import ChannelUnderTest, Exchange, Queue
from interop.under_test import BrokerUnderTest

FEATURE = "definitions"


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
