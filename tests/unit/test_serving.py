"""The command ``serve`` from within: a signal while the journal is read. The rest is in the end-to-end tests."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from amqp_broker.cli.serving import _serve
from amqp_broker.journal.port import Journal, Progress
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.data_folder import LOCK_FILE_NAME, DataFolder
from amqp_broker.server.service_manager import ServiceManager
from amqp_broker.settings import Settings


class ReadsForEver(BrokerServer):
    """A broker with a journal without end; the signal comes while it is read."""

    def open(self, journal: Journal, progress: Progress | None = None) -> None:
        assert progress is not None
        signal.raise_signal(signal.SIGTERM)
        while True:
            progress(0, 1)


def test_a_signal_ends_the_reading_of_a_long_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = ReadsForEver(Settings(host=("127.0.0.1",), port=0))
    trio.run(_serve, server, DataFolder(tmp_path), ServiceManager({}))
    assert capsys.readouterr().out == ""
    assert (tmp_path / LOCK_FILE_NAME).read_text() == ""
