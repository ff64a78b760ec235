"""What a journal holds that this release does not know: refused by name, and nothing is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from amqp_broker.broker.persistence.kinds import RecordKind
from amqp_broker.cli.application import application
from amqp_broker.journal.failures import FormatNotSupported, JournalFailed, NotAllowed
from amqp_broker.journal.journal import SegmentJournal
from amqp_broker.journal.memory_files import MemoryFiles
from amqp_broker.journal.real_files import RealFiles
from amqp_broker.wire.table import Table, encode_table
from tests.support.disk_broker import DiskBroker
from tests.unit.journal_helpers import commit

QUEUE: Table = {"virtual_host": "/", "name": "q", "auto_delete": False, "arguments": {}}
EXCHANGE: Table = {
    "virtual_host": "/",
    "name": "x",
    "type": "fanout",
    "auto_delete": False,
    "internal": False,
    "arguments": {},
}
USER: Table = {
    "name": "u",
    "password_hash": b"",
    "hashing_algorithm": "rabbit_password_hashing_sha256",
    "tags": [],
    "permissions": {},
}

# kind, content, what the refusal names
UNKNOWN: list[tuple[int, bytes, str]] = [
    (99, b"anything", "kind 99"),
    (RecordKind.EXCHANGE, encode_table({**EXCHANGE, "type": "x-jms-topic"}), "exchange 'x' is of type 'x-jms-topic'"),
    (RecordKind.QUEUE_STATE, encode_table({"queue": "q"}), "'queue' should be an integer"),
    (RecordKind.QUEUE, encode_table({**QUEUE, "arguments": {"x-queue-type": "other"}}), "'q' is of type 'other'"),
    (RecordKind.QUEUE, encode_table({**QUEUE, "arguments": {"x-overflow": "other"}}), "x-overflow"),
    (RecordKind.QUEUE, encode_table({**QUEUE, "auto_delete": 1}), "'auto_delete' should be a boolean"),
    (RecordKind.QUEUE, encode_table({"virtual_host": "/"}), "'name' should be text and is nothing"),
    (RecordKind.QUEUE, b"\0\0\0\x20short", "queue"),
    (RecordKind.USER, encode_table({**USER, "hashing_algorithm": "argon2"}), "argon2"),
    (RecordKind.USER, encode_table({**USER, "permissions": {"/": ["(", "", ""]}}), "user"),
    (RecordKind.USER, encode_table({**USER, "permissions": {"/": ["", ""]}}), "user"),
    (RecordKind.BINDING, encode_table({"virtual_host": "/", "source": 1}), "'source' should be text"),
    (RecordKind.HANDED_OUT, encode_table({"queue": "q", "marks": []}), "'queue' should be an integer"),
    (RecordKind.LIMITS, encode_table({"virtual_host": "/", "queues_max": "many"}), "'queues_max' should be an integer"),
    (RecordKind.RETURNED, b"short", "returned"),
    (RecordKind.MESSAGE, b"\0\1short", "message"),
]
UNKNOWN_IDS = [f"{number} {names}" for number, (_, _, names) in enumerate(UNKNOWN)]


def put(files: Any, kind: int, payload: bytes) -> None:
    """Add a record to a journal, and end without closing it: the end that a start closes."""
    journal = SegmentJournal(files, 65_536)
    for _ in journal.recover():
        pass
    journal.put(kind, payload)
    commit(journal)
    files.create("leftover.new", 100)


@pytest.mark.parametrize(("kind", "payload", "named"), UNKNOWN, ids=UNKNOWN_IDS)
def test_a_start_is_refused_by_name_and_touches_nothing(kind: int, payload: bytes, named: str) -> None:
    files = MemoryFiles()
    DiskBroker(files).client().channel().declare("before", durable=True)
    put(files, kind, payload)
    before = {name: files.content(name) for name in files.names()}
    with pytest.raises(FormatNotSupported) as caught:
        DiskBroker(files)
    assert named in str(caught.value)
    assert {name: files.content(name) for name in files.names()} == before


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", [["serve", "--port", "0", "--data-dir"], ["journal", "check"]])
def test_serve_and_check_say_the_same_with_an_exit_code_of_its_own(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    put(RealFiles(tmp_path / "journal"), 99, b"from tomorrow")
    before = content_of(tmp_path)
    ports = {"AMQP_BROKER_MANAGEMENT_PORT": "-1", "AMQP_BROKER_METRICS_PORT": "-1"}  # others may have the default
    result = CliRunner().invoke(application, [*command, str(tmp_path)], env=ports)
    assert result.exit_code == 9, result.output
    assert "record 1 of the journal (kind 99)" in result.stderr
    assert "nothing was changed; use the release that wrote it" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert content_of(tmp_path) == before


class ForeignFiles:
    """The files of another user."""

    def __init__(self, files: MemoryFiles) -> None:
        self.names = files.names
        self.full_name = files.full_name

    def open(self, name: str) -> Any:
        raise PermissionError(13, "Permission denied", name)


def test_another_users_files_are_not_a_failed_disk() -> None:
    files = MemoryFiles()
    put(files, 1, b"")
    foreign: Any = ForeignFiles(files)
    with pytest.raises(NotAllowed, match=r"\.segment: Permission denied"):
        DiskBroker(foreign)


class LockedFolder:
    """A folder in which this process may make no files."""

    def __init__(self) -> None:
        files = MemoryFiles()
        self.names = files.names
        self.full_name = files.full_name
        self.sync_folder = files.sync_folder
        self.remove = files.remove

    def create(self, name: str, reserve_bytes: int) -> Any:
        raise PermissionError(13, "Permission denied", name)


def test_a_folder_in_which_nothing_may_be_made_is_not_a_failed_disk_either() -> None:
    folder: Any = LockedFolder()
    journal = SegmentJournal(folder)
    assert list(journal.recover()) == []
    journal.put(1, b"")
    with pytest.raises(NotAllowed, match=r"\.segment.*: Permission denied"):
        commit(journal)


def test_what_was_not_synced_is_not_synced_by_a_folder_in_which_nothing_may_be_made_any_more() -> None:
    folder: Any = LockedFolder()
    files = MemoryFiles()
    folder.create = files.create
    folder.rename = files.rename
    journal = SegmentJournal(folder, 4096)
    assert list(journal.recover()) == []
    first = journal.put(1, b"")
    commit(journal, sync=False)
    del folder.create
    journal.put(1, bytes(4096))
    with pytest.raises(NotAllowed):
        commit(journal)
    assert journal.synced_position <= first
    with pytest.raises(JournalFailed, match="Permission denied"):
        journal.take_batch()
