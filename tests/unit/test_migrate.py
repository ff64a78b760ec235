"""``amqp-broker migrate`` before it has asked anybody: what it refuses. The rest is in the end-to-end tests."""

from __future__ import annotations

import pytest
import typer

from amqp_broker.cli.exit_codes import ExitCode
from amqp_broker.cli.migrate import migrate


def test_two_brokers_are_not_asked_at_one_address(capsys: pytest.CaptureFixture[str]) -> None:
    """They differ in their ports; the HTTP API that is assumed of both would be that of one of them, or of neither."""
    with pytest.raises(typer.Exit) as ended:
        migrate("amqp://localhost", "amqp://localhost:5673")
    assert ended.value.exit_code == ExitCode.WRONG_USE
    assert capsys.readouterr().err == (
        "amqp-broker: both brokers would be asked for their definitions at http://localhost:15672: name one's HTTP API "
        "with --old-api or --new-api\n"
    )
