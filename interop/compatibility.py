"""Makes docs/compatibility.md from the results of an interop run: the page says what was asked, not what was hoped.

make interop
python -m interop.compatibility build/interop.json docs/compatibility.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from interop.behaviours import table
from interop.differences import DIFFERENCES
from interop.report import counts_by_feature

INTRODUCTION = """\
# Compatibility with RabbitMQ

Made by `python -m interop.compatibility` from a run of `make interop`; not edited by hand. Every test behind a number
was run in that run against this broker and a RabbitMQ, those that both RabbitMQs can answer against both: {brokers}.
"""
ASKED = {"3.10": "3.10.8", "4.0": "4.0.5"}

BETWEEN_RABBITMQS = """\
## Where RabbitMQs differ

`behave_like` says which one is shown: 3.10, 3.13 (the default), 4.0 or 4.3. The fields are in
`amqp_broker/behaviour.py`. Columns 3.10 and 4.0 were asked of 3.10.8 and 4.0.5; 3.13 and 4.3 were read in their source
and release notes.

{table}

Not followed in 4.3 (by its release notes and source): basic.nack and reject do not count against the delivery limit,
and `x-acquired-count` counts them in place of `x-delivery-count`; consumer timeouts are of quorum queues only, and
cancel the consumer; messages of a quorum queue expire behind those of a higher priority, too; `x-queue-version` 1 is
refused; a passive declaration needs the permission to configure. `x-queue-mode`, which the notes call refused, is taken
by 4.3.0's source, and here.
"""


def page(results: dict[str, Any]) -> str:
    """The page in Markdown.

    Args:
        results: what `pytest interop --results FILE` wrote.
    """
    names = ", ".join(f"{kind} ({name})" for kind, name in sorted(results["brokers"].items()))
    lines = [INTRODUCTION.format(brokers=names), "## By feature", ""]
    lines += ["| feature | asked | the same | different on purpose | different |", "|---|---:|---:|---:|---:|"]
    totals = [0, 0, 0, 0]
    for feature, count in counts_by_feature(results).items():
        row = [count.total() - count["skipped"], count["same"], count["different on purpose"]]
        row.append(row[0] - row[1] - row[2])
        totals = [total + cell for total, cell in zip(totals, row, strict=True)]
        lines.append(f"| {feature} | " + " | ".join(map(str, row)) + " |")
    lines.append("| **all** | " + " | ".join(f"**{total}**" for total in totals) + " |")
    lines += ["", BETWEEN_RABBITMQS.format(table=table()), "## Differences that are meant to stay", ""]
    for difference in DIFFERENCES.values():
        lines += [
            f"### {difference.topic}",
            "",
            f"- RabbitMQ {' and '.join(ASKED[series] for series in difference.series)}: {difference.rabbitmq}",
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
