"""Parameters, limits as RabbitMQ's API has them, and what is said of a virtual host."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from amqp_broker.broker.inspection import Inspection
from amqp_broker.broker.problems import AdministrationError, NotThere, NotValid
from amqp_broker.broker.virtual_host_properties import Metadata
from tests.support.client import Client
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker


def test_a_start_brings_them_back() -> None:
    disk = DiskBroker()
    parameters = disk.administration.parameters
    shovel = {"src-uri": "amqp://", "text": "é"}
    disk.handle(lambda: parameters.set_parameter("/", "shovel", "s", {"old": 1}))
    disk.handle(lambda: parameters.set_parameter("/", "shovel", "s", shovel))
    disk.handle(lambda: parameters.set_global_parameter("cluster_name", "orders"))
    disk.handle(lambda: parameters.set_global_parameter("gone", [1, None]))
    disk.handle(lambda: parameters.clear_global_parameter("gone"))
    disk.handle(lambda: parameters.set_virtual_host_limits("/", {"max-queues": 5, "max-connections": -1}))
    again = Inspection(disk.killed().restarted())
    assert list(again.parameters()) == [
        {"value": shovel, "vhost": "/", "component": "shovel", "name": "s"},
        {"value": {"max-queues": 5}, "vhost": "/", "component": "vhost-limits", "name": "limits"},
    ]
    assert list(again.global_parameters()) == [{"name": "cluster_name", "value": "orders"}]


def test_policies_are_shown_to_who_asks_for_them(broker: MemoryBroker) -> None:
    broker.administration.parameters.set_policy("/", "p", {"pattern": "x", "definition": {"max-length": 1}})
    assert list(Inspection(broker).parameters()) == []
    (policy,) = Inspection(broker).parameters("/", "policy")
    assert policy["value"] == {"pattern": "x", "definition": {"max-length": 1}, "priority": 0, "apply-to": "all"}


@pytest.mark.parametrize(
    ("value", "problems"),
    [
        ({"max-queues": "5"}, ['max-queues should be a number, actually was <<"5">>']),
        ({"max-queues": 1.5}, ["max-queues should be a number, actually was 1.5"]),
        (
            {"max-queues": "x", "zzz": 1},
            ['Unrecognised terms [{<<"zzz">>,1}] in limits', 'max-queues should be a number, actually was <<"x">>'],
        ),
    ],
)
def test_limits_that_are_none(broker: MemoryBroker, value: object, problems: list[str]) -> None:
    with pytest.raises(NotValid) as refused:
        broker.administration.parameters.set_virtual_host_limits("/", value)
    assert list(refused.value.problems) == problems


def test_what_cannot_be_set(broker: MemoryBroker) -> None:
    parameters = broker.administration.parameters
    with pytest.raises(NotValid, match="component nope not found"):
        parameters.set_parameter("/", "nope", "x", 1)
    with pytest.raises(AdministrationError, match="policies may not be set using this method"):
        parameters.set_parameter("/", "policy", "x", {})
    clearings: tuple[Callable[[], object], ...] = (
        lambda: parameters.clear_parameter("/", "shovel", "x"),
        lambda: parameters.clear_parameter("/", "policy", "x"),
        lambda: parameters.clear_global_parameter("x"),
        lambda: parameters.set_user_limits("nobody", {}),
    )
    for clear in clearings:
        with pytest.raises(NotThere):
            clear()
    with pytest.raises(AdministrationError, match="there is no queue type 'zzz'"):
        broker.administration.set_metadata("/", Metadata(default_queue_type="zzz"))


def test_the_default_queue_type_is_of_what_is_declared_without_one() -> None:
    disk = DiskBroker()
    Client(disk).open().channel().declare("before", durable=True)
    disk.handle(lambda: disk.administration.set_metadata("/", Metadata("shop", ("a",), "quorum")))
    broker = disk.killed()
    channel = Client(broker).open().channel()
    for _ in range(2):
        channel.declare("before", durable=True)  # keeps the type that it has
        channel.declare("without", durable=True)
        channel.declare("with", {"x-queue-type": "classic"}, durable=True)
        channel.declare("transient")
    types = {name: queue.declared.queue_type for name, queue in broker.virtual_host.queues.items()}
    assert types == {"before": "classic", "without": "quorum", "with": "classic", "transient": "classic"}
    (host,) = Inspection(broker).virtual_hosts()
    assert (host["description"], host["tags"], host["default_queue_type"]) == ("shop", ["a"], "quorum")
