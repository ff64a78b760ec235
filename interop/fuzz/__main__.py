"""`python -m interop.fuzz`: random programs on both brokers, until the number or the time is reached.

Ends with exit code 0 when nothing differed, 1 when something did, 2 when there is no RabbitMQ to compare with.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from contextlib import closing

from interop import brokers
from interop.fuzz.campaign import Campaign, Side


def main() -> int:
    arguments = _parser().parse_args()
    if brokers.find_rabbitmq() is None:
        print("RabbitMQ is not installed here: there is nothing to compare with", file=sys.stderr)
        return 2
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    print(
        f"seed {seed}: up to {arguments.programs} programs of {arguments.operations} operations, "
        f"{arguments.seconds:.0f} s at most",
        flush=True,
    )
    start = brokers.Choice(brokers.OURS, "3.10").start
    with closing(Side(brokers.RabbitMQ)) as rabbitmq, closing(Side(start)) as ours:
        campaign = Campaign(rabbitmq, ours, say=lambda text: print(f"\n{text}", flush=True))
        started_s = time.monotonic()
        campaign.run(seed, arguments.programs, arguments.operations, arguments.seconds)
        print(_summary(campaign, time.monotonic() - started_s))
    return 1 if campaign.findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m interop.fuzz", description=__doc__)
    parser.add_argument("--programs", type=int, default=2000, help="how many programs (2000)")
    parser.add_argument("--operations", type=int, default=40, help="how many operations each (40)")
    parser.add_argument("--seconds", type=float, default=3600, help="the time after which no new one is begun (3600)")
    parser.add_argument("--seed", type=int, help="the same programs again; without it a fresh one, which is printed")
    return parser


def _summary(campaign: Campaign, elapsed_s: float) -> str:
    lines = [f"different on purpose: {count} programs, {topic}" for topic, count in campaign.on_purpose.items()]
    if campaign.undecided:
        lines.append(f"not decided, because a broker did not do the same each time: {campaign.undecided} programs")
    if campaign.repeated:
        lines.append(f"with a difference that another program had shown: {campaign.repeated} programs")
    lines.append(
        f"{campaign.played} programs, {campaign.operations} operations, {len(campaign.findings)} differences, "
        f"in {elapsed_s:.0f} s ({campaign.played / elapsed_s:.1f} programs a second)"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
