"""What a run found, by feature: asked, the same, different on purpose, different. Plain data in, text out.

Not here: how the outcomes are gathered (conftest.py), the page that is made from them (compatibility.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from interop.brokers import RABBITMQ

VERDICTS = ("same", "different on purpose", "different", "wrong on RabbitMQ", "not compared", "skipped")


@dataclass
class Asked:
    """One test, asked of one or both brokers."""

    feature: str
    test: str
    outcomes: dict[str, str] = field(default_factory=dict)
    """The outcome (passed, failed, skipped) for each broker's kind."""
    differences: list[str] = field(default_factory=list)
    """Topics of the list of differences that the test relied on."""
    reason: str = ""
    """The first line of why it failed or was skipped."""

    @property
    def verdict(self) -> str:
        """What it comes to; it may have been skipped on a RabbitMQ that does not have what it is about."""
        failed = {choice for choice, outcome in self.outcomes.items() if outcome == "failed"}
        if any(choice.startswith(RABBITMQ) for choice in failed):
            return "wrong on RabbitMQ"
        if failed:
            return "different"
        passed = {choice for choice, outcome in self.outcomes.items() if outcome == "passed"}
        if len({choice.startswith(RABBITMQ) for choice in passed}) < 2:
            return "skipped" if "skipped" in self.outcomes.values() else "not compared"
        return "different on purpose" if self.differences else "same"


def results_of(asked: Iterable[Asked], brokers: dict[str, str]) -> dict[str, Any]:
    """The machine-readable results; `brokers` says for each kind what it calls itself."""
    tests = sorted(asked, key=lambda each: (each.feature, each.test))
    return {"brokers": brokers, "tests": [{**asdict(each), "verdict": each.verdict} for each in tests]}


def counts_by_feature(results: dict[str, Any]) -> dict[str, Counter[str]]:
    """For each feature how many tests had which verdict."""
    counts: dict[str, Counter[str]] = {}
    for test in results["tests"]:
        counts.setdefault(test["feature"], Counter())[test["verdict"]] += 1
    return counts


def report_lines(results: dict[str, Any], unasked: Iterable[str]) -> list[str]:
    """The table for a terminal, then every test that is not the same; `unasked` are differences no test relied on."""
    counts = counts_by_feature(results)
    columns = [verdict for verdict in VERDICTS if any(verdict in each for each in counts.values())]
    width = max((len(feature) for feature in counts), default=7)
    lines = [f"{'feature':{width}}  asked  " + "  ".join(columns)]
    for feature, count in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        cells = "  ".join(f"{count[verdict] or '-':>{len(verdict)}}" for verdict in columns)
        lines.append(f"{feature:{width}}  {count.total():5}  {cells}")
    failed = [test for test in results["tests"] if test["verdict"] in ("different", "wrong on RabbitMQ")]
    lines += [f"{test['verdict']}: {test['test']}: {test['reason']}" for test in failed]
    lines += [f"in the list of differences, but no test relies on it: {topic}" for topic in unasked]
    return lines
