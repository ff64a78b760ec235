"""Definitions: what is exported, what RabbitMQ exported and is taken, and that an import is whole or not at all."""

from __future__ import annotations

import copy
import json
import logging
from typing import Any

import pytest

from amqp_broker.access.passwords import SHA256
from amqp_broker.broker.definitions.applying import import_definitions
from amqp_broker.broker.definitions.export import SECTIONS, exported
from amqp_broker.broker.definitions.reading import NotImported
from amqp_broker.broker.problems import NotThere
from tests.support.client import Client
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker

# As RabbitMQ 3.10 writes it, with what later releases have added here and there; pairs are rabbitmqctl's.
BY_RABBITMQ: dict[str, Any] = {
    "rabbit_version": "3.10.8",
    "users": [
        {
            "name": "app",
            "password_hash": "wHqVIztegvptSclknExFP2iHOkDCR+JZ/rLdJMw6oEPOY99a",
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": ["monitoring"],
            "limits": {"max-channels": 100},
        },
        {"name": "old", "password_hash": "", "tags": "management,policymaker", "limits": []},
    ],
    "vhosts": [
        {"name": "/", "description": "Default virtual host", "tags": [], "metadata": {"description": "", "tags": []}},
        {
            "name": "shop",
            "limits": [],
            "description": "the shop",
            "tags": ["a"],
            "default_queue_type": "quorum",
            "metadata": {"description": "the shop", "tags": ["a"], "default_queue_type": "quorum"},
        },
    ],
    "permissions": [{"user": "app", "vhost": "shop", "configure": "^app", "write": ".*", "read": ".*"}],
    "topic_permissions": [{"user": "app", "vhost": "/", "exchange": "orders", "write": "^{username}", "read": ".*"}],
    "parameters": [
        {
            "value": {"pattern": "^orders", "definition": [["max-length", 5]], "priority": 1, "apply-to": "queues"},
            "vhost": "/",
            "component": "operator_policy",
            "name": "cap",
        },
        {"value": {"max-connections": 20}, "vhost": "shop", "component": "vhost-limits", "name": "limits"},
        {"value": {"uri": "amqp://elsewhere"}, "vhost": "/", "component": "federation-upstream", "name": "up"},
    ],
    "global_parameters": [{"name": "internal_cluster_id", "value": "rabbitmq-cluster-id-1"}],
    "policies": [
        {
            "vhost": "/",
            "name": "ttl",
            "pattern": "^orders\\.",
            "apply-to": "classic_queues",
            "definition": {"max-length": 1000, "message-ttl": 600000},
            "priority": 5,
        }
    ],
    "queues": [
        {
            "name": "orders.eu",
            "vhost": "/",
            "durable": True,
            "auto_delete": False,
            "arguments": {"x-dead-letter-exchange": "dlx", "x-max-priority": 5},
        },
        {"name": "qq", "vhost": "shop", "durable": True, "auto_delete": False, "type": "quorum", "arguments": {}},
        {"name": "plain", "vhost": "shop", "durable": True, "auto_delete": False, "arguments": []},
        {"name": "amq.gen-1", "vhost": "/", "durable": False, "auto_delete": False, "arguments": {}},
    ],
    "exchanges": [
        {
            "name": "orders",
            "vhost": "/",
            "type": "topic",
            "durable": True,
            "auto_delete": False,
            "internal": False,
            "arguments": {"alternate-exchange": "unrouted"},
        }
    ],
    "bindings": [
        {
            "source": "orders",
            "vhost": "/",
            "destination": "orders.eu",
            "destination_type": "queue",
            "routing_key": "eu.#",
            "arguments": {"x-note": 1},
        },
        {
            "source": "amq.topic",
            "vhost": "/",
            "destination": "orders",
            "destination_type": "exchange",
            "routing_key": "#",
            "arguments": {},
        },
        {
            "source": "nowhere",
            "vhost": "/",
            "destination": "orders.eu",
            "destination_type": "queue",
            "routing_key": "",
            "arguments": {},
        },
    ],
}


