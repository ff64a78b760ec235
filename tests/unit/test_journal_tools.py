"""check, dump and repair, and what any damage comes to: a clean start, or a refusal that names the place.

JOURNAL_DAMAGES in the environment is how many random places are tried beside the boundaries.
"""

from __future__ import annotations

import os
from itertools import product
from random import Random

import pytest

from amqp_broker.journal.check import check
from amqp_broker.journal.dump import dump
from amqp_broker.journal.failures import FormatNotSupported, JournalDamaged
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.journal.records import DROPS_KIND
from amqp_broker.journal.repair import repair
from amqp_broker.journal.segments import SegmentReader, segment_name
from tests.support.journal_damage import (
    assert_names_the_place,
    assert_repaired,
    by_reference,
    copy_of,
    damaged,
    places,
    states,
)
from tests.unit.journal_helpers import commit, live_payloads, opened, reclaim_all

RANDOM_PLACES = int(os.environ.get("JOURNAL_DAMAGES", "8"))
LARGE_PAYLOAD = bytes(range(256)) * 1200


def a_journal(*, is_closed: bool) -> MemoryFiles:
    """Fresh and rewritten segments with drops and shared records; the last one is open or closed."""
    random = Random(5)
    files = MemoryFiles()
    journal, _ = opened(files)
    references: list[int] = []
    for number in range(12):
        references.extend(journal.put(1, random.randbytes(random.choice([0, 20, 200, 700]))) for _ in range(6))
        shared = journal.put(2, b"shared %d" % number, claims=3)
        commit(journal)
        journal.drop(shared + number % 3)
        journal.drop_many([reference for reference in references[-6:] if random.random() < 0.3])
        commit(journal)
        if number == 6:
            journal.drop_many(references[:12])
            commit(journal)
            reclaim_all(journal)
    if is_closed:
        journal.close()
    return files


@pytest.mark.parametrize(
    ("kind", "is_closed"),
    [
        ("cut", False),
        *(
            pytest.param(kind, is_closed, marks=pytest.mark.slow)
            for kind, is_closed in product(["flip", "cut", "zero a sector"], [True, False])
            if (kind, is_closed) != ("cut", False)
        ),
    ],
)
def test_any_damage_ends_in_a_clean_start_or_in_a_refusal_and_repair_saves_the_rest(kind: str, is_closed: bool) -> None:
    original = a_journal(is_closed=is_closed)
    allowed = states(original)
    whole = allowed[-1]
    outcomes = {"refused": 0, "started": 0}
    for name in original.names():
        for place in places(original, name, RANDOM_PLACES):
            files = copy_of(original)
            files.set_content(name, damaged(original.content(name), place, kind))
            broken = copy_of(files)
            try:
                _, found = opened(files)
            except JournalDamaged as error:
                outcomes["refused"] += 1
                assert_names_the_place(error, original, name)
                assert_repaired(broken, original, name, place, kind, whole)
            else:
                outcomes["started"] += 1
                assert by_reference(found) in allowed
                assert check(broken).is_intact
    assert outcomes["refused"] > 100
    assert outcomes["started"] > (0 if kind == "cut" or not is_closed else -1)


@pytest.mark.parametrize("place", [70, 120, 100_000, 262_250, 262_270, 300_000])
def test_damage_in_a_record_larger_than_a_block_costs_that_record(place: int) -> None:
    files = MemoryFiles()
    journal, _ = opened(files, segment_bytes=1024 * 1024)
    journal.put(3, LARGE_PAYLOAD)
    commit(journal)
    journal.put(1, b"after")
    commit(journal)
    journal.close()
    name = files.names()[0]
    files.set_content(name, damaged(files.content(name), place, "flip"))
    with pytest.raises(JournalDamaged):
        opened(copy_of(files))
    assert repair(files).saved_records == 1
    assert live_payloads(opened(files)[1]) == [b"after"]


def test_check_counts_what_is_there() -> None:
    files = a_journal(is_closed=True)
    report = check(copy_of(files))
    journal, found = opened(files)
    assert report.is_intact
    assert report.live_records == len(found)
    assert report.dead_records == report.records - report.live_records > 0
    assert report.live_bytes == sum(len(payload) for payload in live_payloads(found))
    assert report.disk_bytes == journal.disk_bytes
    assert report.drops > 0
    assert report.segments == len(files.names())
    assert report.torn_tail is None


