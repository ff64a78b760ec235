"""The data folder: made private, held by one process, refused in words."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from amqp_broker.cli.control import NotLetIn, exchange
from amqp_broker.cli.exit_codes import ExitCode
from amqp_broker.cli.journal import check
from amqp_broker.cli.serving import _explained
from amqp_broker.journal.failures import NotAllowed
from amqp_broker.server.data_folder import LOCK_FILE_NAME, CannotUseDataFolder, DataFolder, cannot_use, whose
from amqp_broker.server.journal_folder import JOURNAL_FOLDER_NAME, open_journal
from amqp_broker.settings import Settings


def test_it_is_made_for_its_owner_only_and_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "state" / "amqp-broker"
    with DataFolder(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert (path / LOCK_FILE_NAME).read_text() == f"{os.getpid()}\n"


def test_a_second_broker_is_kept_out_until_the_first_has_gone(tmp_path: Path) -> None:
    with DataFolder(tmp_path):
        with pytest.raises(CannotUseDataFolder) as refused, DataFolder(tmp_path):
            pass
        assert str(tmp_path) in str(refused.value)
        assert str(os.getpid()) in str(refused.value)
        assert "--data-dir" in str(refused.value)
    with DataFolder(tmp_path):
        pass


def test_a_lock_file_left_behind_holds_nobody_out(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE_NAME).write_text("4711\n")
    with DataFolder(tmp_path):
        assert (tmp_path / LOCK_FILE_NAME).read_text() == f"{os.getpid()}\n"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CannotUseDataFolder, match=r"file/data cannot be used: .*: choose another with --data-dir"),
        DataFolder(tmp_path / "file" / "data"),
    ):
        pass


def test_a_file_in_the_journals_place_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FOLDER_NAME).write_text("mine")
    with pytest.raises(CannotUseDataFolder, match=r"File exists \(.*/journal\): choose another with --data-dir"):
        open_journal(tmp_path, Settings())
    assert (tmp_path / JOURNAL_FOLDER_NAME).read_text() == "mine"


@pytest.fixture
def somebody_else(monkeypatch: pytest.MonkeyPatch) -> str:
    """From here on this process takes itself for a user who has no name; returns that of the files' owner."""
    owner = pwd.getpwuid(os.geteuid()).pw_name
    monkeypatch.setattr("amqp_broker.server.data_folder.os.geteuid", lambda: 54_321)
    return owner


def test_a_folder_of_another_user_is_refused_with_both_names_and_the_ways_out(
    tmp_path: Path, somebody_else: str
) -> None:
    refused = cannot_use(tmp_path, PermissionError(13, "Permission denied", str(tmp_path / "lock")))
    assert str(refused) == (
        f"data folder {tmp_path} cannot be used: Permission denied ({tmp_path}/lock): it belongs to {somebody_else}, "
        f"and this runs as user 54321: run it as {somebody_else}, have it given to user 54321, or choose another with "
        "--data-dir"
    )


def test_where_a_folder_cannot_be_made_the_one_around_it_counts(tmp_path: Path, somebody_else: str) -> None:
    assert whose(tmp_path / "not" / "there") == (
        f"{tmp_path} belongs to {somebody_else}, and this runs as user 54321: run it as {somebody_else}, or have the "
        "folder made for user 54321"
    )


def test_what_is_ones_own_belongs_to_nobody_else(tmp_path: Path) -> None:
    assert whose(tmp_path) == ""
    refused = cannot_use(tmp_path, PermissionError(13, "Permission denied"))
    assert str(refused) == f"data folder {tmp_path} cannot be used: Permission denied: choose another with --data-dir"


def test_a_command_that_is_not_let_in_says_whose_the_folder_is(
    tmp_path: Path, somebody_else: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def refuse(path: Path) -> Iterator[str]:
        raise PermissionError(13, "Permission denied")
        yield ""

    monkeypatch.setattr("amqp_broker.server.control_address.reachable_address", refuse)
    (tmp_path / "control").touch()
    with pytest.raises(NotLetIn, match=rf"/control: Permission denied: it belongs to {somebody_else}, and this"):
        list(exchange(str(tmp_path), "users.list", {}))


def test_a_journal_of_another_user_is_no_failed_disk_and_no_defect(
    tmp_path: Path, somebody_else: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(typer.Exit) as ended:
        check(data_dir=str(tmp_path))
    assert ended.value.exit_code == ExitCode.CANNOT_USE_DATA_FOLDER
    assert capsys.readouterr().err == f"amqp-broker: {tmp_path}: Permission denied\n"
    monkeypatch.undo()
    code, text = _explained(NotAllowed(str(tmp_path), "Permission denied"), str(tmp_path))
    assert code == ExitCode.CANNOT_USE_DATA_FOLDER
    assert (
        text == f"{tmp_path}: Permission denied: let it be read and written, or choose another folder with --data-dir"
    )
