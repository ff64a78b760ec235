"""docs/testing.md and README.md: every Python example about tests runs as it stands, and every name is documented."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from amqp_broker.testing import Broker
from amqp_broker.testing.pytest_plugin import CHECKS
from tests.testing.test_pytest_plugin import PLUGIN

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "testing.md").read_text(encoding="utf-8")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples() -> list[object]:
    """Every example, named by its first function or line."""
    blocks = BLOCK.findall(PAGE) + [block for block in BLOCK.findall(README) if "amqp_broker" in block]
    return [pytest.param(block, id=title(block)) for block in blocks]


def title(block: str) -> str:
    named = re.search(r"def (test_\w+)|^(?:with|async def|def) (\w+)", block, re.MULTILINE)
    assert named is not None, block
    return named.group(1) or named.group(2)


@pytest.mark.parametrize("example", examples())
def test_an_example_runs_as_it_stands(example: str, pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(example)
    if "def test_" in example:
        expected = {"passed": example.count("def test_")}
        pytester.runpytest_inprocess(*PLUGIN, "-p", "no:cacheprovider").assert_outcomes(**expected)
    else:
        exec(compile(example, path, "exec"), {"__name__": "__main__"})


def test_the_retry_ladder_takes_less_than_a_second() -> None:
    """The quickest of five: the machine may have other things to do now and then."""
    (example,) = (block for block in BLOCK.findall(PAGE) if "def declare_ladder" in block)
    names: dict[str, Any] = {}
    exec(compile(example, "docs/testing.md", "exec"), names)
    took_s = []
    for _ in range(5):
        with Broker() as broker:
            started_s = time.monotonic()
            names["test_a_message_climbs_the_ladder_and_is_given_up"](broker, broker.url)
            took_s.append(time.monotonic() - started_s)
    assert min(took_s) < 1


def test_there_are_examples_of_everything() -> None:
    assert len(examples()) >= 10


@pytest.mark.parametrize("kind", ["view", "fail", "clock", "queue"])
def test_every_public_name_is_documented(kind: str) -> None:
    broker = Broker()
    public = {"view": broker, "fail": broker.fail, "clock": broker.clock, "queue": broker.queue("q")}[kind]
    names = {name for name in dir(type(public)) if not name.startswith("_")}
    missing = {name for name in names if not re.search(rf"\b{name}\b", PAGE)}
    assert not missing


def test_every_check_and_ini_setting_is_documented() -> None:
    plugin = (REPOSITORY / "amqp_broker" / "testing" / "pytest_plugin.py").read_text(encoding="utf-8")
    settings = re.findall(r'addini\("(\w+)"', plugin)
    assert settings
    assert all(f"`{name}`" in PAGE for name in (*CHECKS, *settings))


def test_every_link_within_the_page_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line[3:]).strip().lower().replace(" ", "-")
        for line in re.findall(r"^## .*$", PAGE, re.M)
    }
    links = set(re.findall(r"\]\(#([\w-]+)\)", PAGE))
    assert links <= headings
