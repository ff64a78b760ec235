"""Makes docs/compatibility.md from the results of an interop run: the page says what was asked, not what was hoped.

pytest interop --results build/interop.json
python -m interop.compatibility build/interop.json docs/compatibility.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from interop.differences import DIFFERENCES
from interop.report import counts_by_feature

INTRODUCTION = """\
# Compatibility with RabbitMQ

Made by `python -m interop.compatibility` from a run of `make interop`; not edited by hand. Every test behind a number
was run against both brokers in that run: {brokers}.
"""


def page(results: dict[str, Any]) -> str:
    """The page in Markdown.

    Args:
        results: what `pytest interop --results FILE` wrote.
    """
    names = " and ".join(f"{kind} ({name})" for kind, name in sorted(results["brokers"].items()))
    lines = [INTRODUCTION.format(brokers=names), "## By feature", ""]
    lines += ["| feature | asked | the same | different on purpose | different |", "|---|---:|---:|---:|---:|"]
    totals = [0, 0, 0, 0]
    for feature, count in counts_by_feature(results).items():
        row = [count.total() - count["skipped"], count["same"], count["different on purpose"]]
        row.append(row[0] - row[1] - row[2])
        totals = [total + cell for total, cell in zip(totals, row, strict=True)]
        lines.append(f"| {feature} | " + " | ".join(map(str, row)) + " |")
    lines.append("| **all** | " + " | ".join(f"**{total}**" for total in totals) + " |")
    lines += ["", "## Differences that are meant to stay", ""]
    for difference in DIFFERENCES.values():
        lines += [
            f"### {difference.topic}",
            "",
            f"- RabbitMQ 3.10.8: {difference.rabbitmq}",
            f"- amqp-broker: {difference.ours}",
            f"- Why: {difference.why}",
            f"- Source: {difference.source}",
            "",
        ]
    different = [
        test for test in results["tests"] if test["verdict"] not in ("same", "different on purpose", "skipped")
    ]
    if different:
        lines += ["## Differences that are not", "", "Each is a defect, or was asked of one broker only.", ""]
        lines += [f"- `{test['test']}` ({test['verdict']})" for test in different] + [""]
    return "\n".join(lines)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    target.write_text(page(json.loads(source.read_text())))
