"""docs/testing.md and README.md: every Python example runs as it stands, and every name is documented."""

from __future__ import annotations

import html
import re
import runpy
import time
from pathlib import Path
from typing import Any

import pika
import pytest

from amqp_broker.cli.configuration import load
from amqp_broker.testing import Broker
from amqp_broker.testing.pytest_plugin import CHECKS
from tests.testing.test_pytest_plugin import PLUGIN

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = (REPOSITORY, REPOSITORY / "amqp_broker")
IMAGES = REPOSITORY / "docs" / "images"
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
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    if "def test_" in example:
        expected = {"passed": example.count("def test_")}
        pytester.runpytest_inprocess(*PLUGIN, "-p", "no:cacheprovider").assert_outcomes(**expected)
    else:
        exec(compile(example, path, "exec"), {"__name__": "__main__"})


def test_hello_world_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both programs as they stand, but for the port; the second one is ended when it has said what it received."""
    send, receive = (block for block in BLOCK.findall(README) if "hello" in block and "amqp_broker" not in block)
    said: list[str] = []

    def note(text: str) -> None:
        said.append(text)
        if "Received" in text:
            raise KeyboardInterrupt

    with Broker() as broker:
        monkeypatch.setattr(pika.ConnectionParameters, "DEFAULT_PORT", broker.port)
        exec(compile(send, "send.py", "exec"), {"__name__": "__main__", "print": note})
        names: dict[str, Any] = {"__name__": "__main__", "print": note}
        with pytest.raises(KeyboardInterrupt):
            exec(compile(receive, "receive.py", "exec"), names)
        names["connection"].close()
    assert said == [" [x] Sent 'Hello World!'", " [x] Received b'Hello World!'"]


def test_the_settings_of_the_readme_are_taken(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "broker.toml").write_text(block)
    assert load({}, tmp_path / "broker.toml", {"HOME": "/h"}).settings.host == ("*",)


def test_the_picture_of_the_failing_test_is_what_pytest_shows(pytester: pytest.Pytester) -> None:
    """README's first test with the slip that the text tells of; ports, rulers and line breaks aside."""
    (block,) = (block for block in BLOCK.findall(README) if "clock.advance" in block)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(test_orders=block.replace('routing-key": "cancel"', 'routing-key": "cancelled"'))
    shown = pytester.runpytest_inprocess(*PLUGIN, "-p", "no:cacheprovider").stdout.str()
    picture = (REPOSITORY / "docs" / "images" / "failure.svg").read_text(encoding="utf-8")
    lines = [html.unescape(line) for line in re.findall(r"<text [^>]*>(.*?)</text>", picture)]
    told = [re.sub(r":\d{4,5}, |, \.\.\.\)$", "", line).strip(" -") for line in lines]
    missing = [line for line in told if line != "..." and line not in re.sub(r":\d{4,5}, ", "", shown)]
    assert len(lines) > 12
    assert not missing


def test_the_drawings_are_what_draw_py_draws() -> None:
    names = runpy.run_path(str(IMAGES / "draw.py"))
    for name in ("layers", "message", "rates", "failure"):
        assert (IMAGES / f"{name}.svg").read_text(encoding="utf-8") == names[name]()


def test_every_file_that_a_contributor_is_sent_to_is_there() -> None:
    page = (REPOSITORY / "docs" / "contributing.md").read_text(encoding="utf-8")
    paths = {
        path for path in re.findall(r"`([a-z_/]+/[\w/.-]+\.(?:py|md|json))`", page) if not re.search("[A-Z]", path)
    }
    assert len(paths) > 30
    assert [path for path in sorted(paths) if not any((root / path).exists() for root in ROOTS)] == []


def test_every_link_of_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", README)
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', README)
    inside = [link for link in (*links, *pictures) if "://" not in link]
    assert len(inside) > 10
    assert pictures
    assert [link for link in inside if not (REPOSITORY / link).exists()] == []


def test_the_retry_ladder_takes_less_than_a_second() -> None:
    """Of the processor, the quickest of three: the machine may have other things to do."""
    (example,) = (block for block in BLOCK.findall(PAGE) if "def declare_ladder" in block)
    names: dict[str, Any] = {}
    exec(compile(example, "docs/testing.md", "exec"), names)
    used_s, took_s = [], []
    for _ in range(3):
        with Broker() as broker:
            used_before_s, started_s = time.process_time(), time.monotonic()
            names["test_a_message_climbs_the_ladder_and_is_given_up"](broker, broker.url)
            used_s.append(time.process_time() - used_before_s)
            took_s.append(time.monotonic() - started_s)
    assert min(used_s) < 1
    assert min(took_s) < 30  # and not the hour and eleven minutes of the broker's time


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
