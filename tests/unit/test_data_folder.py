"""The data folder: made private, held by one process, refused in words."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from amqp_broker.server.data_folder import LOCK_FILE_NAME, CannotUseDataFolder, DataFolder
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
