"""What macOS answers otherwise, asked of stand-ins: no test runs on it."""

from __future__ import annotations

import ctypes
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from amqp_broker.journal import real_files
from amqp_broker.journal.real_files import RealFiles
from amqp_broker.server import macos_memory

FULL_SYNC = 51


class Kernel:
    """Answers as macOS would that this process occupies so much."""

    def __init__(self, resident_bytes: int, failure: int = 0) -> None:
        self.answer = (ctypes.c_uint64 * 6)(1 << 40, resident_bytes, resident_bytes * 2, 0, 0, 0)
        self.failure = failure

    def task_info(self, task: Any, flavor: int, info: Any, size_words: Any) -> int:
        assert (flavor, size_words._obj.value) == (20, 12)
        ctypes.memmove(info._obj, self.answer, ctypes.sizeof(self.answer))
        return self.failure


def test_the_memory_that_is_resident_is_told_not_its_peak_nor_what_is_mapped() -> None:
    assert macos_memory.resident_bytes(Kernel(123 << 20)) == 123 << 20  # type: ignore[arg-type]
    assert macos_memory.resident_bytes(Kernel(123 << 20, failure=5)) == 0  # type: ignore[arg-type]


IS_COMPILED = os.environ.get("AMQP_BROKER_UNDER_TEST") == "compiled"


@pytest.mark.skipif(IS_COMPILED, reason="compiled, the platform is a constant")
@pytest.mark.parametrize("can_full_sync", [True, False])
def test_a_sync_reaches_the_disk_itself_where_the_file_system_can(
    can_full_sync: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def fcntl(descriptor: int, command: int) -> None:
        done.append("full" if can_full_sync else "refused")
        assert command == FULL_SYNC
        if not can_full_sync:
            raise OSError(45, "Operation not supported")

    monkeypatch.setattr(real_files, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(real_files, "fcntl", SimpleNamespace(fcntl=fcntl, F_FULLFSYNC=FULL_SYNC), raising=False)
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("plain"))
    file = RealFiles(tmp_path).create("a", 0)
    file.sync()
    assert done == (["full"] if can_full_sync else ["refused", "plain"])
    assert sys.platform  # the interpreter's own is as it was
