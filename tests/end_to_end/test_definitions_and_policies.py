"""``amqp-broker definitions``, ``policies``, ``operator-policies``, ``parameters`` and ``vhosts describe``, and the
setting load_definitions, against broker processes.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.test_control import REFUSED, WRONG_USE, run
from tests.support.command_line import OurBroker


@pytest.fixture(scope="module")
def broker() -> Iterator[OurBroker]:
    process = OurBroker()
    yield process
    process.stop()


def shown(broker: OurBroker, *command: str) -> Any:
    return json.loads(broker.ctl(*command, "--json"))


def many_queues(count: int) -> dict[str, Any]:
    return {"queues": [{"name": f"q{number}", "vhost": "/", "durable": True} for number in range(count)]}


def test_policies_and_parameters(broker: OurBroker) -> None:
    broker.ctl("vhosts", "add", "shop", "--description", "the shop", "--tag", "a", "--default-queue-type", "quorum")
    broker.ctl("vhosts", "describe", "shop", "--default-queue-type", "none")
    host = next(host for host in shown(broker, "vhosts", "list") if host["name"] == "shop")
    assert (host["description"], host["tags"], host["default_queue_type"]) == ("the shop", ["a"], None)
    options = ("--vhost", "shop")
    broker.ctl("policies", "set", "p", "^x", '{"max-length": 3}', "--apply-to", "queues", "--priority", "2", *options)
    broker.ctl("operator-policies", "set", "o", "", '{"max-length": 2}', *options)
    broker.ctl("parameters", "set", "cluster_name", '"orders"')
    limits = '{"max-queues": 5}'
    broker.ctl("parameters", "set", "limits", limits, "--component", "vhost-limits", *options)
    broker.kill_and_restart()
    (policy,) = shown(broker, "policies", "list")
    assert policy == {
        "vhost": "shop",
        "name": "p",
        "pattern": "^x",
        "apply-to": "queues",
        "definition": {"max-length": 3},
        "priority": 2,
    }
    assert [one["name"] for one in shown(broker, "operator-policies", "list", *options)] == ["o"]
    found = {one["name"]: one["value"] for one in shown(broker, "parameters", "list")}
    assert (found["cluster_name"], found["limits"]) == ("orders", {"max-queues": 5})
    assert broker.ctl("policies", "list").splitlines()[-1].split()[:2] == ["shop", "p"]
    broker.ctl("policies", "clear", "p", *options)
    broker.ctl("operator-policies", "clear", "o", *options)
    broker.ctl("parameters", "clear", "cluster_name")
    assert shown(broker, "policies", "list") == []


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("policies", "set", "p", "x", '{"nope": 1}'), REFUSED, "are not recognised policy settings"),
        (("policies", "set", "p", "x", "max-length"), WRONG_USE, "the definition is not JSON"),
        (("policies", "clear", "p"), REFUSED, "there is no policy 'p' in virtual host '/'"),
        (("parameters", "clear", "p"), REFUSED, "there is no global parameter 'p'"),
        (("definitions", "import", "/no/such/file"), WRONG_USE, "cannot read /no/such/file"),
        (("vhosts", "describe", "/"), WRONG_USE, "say something"),
    ],
)
def test_what_is_refused(broker: OurBroker, arguments: tuple[str, ...], code: int, text: str) -> None:
    done = run(broker.data_folder, *arguments)
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def test_definitions_there_and_back(broker: OurBroker, tmp_path: Path) -> None:
    document = many_queues(3000)  # far more than a line of other commands
    document["users"] = [{"name": "app", "password_hash": "", "tags": ["a"]}]
    (tmp_path / "in.json").write_text(json.dumps(document))
    assert "3000 queues" in broker.ctl("definitions", "import", str(tmp_path / "in.json"))
    broker.kill_and_restart()
    file = tmp_path / "out.json"
    broker.ctl("definitions", "export", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    exported = json.loads(file.read_text())
    assert {queue["name"] for queue in exported["queues"]} == {f"q{number}" for number in range(3000)}
    assert "app" in [user["name"] for user in exported["users"]]
    broker.ctl("vhosts", "add", "copy")
    one = broker.ctl("definitions", "export", "--vhost", "/")
    broker.ctl("definitions", "import", "-", "--vhost", "copy", standard_input=one)
    again = json.loads(broker.ctl("definitions", "export", "--vhost", "copy"))
    assert again["queues"] == json.loads(one)["queues"]


def test_wrong_definitions_change_nothing(broker: OurBroker, tmp_path: Path) -> None:
    document = {
        "queues": [
            {"name": "good", "vhost": "/", "durable": True},
            {"name": "bad", "vhost": "/", "arguments": {"x-max-length": "many"}},
        ]
    }
    (tmp_path / "in.json").write_text(json.dumps(document))
    done = run(broker.data_folder, "definitions", "import", str(tmp_path / "in.json"))
    assert done.returncode == REFUSED
    assert "queue 'bad': invalid arg 'x-max-length'" in done.stderr
    assert "good" not in broker.ctl("queues", "list")


def test_definitions_are_loaded_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(json.dumps({"vhosts": [{"name": "shop"}]}))
    (tmp_path / "2.json").write_text(json.dumps({"queues": [{"name": "q", "vhost": "shop", "durable": True}]}))
    (tmp_path / "not.txt").write_text("no JSON")
    broker = OurBroker(environment={"AMQP_BROKER_LOAD_DEFINITIONS": str(tmp_path)})
    try:
        assert [queue["name"] for queue in shown(broker, "queues", "list", "--vhost", "shop")] == ["q"]
        broker.restart()
        assert [queue["name"] for queue in shown(broker, "queues", "list", "--vhost", "shop")] == ["q"]
    finally:
        broker.stop()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("no JSON", "is not JSON"),
        ('{"queues": [{"name": "q", "vhost": "nope"}]}', "queue 'q': there is no virtual host 'nope'"),
    ],
)
def test_definitions_that_cannot_be_loaded_end_the_start(tmp_path: Path, content: str, text: str) -> None:
    file = tmp_path / "definitions.json"
    file.write_text(content)
    with pytest.raises(RuntimeError) as failed:
        OurBroker(environment={"AMQP_BROKER_LOAD_DEFINITIONS": str(file)})
    assert "exit code 2" in str(failed.value)
    assert text in str(failed.value)
