"""The journal of a real process that was killed, damaged at every boundary and at random places.

Each damage ends in a start that finds what was there after one of the last batches, or in a refusal that names file and
place; then ``repair`` saves every record that the damage did not hit, and a broker starts with what is left, whichever
record is missing.

FAULTS_DAMAGES in the environment is how many places of each segment are tried; "all" tries them all.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from amqp_broker.journal.check import check
from amqp_broker.journal.failures import JournalDamaged
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.journal.port import LiveRecord
from tests.faults.broker_process import BrokerProcess
from tests.support.disk_broker import DiskBroker
from tests.support.journal_damage import (
    assert_names_the_place,
    assert_repaired,
    by_reference,
    copy_of,
    damaged,
    places,
    states,
)
from tests.unit.journal_helpers import opened

PLACES = os.environ.get("FAULTS_DAMAGES", "3")
RANDOM_PLACES = 200
KEPT = pika.BasicProperties(delivery_mode=2, priority=1)
QUORUM = {"x-queue-type": "quorum"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> MemoryFiles:
    """What a broker leaves that is killed while it is used."""
    folder = tmp_path_factory.mktemp("killed")
    broker = BrokerProcess(folder / "data", log=folder / "log", segment_size_bytes=65_536).ready()
    try:
        use(broker)
    finally:
        broker.kill()
    return content_of(folder / "data" / "journal")


@pytest.fixture(scope="module")
def allowed(journal: MemoryFiles) -> list[dict[int, LiveRecord]]:
    """What may be found in it, as of each of its last batches."""
    return states(journal)


def use(broker: BrokerProcess) -> None:
    connection = broker.connect()
    channel = connection.channel()
    channel.confirm_delivery()
    channel.exchange_declare("fan", "fanout", durable=True)
    for name, arguments in (("a", {}), ("b", {"x-max-priority": 3}), ("c", QUORUM), ("old", {})):
        channel.queue_declare(name, durable=True, arguments=arguments)
        channel.queue_bind(name, "fan")
    for number in range(120):
        channel.basic_publish("fan", "", b"%04d" % number + bytes(random.randrange(2000)), KEPT)
        channel.basic_publish("", random.choice("abc"), bytes(random.randrange(300)), KEPT)
        if number % 4 == 0:
            for name in ("a", "b"):
                method, _, _ = channel.basic_get(name)
                channel.basic_ack(method.delivery_tag)
        if number % 8 == 0:
            method, _, _ = channel.basic_get("c")
            channel.basic_nack(method.delivery_tag)
        if number == 30:  # what has one name is not always the same
            channel.queue_delete("old")
            channel.queue_declare("old", durable=True, arguments={"x-max-length": 5})
            channel.queue_bind("old", "fan")
            channel.exchange_declare("again", durable=True)
            channel.exchange_delete("again")
            channel.exchange_declare("again", "topic", durable=True)
            channel.queue_bind("a", "again", "#")
    connection.close()


def content_of(folder: Path) -> MemoryFiles:
    files = MemoryFiles()
    for path in sorted(folder.glob("*.segment")):
        files.set_content(path.name, path.read_bytes())
    return files


def chosen(files: MemoryFiles, name: str) -> Iterator[int]:
    everywhere = places(files, name, RANDOM_PLACES)
    source = random.Random(name)
    return iter(everywhere if PLACES == "all" else source.sample(everywhere, min(int(PLACES), len(everywhere))))


def messages(files: MemoryFiles) -> dict[str, list[bytes]]:
    """What a broker has in its queues that starts on these files."""
    broker = DiskBroker(files)
    if broker.users.get("guest") is None:  # it was the user's record
        broker.users.add("guest", "guest")
    broker.users.permit_all("guest", "/")
    channel = broker.client().channel()
    found = {name: channel.drain(name) for name in broker.virtual_host.queues}
    channel.client.connection.lost("looked around")
    return found


@pytest.mark.parametrize("kind", ["flip", "cut", "zero a sector"])
def test_any_damage_of_a_real_journal_ends_in_a_start_or_in_a_refusal(
    journal: MemoryFiles, allowed: list[dict[int, LiveRecord]], kind: str
) -> None:
    whole = allowed[-1]
    assert len(journal.names()) > 2
    refused = started = 0
    for name in journal.names():
        for place in chosen(journal, name):
            files = copy_of(journal)
            files.set_content(name, damaged(journal.content(name), place, kind))
            broken = copy_of(files)
            try:
                found = opened(files)[1]
            except JournalDamaged as error:
                refused += 1
                assert_names_the_place(error, journal, name)
                assert_repaired(broken, journal, name, place, kind, whole)
                left = messages(broken)
                assert messages(broken) == {name: [] for name in left}
            else:
                started += 1
                assert by_reference(found) in allowed
                assert check(broken).is_intact
                messages(broken)
    assert refused > started