def import_into(broker: MemoryBroker, document: object, virtual_host: str | None = None) -> dict[str, int]:
    counts, works = broker.handle(lambda: import_definitions(broker, document, virtual_host, who="a test"))
    assert all(work.is_done for work in works)
    return counts


def without_header(broker: MemoryBroker) -> dict[str, Any]:
    found = exported(broker)
    return {section: found[section] for section in SECTIONS}


def test_what_rabbitmq_exported_is_taken_and_outlives_the_broker() -> None:
    disk = DiskBroker()
    counts = import_into(disk, copy.deepcopy(BY_RABBITMQ))
    assert (counts["queues"], counts["exchanges"], counts["bindings"], counts["left_out"]) == (3, 1, 2, 2)
    before = without_header(disk)
    for broker in (disk, disk.killed()):
        host, shop = broker.virtual_host, broker.virtual_hosts["shop"]
        queue = host.queues["orders.eu"]
        assert (queue.arguments.length_max, queue.arguments.message_ttl_ms) == (5, 600_000)
        assert {name: one.declared.queue_type for name, one in shop.queues.items()} == {
            "qq": "quorum",
            "plain": "classic",
        }
        assert shop.limits.connections_max == 20
        assert (shop.metadata.description, shop.metadata.default_queue_type) == ("the shop", "quorum")
        app, old = broker.users.get("app"), broker.users.get("old")
        assert app is not None
        assert old is not None
        assert (app.tags, app.limits.channels_max, app.permissions["shop"].configure.source) == (
            ("monitoring",),
            100,
            "^app",
        )
        assert old.tags == ("management", "policymaker")
        again = without_header(broker)
        for section in SECTIONS:
            assert sorted(map(json.dumps, again[section])) == sorted(map(json.dumps, before[section])), section


def test_what_is_imported_once_more_changes_nothing_and_is_logged_as_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = MemoryBroker()
    import_into(broker, copy.deepcopy(BY_RABBITMQ))
    caplog.set_level(logging.INFO, "amqp_broker")
    import_into(broker, copy.deepcopy(BY_RABBITMQ))
    assert [record.getMessage() for record in caplog.records] == ["definitions imported"]


def test_what_was_exported_makes_the_same_again() -> None:
    first, second = DiskBroker(), DiskBroker()
    import_into(first, copy.deepcopy(BY_RABBITMQ))
    channel = Client(first).open().channel()
    channel.exchange("inner", "headers", internal=True)
    channel.declare("mine", exclusive=True)
    channel.bind("mine", "amq.fanout")
    channel.declare("many", {"x-message-ttl": 5, "x-text": "é", "x-list": [1, {"a": None}], "x-real": 1.5})
    channel.bind("many", "inner", "", {"x-match": "any", "a": 1})
    document = json.loads(json.dumps(exported(first)))
    assert "mine" not in json.dumps(document)
    import_into(second, document)
    assert without_header(second) == {section: document[section] for section in SECTIONS}
    import_into(second, document)  # once more changes nothing
    assert without_header(second) == {section: document[section] for section in SECTIONS}


def test_one_virtual_host_into_another(broker: MemoryBroker) -> None:
    import_into(broker, copy.deepcopy(BY_RABBITMQ))
    broker.administration.add_virtual_host("other")
    document = exported(broker, "/")
    assert "users" not in document
    import_into(broker, document, "other")
    host = broker.virtual_hosts["other"]
    assert (list(host.queues), host.queues["orders.eu"].arguments.length_max) == (["orders.eu"], 5)
    with pytest.raises(NotThere):
        import_into(broker, document, "nowhere")
    with pytest.raises(NotThere):
        exported(broker, "nowhere")


