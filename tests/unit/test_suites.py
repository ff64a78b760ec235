"""The runner of stock suites: what it reads from a report, and what it rewrites. Nothing is fetched or started here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from interop.differences import DIFFERENCES
from interop.suites.__main__ import main
from interop.suites.catalogue import SUITES
from interop.suites.preparation import PreparationError, apply_setting
from interop.suites.running import read_report
from interop.suites.suite import Setting

REPORT = """<testsuites><testsuite>
<testcase classname="t.A" name="passes" />
<testcase classname="t.A" name="fails"><failure message="1 is not 2&#10;more">...</failure></testcase>
<testcase classname="t.A" name="is skipped"><skipped message="no kqueue" /></testcase>
<testcase classname="t.A" name="breaks while cleaning up" />
<testcase classname="t.A" name="breaks while cleaning up"><error message="the socket is gone">...</error></testcase>
</testsuite></testsuites>"""


def test_a_report_is_read_with_the_worst_outcome_of_each_test(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)

    results = read_report(tmp_path / "report.xml", "ours", 3.0)

    assert results.outcomes == {
        "t.A::passes": "passed",
        "t.A::fails": "failed",
        "t.A::is skipped": "skipped",
        "t.A::breaks while cleaning up": "failed",
    }
    assert results.failed() == ["t.A::breaks while cleaning up", "t.A::fails"]
    assert results.reasons["t.A::fails"] == "1 is not 2"
    assert results.summary() == "1 passed, 2 failed, 1 skipped (3 s)"


def test_a_setting_is_rewritten_wherever_it_stands(tmp_path: Path) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("connect(port=5672)\n")

    apply_setting(tmp_path, Setting("*.py", "port=5672", "port={port}"), {"host": "127.0.0.1", "port": "40001"})

    assert {path.read_text() for path in tmp_path.iterdir()} == {"connect(port=40001)\n"}


def test_a_setting_that_no_longer_fits_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("connect()\n")

    with pytest.raises(PreparationError, match="no longer fits"):
        apply_setting(tmp_path, Setting("*.py", "port=5672", "port={port}"), {"host": "127.0.0.1", "port": "40001"})


def test_every_meant_difference_is_in_the_list() -> None:
    topics = {topic for suite in SUITES.values() for topic in suite.meant.values()}
    # What another RabbitMQ than the one asked does is in the table of behave_like, and no difference of ours; nor is
    # what it would do with a plugin that it does not have.
    of_the_one_asked = ("behave_like ", "RabbitMQ lacks ")
    assert {topic for topic in topics if not topic.startswith(of_the_one_asked)} <= set(DIFFERENCES)


@pytest.mark.parametrize(
    ("suite", "kind"), [("pika", "rabbitmq-4"), ("eclipse-mqtt-5", "rabbitmq-4"), ("stompjs", "mosquitto")]
)
def test_a_broker_that_a_suite_is_not_asked_of_is_an_error(
    suite: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No other one is asked in its place."""
    monkeypatch.setattr("interop.suites.__main__.run_suite", lambda *_, **__: pytest.fail("it ran"))
    monkeypatch.setattr(sys, "argv", ["suites", suite, "--broker", kind, "--cache", str(tmp_path)])

    assert main() == 2
    assert f"not of {kind}" in capsys.readouterr().err
