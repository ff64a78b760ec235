"""Data folders that earlier commits wrote open with the same content.

``tests/data/folder_of_1c56cbd`` was written by the commit before the records got files of their own: every kind of
record is in it, and its broker was killed. A kind that comes later gets a folder of its own commit: parameters and
policies, and what is said of virtual hosts, are in ``folder_of_1332166``, sessions of MQTT in ``folder_of_56eda46``,
which was written before each subscription had a record.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pamqp import commands

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.inspection import Inspection as Inspect
from amqp_broker.broker.persistence.kinds import RecordKind
from amqp_broker.broker.policies import OPERATOR_POLICY
from amqp_broker.broker.virtual_host_properties import Metadata, VirtualHostLimits
from amqp_broker.journal.check import Inspection
from amqp_broker.journal.dump import DumpedRecord, entries
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.protocols.mqtt.properties import Property
from tests.support.disk_broker import DiskBroker
from tests.support.mqtt_client import MqttClient

DATA = Path(__file__).parent.parent / "data"


def files_of(commit: str) -> MemoryFiles:
    disk = MemoryFiles()
    for path in sorted((DATA / f"folder_of_{commit}" / "journal").iterdir()):
        disk.set_content(path.name, path.read_bytes())
    return disk


@pytest.fixture
def files() -> MemoryFiles:
    return files_of("1c56cbd")


def test_every_kind_of_record_is_in_the_folder(files: MemoryFiles) -> None:
    live = {
        entry.record.kind
        for entry in entries(Inspection(files))
        if isinstance(entry, DumpedRecord) and entry.live_claims
    }
    assert live == {kind for kind in RecordKind if kind <= RecordKind.LIMITS}  # all that there were then


def test_it_opens_with_the_same_content(files: MemoryFiles) -> None:
    broker = DiskBroker(files)
    assert_definitions(broker)
    assert_messages(broker)
    assert_definitions(broker.restarted())


def assert_definitions(broker: Broker) -> None:
    assert set(broker.virtual_hosts) == {"/", "other"}
    assert broker.virtual_hosts["other"].limits == VirtualHostLimits(5, 7)

    ann = broker.users.get("ann")
    assert ann is not None
    assert ann.tags == ("monitoring",)
    assert (ann.limits.connections_max, ann.limits.channels_max) == (3, 4)
    permission = ann.permissions["other"]
    assert [permission.configure.source, permission.write.source, permission.read.source] == ["^c", "^w", ".*"]
    topic_permission = ann.topic_permissions["other"]["amq.topic"]
    assert (topic_permission.write, topic_permission.read) == ("^a", "^b")
    assert ann.password_hash.matches(b"secret")
    assert broker.users.get("guest") is not None

    virtual_host = broker.virtual_hosts["/"]
    head, following = virtual_host.exchanges["head"], virtual_host.exchanges["next"]
    assert (head.type_name, head.table) == ("headers", {"alternate-exchange": "amq.fanout"})
    assert following.type_name == "topic"
    assert [(each.destination.name, each.arguments) for each in head.bindings.values()] == [
        ("next", {"x-match": "all", "n": 1})
    ]
    assert sorted((each.destination.name, each.routing_key) for each in following.bindings.values()) == [
        ("classic", "a.#"),
        ("pages", "a.b"),
    ]
    assert {name: queue.table for name, queue in virtual_host.queues.items()} == {
        "classic": {"x-max-length": 100, "x-dead-letter-exchange": "next"},
        "ranked": {"x-max-priority": 5},
        "limited": {"x-queue-type": "quorum", "x-delivery-limit": 9},
        "pages": {},
        "gone": {},
    }


def assert_messages(broker: DiskBroker) -> None:
    channel = broker.client().channel()
    handed_out = channel.get("classic", no_ack=True)
    assert handed_out is not None
    assert (handed_out.body, handed_out.headers, handed_out.expect(commands.Basic.GetOk).redelivered) == (
        b"to two queues",
        {"h": "v"},
        True,
    )
    assert channel.drain("ranked") == [b"priority 2", b"priority 1", b"priority 0"]
    counted = channel.get("limited", no_ack=True)
    assert counted is not None
    assert (counted.body, counted.headers["x-delivery-count"]) == (b"counted 0", 1)
    assert channel.drain("limited") == [b"counted 1"]
    assert channel.drain("pages") == [b"to two queues", *(b"kept %d" % number for number in range(8))]
    assert channel.drain("gone") == [b"nobody's"]


def test_parameters_and_policies_open_with_the_same_content() -> None:
    broker = DiskBroker(files_of("1332166"))
    for again in (broker, broker.restarted()):
        inspection = Inspect(again)
        policies = [(policy["name"], policy["priority"], policy["apply-to"]) for policy in inspection.policies("/")]
        assert policies == [("p", 1.5, "queues"), ("ae", 0, "all")]
        assert [policy["name"] for policy in inspection.policies("/", OPERATOR_POLICY)] == ["o"]
        queue = again.virtual_host.queues["q.1"]
        assert (queue.arguments.length_max, queue.arguments.message_ttl_ms, queue.table) == (
            8,
            600_000,
            {"x-max-length": 50},
        )
        assert again.virtual_host.exchanges["x"].alternate == "amq.fanout"
        assert {one["name"]: one["value"] for one in inspection.parameters("/", "shovel")} == {
            "s": {"src-uri": "amqp://"}
        }
        assert list(inspection.global_parameters()) == [{"name": "cluster_name", "value": "é"}]
        assert again.virtual_hosts["shop"].metadata == Metadata("the shop", ("a", "b"), "quorum")


def test_a_session_whose_subscriptions_had_no_records_opens_with_the_same_content() -> None:
    broker = DiskBroker(files_of("56eda46"), mqtt_port=0)
    for again in (broker, broker.restarted(mqtt_port=0)):
        session = again.virtual_host.client_sessions.get("c")
        assert session is not None
        assert {name: one.options["qos"] for name, one in session.subscriptions.items()} == {
            "a/+": 2,
            "b": 0,
            "$share/g/s/#": 2,
        }
        assert all(one.reference for one in session.subscriptions.values())
    client = MqttClient(again, "c", 5)
    lasts = {Property.SESSION_EXPIRY_INTERVAL: 600}
    assert client.connect(clean=False, properties=lasts).session_present
    assert sorted((one.topic, one.payload, one.qos) for one in client.messages()) == [
        ("a/1", b"retained", 1),
        ("a/2", b"waits", 1),
        ("a/3", b"of QoS 2", 2),
    ]
