"""`python -m interop.suites`: the command that runs them. See README.md beside this file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from interop.brokers import BrokerProcess, OurBroker, RabbitMQ, RunningBroker, find_rabbitmq
from interop.suites.amqp10_brokers import amqp10_broker, kinds_of_amqp10
from interop.suites.catalogue import SUITES
from interop.suites.mqtt_brokers import kinds_of_mqtt, mqtt_broker
from interop.suites.preparation import PreparationError, default_cache_folder
from interop.suites.running import BrokerAsked, Results, run_suite
from interop.suites.stomp_brokers import kinds_of_stomp, stomp_broker
from interop.suites.stream_brokers import kinds_of_stream, stream_broker
from interop.suites.suite import Suite

STARTED_FOR = {
    "amqp10": (kinds_of_amqp10, amqp10_broker),
    "mqtt": (kinds_of_mqtt, mqtt_broker),
    "stomp": (kinds_of_stomp, stomp_broker),
    "stream": (kinds_of_stream, stream_broker),
}
"""By protocol: which brokers there are, and how one is started. Those of AMQP 0-9-1 may run already."""


def main() -> int:
    """Runs what the command line asks for.

    Returns:
        The exit code: 0 when the brokers differ only on purpose (with one broker: when no test failed), 1 otherwise,
        2 when something could not be run.
    """
    options = _parser().parse_args()
    if options.list:
        _print_list()
        return 0
    suites = [SUITES[name] for name in options.suites or SUITES]
    options.cache.mkdir(parents=True, exist_ok=True)
    try:
        return max(_run_one(suite, options) for suite in suites)
    except PreparationError as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m interop.suites", description="Runs the test suites of stock clients against brokers."
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", choices=[*SUITES, []], help=", ".join(SUITES))
    parser.add_argument(
        "--broker",
        choices=["ours", "rabbitmq", "rabbitmq-4", "mosquitto", "both"],
        help="which brokers to start and ask; both: all",
    )
    parser.add_argument("--ours-url", help="ask our broker that runs at this amqp:// address instead of starting one")
    parser.add_argument("--rabbitmq-url", help="ask the RabbitMQ at this amqp:// address instead of starting one")
    parser.add_argument("--source", type=Path, help="a tree of the client's source to take in place of the pinned one")
    parser.add_argument(
        "--pytest", action="append", default=[], metavar="ARGUMENT", help="one more argument of what runs it"
    )
    parser.add_argument(
        "--cache", type=Path, default=default_cache_folder(), help="where archives and environments are kept"
    )
    parser.add_argument("--list", action="store_true", help="say which suites there are, and what is left out of each")
    return parser


def _run_one(suite: Suite, options: argparse.Namespace) -> int:
    print(f"{suite.name} {options.source or suite.version}", flush=True)
    everything = []
    for kind in _chosen_kinds(suite, options):
        log_path = options.cache / f"{suite.name}-{kind}.log"
        with _broker(suite, kind, options) as broker:
            results = run_suite(
                suite,
                broker,
                options.cache,
                own_tree=options.source,
                more_arguments=tuple(options.pytest),
                log_path=log_path,
            )
        print(f"  {kind:10} {results.summary()}  {log_path}", flush=True)
        everything.append(results)
    if suite.counted:
        return _print_what_ours_fails(suite, everything)
    if len(everything) == 1:
        return _print_failures(suite, everything[0])
    return _print_differences(suite, *everything)


def _chosen_kinds(suite: Suite, options: argparse.Namespace) -> list[str]:
    if suite.protocol in STARTED_FOR:
        there, _ = STARTED_FOR[suite.protocol]
        return there() if options.broker in (None, "both") else [_of(there(), suite, options.broker)]
    named = [kind for kind in ("rabbitmq", "ours") if getattr(options, f"{kind}_url")]
    if options.broker is None and named:
        return named
    if options.broker in (None, "both"):
        return ["rabbitmq", "ours"] if options.rabbitmq_url or find_rabbitmq() else ["ours"]
    return [_of(["rabbitmq", "ours"], suite, options.broker)]


def _of(there: list[str], suite: Suite, kind: str) -> str:
    """The broker of this kind; what is measured of another one would stand below its name."""
    if kind not in there:
        raise PreparationError(f"{suite.name} can be asked of {', '.join(there)} here, not of {kind}")
    return kind


def _broker(suite: Suite, kind: str, options: argparse.Namespace) -> AbstractContextManager[BrokerAsked]:
    """One of its own for each suite, because a suite may leave queues behind."""
    if suite.protocol not in STARTED_FOR:
        return _broker_of_amqp(kind, options)
    _, start = STARTED_FOR[suite.protocol]
    return start(kind)


@contextmanager
def _broker_of_amqp(kind: str, options: argparse.Namespace) -> Iterator[BrokerAsked]:
    url: str | None = getattr(options, f"{kind}_url")
    broker: BrokerProcess
    if url:
        broker = RunningBroker(kind, url)
    else:
        broker = RabbitMQ() if kind == "rabbitmq" else OurBroker()
    try:
        yield BrokerAsked(kind, broker.address)
    finally:
        broker.stop()


def _print_what_ours_fails(suite: Suite, everything: list[Results]) -> int:
    """Prints each test that our broker fails, why, and how it is on the others."""
    unexplained = 0
    for ours in (results for results in everything if results.broker == "ours"):
        for test in ours.failed():
            others = ", ".join(f"{each.broker} {each.outcomes.get(test, 'not run')}" for each in everything)
            why = suite.explained.get(test, "")
            unexplained += not why and test not in suite.unsteady
            print(f"    {test} ({others})\n           {why or ours.reasons[test]}")
    return 1 if unexplained else 0


def _print_failures(suite: Suite, results: Results) -> int:
    for test in results.failed():
        print(f"    failed {test}{_remark(suite, test)}\n           {results.reasons[test]}")
    return 1 if set(results.failed()) - suite.unsteady else 0


def _print_differences(suite: Suite, one: Results, other: Results) -> int:
    """Prints what failed on both in short, and where they differ in full."""
    tests = sorted({*one.outcomes, *other.outcomes})
    differing = [test for test in tests if one.outcomes.get(test) != other.outcomes.get(test)]
    for test in one.failed():
        if test not in differing:
            print(f"    failed on both  {test}{_remark(suite, test)}")
    for test in differing:
        print(f"    differs  {test}{_remark(suite, test)}")
        for results in (one, other):
            print(
                f"      {results.broker:10} {results.outcomes.get(test, 'not run'):8} {results.reasons.get(test, '')}"
            )
    unsteady = [test for test in differing if test in suite.unsteady]
    meant = [test for test in differing if test in suite.meant]
    different = len(differing) - len(unsteady) - len(meant)
    counts = f"{len(tests) - len(differing)} the same on both, {len(meant)} different on purpose, {different} different"
    print(f"    {counts}" + (f", {len(unsteady)} unsteady" if unsteady else ""))
    return 1 if different else 0


def _remark(suite: Suite, test: str) -> str:
    """What catalogue.py says of a test."""
    if test in suite.unsteady:
        return " (unsteady on RabbitMQ itself)"
    if test in suite.meant:
        return f" (on purpose: {suite.meant[test]})"
    return ""


def _print_list() -> None:
    for suite in SUITES.values():
        print(f"{suite.name} {suite.version}")
        for each in suite.left_out:
            print(f"  without {' '.join(each.arguments) or 'modules'}: {each.reason}")


if __name__ == "__main__":
    sys.exit(main())