def test_what_is_there_stays(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("orders.eu", durable=True)
    channel.publish("", "orders.eu", b"1")
    import_into(broker, copy.deepcopy(BY_RABBITMQ))
    assert broker.virtual_host.queues["orders.eu"].table == {}
    assert channel.drain("orders.eu") == [b"1"]


def test_policies_are_in_force_for_what_is_there(broker: MemoryBroker) -> None:
    channel = Client(broker).open().channel()
    channel.declare("orders.us")
    for _ in range(7):
        channel.publish("", "orders.us", b"")
    import_into(broker, copy.deepcopy(BY_RABBITMQ))
    assert channel.message_count("orders.us") == 5


def test_policies_may_have_the_keys_of_the_deduplication_plugin(broker: MemoryBroker) -> None:
    keys = {"x-message-deduplication": True, "x-cache-size": 5, "x-cache-ttl": 9, "x-cache-persistence": "disk"}
    policy = {"vhost": "/", "name": "once", "pattern": "", "apply-to": "all", "definition": keys, "priority": 0}
    channel = Client(broker).open().channel()
    channel.declare("q")
    import_into(broker, {"policies": [policy]})
    for _ in range(2):
        channel.publish("", "q", b"", headers={"x-deduplication-header": "a"})
    assert channel.message_count("q") == 1
    assert exported(broker)["policies"] == [policy]


@pytest.mark.parametrize(
    ("section", "wrong", "text"),
    [
        (
            "users",
            {"name": "u", "tags": [], "password_hash": "zz!"},
            "user 'u': its password_hash cannot be used: it is not base64",
        ),
        ("users", {"name": "u", "password": "p"}, "user 'u': 'tags' is missing"),
        ("users", {"name": "u", "tags": 5}, "user 'u': 'tags' should be a list of texts, and is 5"),
        ("users", {"name": "u", "tags": "", "limits": {"zzz": 1}}, "user 'u': Unrecognised terms"),
        ("users", {"name": "u", "tags": "", "password": ""}, "user 'u': a password has 1 to"),
        ("users", {"name": "\ud800"}, r"user '\?': it holds half of a character"),
        ("users", {}, r"users\[2\]: 'name' is missing"),
        ("vhosts", {"name": "v", "default_queue_type": "zzz"}, "virtual host 'v': there is no queue type 'zzz'"),
        ("vhosts", 5, r"vhosts\[2\] should be an object, and is 5"),
        (
            "permissions",
            {"user": "nobody", "vhost": "/", "configure": "", "write": "", "read": ""},
            "there is no user 'nobody', neither in the broker nor in the definitions",
        ),
        (
            "permissions",
            {"user": "app", "vhost": "/", "configure": "(", "write": "", "read": ""},
            r"permission of user 'app': the pattern '\(' cannot be used",
        ),
        (
            "policies",
            {"name": "p", "vhost": "/", "pattern": "", "definition": {"nope": 1}},
            "policy 'p': .* are not recognised policy settings",
        ),
        (
            "policies",
            {"name": "", "vhost": "/", "pattern": "", "definition": {"max-length": 1}},
            "policy '': a policy's name has 1 to 255 bytes",
        ),
        (
            "parameters",
            {"name": "", "vhost": "/", "component": "federation-upstream", "value": {"uri": "amqp://x"}},
            "parameter '': a parameter's name has 1 to 255 bytes",
        ),
        ("global_parameters", {"name": "", "value": 1}, "global parameter '': a parameter's name has 1 to 255 bytes"),
        (
            "parameters",
            {"name": "p", "vhost": "/", "component": "nope", "value": 1},
            "parameter 'p': component nope not found",
        ),
        ("exchanges", {"name": "x", "vhost": "/", "type": "x-nope"}, "exchange 'x' .* no exchange type 'x-nope' here"),
        ("exchanges", {"name": "x", "vhost": "nope", "type": "topic"}, "exchange 'x': there is no virtual host 'nope'"),
        (
            "queues",
            {"name": "q", "vhost": "/", "arguments": {"x-max-length": -1}},
            "queue 'q': invalid arg 'x-max-length' for queue 'q' in vhost '/': {value_negative,-1}",
        ),
        ("queues", {"name": "q", "vhost": "/", "arguments": {"x": 2**70}}, "queue 'q': its arguments cannot be had"),
        (
            "queues",
            {"name": "q", "vhost": "/", "durable": False, "arguments": {"x-queue-type": "quorum"}},
            "a queue of type quorum is durable",
        ),
        ("queues", {"name": "q" * 256, "vhost": "/"}, "at most 255 bytes"),
        (
            "bindings",
            {
                "source": "amq.headers",
                "vhost": "/",
                "destination": "orders.eu",
                "destination_type": "queue",
                "routing_key": "",
                "arguments": {"x-match": "zzz"},
            },
            "binding 'amq.headers': Invalid x-match field value",
        ),
    ],
)
def test_it_is_whole_or_not_at_all(section: str, wrong: object, text: str) -> None:
    disk = DiskBroker()
    before = exported(disk)
    document = copy.deepcopy(BY_RABBITMQ)
    document[section].append(wrong)
    with pytest.raises(NotImported, match=text):
        import_into(disk, document)
    assert exported(disk) == before
    assert exported(disk.killed()) == before


@pytest.mark.parametrize("document", [None, [], "x", {"queues": {}}, {"queues": "x"}])
def test_what_is_no_definitions(broker: MemoryBroker, document: object) -> None:
    with pytest.raises(NotImported):
        import_into(broker, document)


def topology(broker: MemoryBroker) -> set[str]:
    """What an import may leave behind, each as text."""
    found = without_header(broker)
    sections = ("vhosts", "parameters", "policies", "queues", "exchanges", "bindings", "global_parameters")
    return {json.dumps(one, sort_keys=True) for section in sections for one in found[section]}


def test_a_power_failure_leaves_all_of_it_or_nothing() -> None:
    document = copy.deepcopy(BY_RABBITMQ)
    for number in range(60):
        document["queues"].append(
            {"name": f"q{number}", "vhost": "shop", "durable": True, "arguments": {"x": "y" * 90}}
        )
    nothing = topology(DiskBroker())
    whole = DiskBroker()
    import_into(whole, document)
    seen = []
    for seed in range(40):
        disk = DiskBroker()
        disk.files.random.seed(seed)
        disk.writes_at_once = False
        import_into(disk, document)
        disk.write(sync=False)
        found = topology(disk.without_power())
        assert found in (nothing, topology(whole))
        seen.append(found == nothing)
    assert True in seen
    assert False in seen


def test_a_user_can_log_in_with_the_password_of_the_other_broker(broker: MemoryBroker) -> None:
    broker.administration.add_user("ada", "secret", algorithm=SHA256)
    broker.administration.set_permission("ada", "/", ".*", ".*", ".*")
    document = exported(broker)
    second = MemoryBroker()
    import_into(second, document)
    Client(second).open(user="ada", password="secret")


def test_bindings_of_an_exchange_are_exported_as_they_were_made() -> None:
    broker = DiskBroker()
    channel = broker.client().channel()
    made = [("first", "a"), ("second", "a"), ("first", "b"), ("transient", "a"), ("second", "b")]
    for queue in ("first", "second", "transient"):
        channel.declare(queue, durable=queue != "transient")
    for queue, key in made:
        channel.bind(queue, "amq.topic", key)
    for opened, expected in ((broker, [*made[:3], made[4], made[3]]), (broker.restarted(), [*made[:3], made[4]])):
        found = [(one["destination"], one["routing_key"]) for one in bindings_of(opened)]
        assert found == expected


def bindings_of(broker: MemoryBroker) -> list[dict[str, Any]]:
    document: dict[str, Any] = exported(broker)
    return [one for one in document["bindings"] if one["source"] == "amq.topic"]
