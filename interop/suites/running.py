"""Runs a prepared suite against one broker and reads what came of it.

Not here: preparing it, and choosing brokers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from interop.brokers import Address
from interop.suites.preparation import (
    PreparationError,
    apply_setting,
    filled_in,
    node_modules_for,
    python_for,
    unpacked_copy,
)
from interop.suites.suite import Suite

WORST_FIRST = ("failed", "passed", "skipped")
RAN_TO_ITS_END = {"pytest": (0, 1), "node": (0, 1, 3)}
"""Exit codes; jasmine says 3 where a test failed."""


@dataclass(frozen=True)
class BrokerAsked:
    """A broker that runs, and where; `more` may name further ports, and whatever else a suite has to know of it."""

    kind: str
    address: Address
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def places(self) -> dict[str, str]:
        """What environments and settings of suites may name, in braces."""
        address = self.address
        known = {"kind": self.kind, "host": address.host, "port": str(address.port), "url": address.url}
        return {**known, **self.more}


@dataclass
class Results:
    """The outcome of every test by its id: passed, failed (errors included) or skipped."""

    broker: str
    duration_s: float = 0.0
    outcomes: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def count(self, outcome: str) -> int:
        return Counter(self.outcomes.values())[outcome]

    def failed(self) -> list[str]:
        return sorted(test for test, outcome in self.outcomes.items() if outcome == "failed")

    def summary(self) -> str:
        counts = f"{self.count('passed')} passed, {self.count('failed')} failed"
        if skipped := self.count("skipped"):
            counts += f", {skipped} skipped"
        return f"{counts} ({self.duration_s:.0f} s)"


def run_suite(
    suite: Suite,
    broker: BrokerAsked,
    cache: Path,
    *,
    own_tree: Path | None = None,
    more_arguments: tuple[str, ...] = (),
    log_path: Path | None = None,
) -> Results:
    """Runs the suite from a fresh copy of its tree.

    Args:
        own_tree: a tree of the client's source in place of the pinned archive.
        more_arguments: further arguments of what runs it.
        log_path: where its output is kept.

    Raises:
        PreparationError: the suite cannot be had, or did not run to an end.
    """
    with tempfile.TemporaryDirectory(prefix=f"suite-{suite.name}-") as folder:
        (Path(folder) / "unpacked").mkdir()
        tree = unpacked_copy(suite, cache, Path(folder) / "unpacked", own_tree)
        for setting in suite.settings:
            apply_setting(tree, setting, broker.places)
        for path, stand_in in suite.replaced.items():
            shutil.copy(stand_in, tree / path)
        report = Path(folder) / "report.xml"
        command = [*_command(suite, cache, tree, report), *more_arguments]
        started = time.monotonic()
        done = subprocess.run(
            command,
            cwd=tree,
            env={**_environment(suite, broker), "JUNIT_REPORT": str(report)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if log_path is not None:
            log_path.write_bytes(done.stdout)
        if done.returncode not in RAN_TO_ITS_END[suite.runs_with] or not report.exists():
            output = done.stdout.decode(errors="replace")[-4000:]
            raise PreparationError(f"{suite.name} did not run to its end (exit code {done.returncode}):\n{output}")
        return read_report(report, broker.kind, time.monotonic() - started)


def _command(suite: Suite, cache: Path, tree: Path, report: Path) -> list[str]:
    left_out = [argument for each in suite.left_out for argument in each.arguments]
    if suite.runs_with == "node":
        (tree / "node_modules").symlink_to(node_modules_for(suite, cache))
        return ["node", *suite.arguments, *left_out]
    how = [
        "-q",
        "--durations=10",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        f"--timeout={suite.test_timeout_s}",
    ]
    return [str(python_for(suite, cache)), "-m", "pytest", *how, *left_out, *suite.arguments]


def _environment(suite: Suite, broker: BrokerAsked) -> dict[str, str]:
    """Ours without what would lead Python or pytest elsewhere, and the suite's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    own = {name: filled_in(value, broker.places) for name, value in suite.environment.items()}
    return {**kept, **own, "PYTHONDONTWRITEBYTECODE": "1"}


def read_report(report: Path, broker: str, duration_s: float) -> Results:
    """Reads pytest's JUnit file. A test with several entries (an error while cleaning up) counts once, by the worst."""
    results = Results(broker, duration_s)
    for case in ElementTree.parse(report).iter("testcase"):
        test = f"{case.get('classname', '')}::{case.get('name', '')}"
        trouble = next((each for each in case if each.tag in ("failure", "error")), None)
        if trouble is not None:
            outcome = "failed"
            results.reasons[test] = (trouble.get("message") or "").strip().split("\n")[0][:200]
        else:
            outcome = "skipped" if case.find("skipped") is not None else "passed"
        results.outcomes[test] = min(outcome, results.outcomes.get(test, outcome), key=WORST_FIRST.index)
    return results
