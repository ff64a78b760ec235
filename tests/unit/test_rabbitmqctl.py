"""What of RabbitMQ's tools needs no broker: which commands there are not, and which plugins are always there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from amqp_broker.cli.rabbitmqctl import refused
from amqp_broker.cli.rabbitmqctl.catalogue import DIAGNOSTICS, QUEUES, STREAMS, TOOLS
from amqp_broker.cli.rabbitmqctl.outcome import Code
from amqp_broker.cli.rabbitmqctl.run import run

DOCUMENT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
CTL = "rabbitmqctl"
REFUSED = {
    CTL: refused.OF_CTL,
    DIAGNOSTICS: refused.OF_DIAGNOSTICS,
    QUEUES: refused.OF_QUEUES,
    STREAMS: refused.OF_STREAMS,
}


def test_documents_list_what_is_not_there_and_why() -> None:
    rows = re.findall(r"^\| (rabbitmq[\w-]*) \| (.*) \| (.*) \|$", DOCUMENT, re.MULTILINE)
    assert rows == [
        (tool, ", ".join(f"`{name}`" for name in one.names), one.reason)
        for tool, group in REFUSED.items()
        for one in group
    ]


@pytest.mark.parametrize("tool", REFUSED)
def test_what_is_not_there_says_what_to_do_instead(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    for one in REFUSED[tool]:
        for name in one.names:
            assert run(CTL, [tool, name, "with", "--what-ever"]) == Code.UNAVAILABLE
            assert capsys.readouterr().err == f"Error:\nthere is no {name} here: {one.reason}\n"


@pytest.mark.parametrize("tool", TOOLS)
def test_help_fits_a_terminal(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(CTL, [tool, "help"]) == Code.OK
    said = capsys.readouterr().out
    assert tool in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["enable", "--offline", "rabbitmq_management", "rabbitmq_shovel"], Code.OK, "  rabbitmq_shovel\n"),
        (["enable", "rabbitmq_mqtt"], Code.UNAVAILABLE, 'rabbitmq_mqtt is a setting here: protocols = ["mqtt"]'),
        (["enable", "rabbitmq_nope"], Code.DATA, "could not be found: rabbitmq_nope"),
        (["disable", "rabbitmq_management"], Code.UNAVAILABLE, "management_port = -1"),
        (["is_enabled", "rabbitmq_management"], Code.OK, "Plugin rabbitmq_management is enabled on node"),
        (
            ["is_enabled", "rabbitmq_management", "rabbitmq_stomp"],
            Code.UNAVAILABLE,
            "Plugin rabbitmq_stomp is not enabled",
        ),
        (["list", "^rabbitmq_m", "-m", "-E"], Code.OK, "rabbitmq_management\nrabbitmq_management_agent\n"),
        (["list", "("], Code.DATA, "no regular expression"),
        (["disable"], Code.USAGE, "not enough arguments."),
        (["enable", "--online", "--offline", "x"], Code.DATA, "Cannot set both online and offline"),
    ],
)
def test_plugins_are_there_or_a_setting(
    arguments: list[str], code: Code, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(CTL, ["rabbitmq-plugins", *arguments, "--data-dir", str(tmp_path)]) == code
    said = capsys.readouterr()
    assert says in (said.err if code else said.out)