def test_check_changes_nothing_and_tells_a_torn_tail_from_damage() -> None:
    files = a_journal(is_closed=False)
    last = files.names()[-1]
    files.set_content(last, files.content(last).rstrip(b"\0")[:-3])
    before = {name: files.content(name) for name in files.names()}
    report = check(files)
    assert report.is_intact
    assert report.torn_tail is not None
    assert list(dump(files))[-1] == f"unfinished: {report.torn_tail}"
    assert {name: files.content(name) for name in files.names()} == before
    assert repair(files).damages == []


def test_check_says_where_the_damage_is_and_goes_on() -> None:
    files = a_journal(is_closed=True)
    name = next(name for name in files.names() if b"shared 9" in files.content(name))
    content = files.content(name)
    offset = content.index(b"shared 9")
    files.set_content(name, content.replace(b"shared 9", b"shared X"))
    report = check(files)
    assert len(report.damages) == 1
    damage = report.damages[0]
    assert damage.file == f"memory/{name}"
    assert damage.offset < offset < damage.offset + damage.size_bytes
    assert str(damage).startswith(f"memory/{name}: {damage.size_bytes} bytes from byte {damage.offset} on are damaged")
    assert any("DAMAGED" in line for line in dump(files))


def test_dump_prints_a_line_for_each_record_and_bodies_only_when_asked() -> None:
    files = MemoryFiles()
    journal, _ = opened(files)
    first = journal.put(1, b"secret")
    shared = journal.put(2, b"", claims=3)
    commit(journal)
    journal.drop_many([first, shared + 1])
    commit(journal)
    text = "\n".join(dump(files))
    assert f"dead      {first} kind 1, 6 bytes" in text
    assert f"live      {shared} kind 2, 0 bytes, 2 of 3 claims live" in text
    assert f"drops     {first} {shared + 1}" in text
    assert "secret" not in text
    text = "\n".join(dump(files, lambda kind, payload: f"{kind}={payload!r}"))
    assert f"dead      {first} kind 1, 6 bytes: 1=b'secret'" in text


def test_a_repaired_journal_goes_on() -> None:
    files = a_journal(is_closed=False)
    last = files.names()[-1]
    content = files.content(last)
    offset = content.index(b"shared 10")
    files.set_content(last, content.replace(b"shared 10", b"shared XX"))
    with pytest.raises(JournalDamaged):
        opened(files)
    report = repair(files)
    assert report.saved_records > 0
    assert report.lost_bytes > 0
    assert offset
    journal, found = opened(files)
    reference = journal.put(1, b"new")
    assert reference > max(record[0] for record in found)
    commit(journal)
    journal, again = opened(files)
    assert by_reference(again) == by_reference(found) | {reference: (reference, 1, b"new", [reference])}


@pytest.mark.parametrize("place", [1, -1], ids=["in the middle", "the last"])
def test_drops_hold_where_a_segment_has_lost_its_header_and_all_records(place: int) -> None:
    files = MemoryFiles()
    journal, _ = opened(files)
    while len(files.names()) < 3:
        references = [journal.put(1, b"%d" % number * 300) for number in range(3)]
        journal.drop(references[-1])
        commit(journal)
    name = files.names()[place]
    files.set_content(name, bytes(len(files.content(name))))
    repair(files)
    journal, found = opened(files)
    assert len(found) > 5
    journal.drop_many([reference for reference, *_ in found])
    commit(journal)
    assert opened(files)[1] == []


def test_repair_twice_keeps_both_files_aside() -> None:
    files = a_journal(is_closed=True)
    name = files.names()[-1]
    for place in (20, 70):
        files.set_content(name, damaged(files.content(name), place, "flip"))
        repair(files)
    assert [kept for kept in files.names() if "damaged" in kept] == [f"{name}.damaged", f"{name}.damaged-2"]


def test_another_format_is_refused_by_every_tool() -> None:
    files = MemoryFiles()
    journal, _ = opened(files)
    journal.put(1, b"")
    commit(journal)
    name = segment_name(1, 1)
    reader = SegmentReader(files, name)
    newer = reader.header._replace(version=99).encode()
    files.set_content(name, newer + files.content(name)[64:])
    for tool in (check, repair, lambda it: list(dump(it))):
        with pytest.raises(FormatNotSupported, match="version 99"):
            tool(files)
    assert files.names() == [name]


def test_an_empty_folder_is_intact() -> None:
    files = MemoryFiles()
    assert check(files).is_intact
    assert list(dump(files)) == []
    assert repair(files).damages == []
    assert DROPS_KIND == 0
