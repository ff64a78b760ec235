"""pytest's side of the interop suite: options, the `broker` fixture for each broker asked, the report at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interop import brokers, raw_client
from interop.amqp10_client import Amqp10Client
from interop.brokers import Choice
from interop.differences import DIFFERENCES
from interop.raw_client import ChannelUnderTest, Client
from interop.report import Asked, report_lines, results_of
from interop.under_test import BrokerUnderTest

ASKED = pytest.StashKey[dict[str, Asked]]()
BROKERS = pytest.StashKey[dict[str, str]]()
TRANSCRIPTS = pytest.StashKey[dict[str, dict[str, list[str]]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("interop")
    group.addoption(
        "--broker",
        choices=["ours", "rabbitmq", "both"],
        help="which brokers to ask (both, where RabbitMQ is installed)",
    )
    group.addoption(
        "--series",
        action="append",
        choices=["3.10", "3.13", "4.0", "4.3"],
        help="which RabbitMQs to ask, and ours as which (all that are here); may be given several times",
    )
    group.addoption(
        "--ours-url", help="ask the broker of ours that runs at this amqp:// address instead of starting one"
    )
    group.addoption("--rabbitmq-url", help="ask the RabbitMQ that runs at this amqp:// address instead of starting one")
    group.addoption(
        "--processes", type=int, default=1, help="of each broker of ours that is started; see docs/processes.md"
    )
    group.addoption(
        "--of-second", action="store_true", help="have virtual host / belong to the second process, not to the root"
    )
    group.addoption(
        "--door",
        action="store_true",
        help="have each broker of ours be a cluster, and ask it at a node that does not own it",
    )
    group.addoption("--results", type=Path, help="write the results as JSON into this file")
    group.addoption(
        "--reply-timeout", type=float, default=raw_client.REPLY_TIMEOUT_S, help="seconds to wait for what must come"
    )
    group.addoption(
        "--transcripts",
        action="store_true",
        help="compare whole transcripts too, and print the first difference of each test",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ASKED] = {}
    config.stash[BROKERS] = {}
    config.stash[TRANSCRIPTS] = {}
    if config.getoption("--door"):
        os.environ[brokers.AS_DOOR] = "yes"
    if config.getoption("--processes") > 1:
        os.environ["AMQP_BROKER_PROCESSES"] = str(config.getoption("--processes"))
    if config.getoption("--of-second"):
        os.environ[brokers.OF_SECOND_PROCESS] = "yes"


def choices(config: pytest.Config) -> list[Choice]:
    """The brokers to ask: each RabbitMQ that is here, and ours as each of them, and as it is when it is not told."""
    there = {series for series, find in brokers.INSTALLATIONS.items() if find() is not None}
    if config.getoption("--rabbitmq-url"):
        there = set(config.getoption("--series") or ["3.10"])
    asked = config.getoption("--broker") or ("both" if there else "ours")
    if asked != "ours" and not there:
        raise pytest.UsageError("RabbitMQ is not installed here: use --broker ours, or --rabbitmq-url")
    wanted = config.getoption("--series") or sorted({brokers.DEFAULT_SERIES, *brokers.INSTALLATIONS})
    found = []
    for series in wanted:
        if asked != "ours" and series in there:
            found.append(Choice(brokers.RABBITMQ, series))
        if asked != "rabbitmq":
            found.append(Choice(brokers.OURS, series))
    if not found:
        raise pytest.UsageError(f"there is no RabbitMQ {' or '.join(wanted)} here")
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "broker" in metafunc.fixturenames:
        metafunc.parametrize("broker", choices(metafunc.config), ids=str, indirect=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With pytest -n 5 --dist loadgroup each worker has one broker, and all are asked at once."""
    if config.getoption("dist") != "loadgroup":
        return None
    from interop.scheduling import ABrokerAWorker  # pytest-xdist is there, then

    return ABrokerAWorker(config, log)


class _Processes:
    """The brokers of this session, each started when it is first asked."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._started: dict[Choice, brokers.BrokerProcess | Exception] = {}

    def get(self, choice: Choice) -> brokers.BrokerProcess:
        if choice not in self._started:
            try:
                self._started[choice] = self._start(choice)
            except Exception as error:
                self._started[choice] = error
        found = self._started[choice]
        if isinstance(found, Exception):
            raise found
        return found

    def _start(self, choice: Choice) -> brokers.BrokerProcess:
        url = self._config.getoption(f"--{choice.kind}-url")
        return brokers.RunningBroker(choice.kind, url, choice.series) if url else choice.start()

    def stop(self) -> None:
        for process in self._started.values():
            if not isinstance(process, Exception):
                process.stop()


@pytest.fixture(scope="session")
def broker_processes(pytestconfig: pytest.Config) -> Iterator[_Processes]:
    processes = _Processes(pytestconfig)
    yield processes
    processes.stop()


@pytest.fixture
def broker(request: pytest.FixtureRequest, broker_processes: _Processes) -> Iterator[BrokerUnderTest]:
    """The broker that is asked, once for each that was chosen."""
    under_test = BrokerUnderTest(
        broker_processes.get(request.param), _test_id(request.node), request.config.getoption("--reply-timeout")
    )
    request.node.stash[_UNDER_TEST] = under_test
    yield under_test
    under_test.clean_up()


@pytest.fixture
def client(broker: BrokerUnderTest) -> Client:
    """An open connection."""
    return broker.connect()


@pytest.fixture
def ch(client: Client) -> ChannelUnderTest:
    """Channel 1 of the connection `client`."""
    return client.channel()


@pytest.fixture
def amqp10(broker: BrokerUnderTest) -> Iterator[Amqp10Client]:
    """An open connection of AMQP 1.0, with a session."""
    if broker.version < (4, 0):
        pytest.skip("AMQP 1.0 is RabbitMQ 4's own")
    with Amqp10Client(broker.address.port) as made:
        yield made


@pytest.fixture
def q(broker: BrokerUnderTest) -> str:
    """A queue name; nothing is declared."""
    return broker.queue_name("q")


@pytest.fixture
def x(broker: BrokerUnderTest) -> str:
    """An exchange name; nothing is declared."""
    return broker.exchange_name("x")


# The report

_UNDER_TEST = pytest.StashKey[BrokerUnderTest]()


def _test_id(item: pytest.Item) -> str:
    """The test's id without the broker: test_queue.py::test_purge[3]."""
    assert isinstance(item, pytest.Function)
    parameters = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    choice = str(parameters.pop("broker", ""))
    inner = item.callspec.id if hasattr(item, "callspec") else ""
    pieces = [piece for piece in inner.split("-") if piece != choice] if choice else [inner]
    suffix = f"[{'-'.join(pieces)}]" if "".join(pieces) else ""
    return f"{item.path.name}::{item.originalname}{suffix}"


def _feature_of(item: pytest.Item) -> str:
    module = getattr(item, "module", None)
    return str(getattr(module, "FEATURE", item.path.stem.removeprefix("test_").replace("_", " ")))


def _lines_by_channel(number: int, client: Client) -> list[str]:
    """A connection's frames, a channel after the other: how channels interleave is not fixed."""
    frames = [entry for entry in raw_client.normalise(client.transcript) if entry[1] >= 0]
    frames.sort(key=lambda entry: entry[1])
    return [f"connection {number}", *raw_client.transcript_text(frames).splitlines()]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Puts what the report needs on pytest's own report, so that it also comes back from pytest-xdist's workers."""
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    if "broker" not in getattr(item, "fixturenames", ()):
        return
    under_test = item.stash.get(_UNDER_TEST, None)
    found: dict[str, Any] = {
        "feature": _feature_of(item),
        "test": _test_id(item),
        "choice": str(item.callspec.params["broker"]),  # type: ignore[attr-defined]
        "differences": sorted(set(under_test.relied_on)) if under_test else [],
        "broker": "",
    }
    if under_test and call.when == "call":
        start = next((client.server_properties for client in under_test.clients if client.server_properties), {})
        found["broker"] = f"{start.get('product', '?')} {start.get('version', '?')}" if start else ""
        if item.config.getoption("--transcripts"):
            found["transcripts"] = [
                line for number, client in enumerate(under_test.clients) for line in _lines_by_channel(number, client)
            ]
    report.user_properties.append(("interop", found))


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    found: Any = dict(report.user_properties).get("interop")
    if found is None or _config is None or (report.when != "call" and report.passed):
        return
    asked = _config.stash[ASKED].setdefault(found["test"], Asked(found["feature"], found["test"]))
    if asked.outcomes.get(found["choice"]) != "failed":
        asked.outcomes[found["choice"]] = report.outcome
    asked.differences = sorted({*asked.differences, *found["differences"]})
    if not report.passed and not asked.reason:
        crash = getattr(report.longrepr, "reprcrash", None)
        why = (
            crash.message
            if crash
            else report.longrepr[2]
            if isinstance(report.longrepr, tuple)
            else str(report.longrepr)
        )
        asked.reason = why.strip().splitlines()[0] if why.strip() else ""
    if found["broker"]:
        _config.stash[BROKERS].setdefault(found["choice"], found["broker"])
    if "transcripts" in found and report.passed:
        _config.stash[TRANSCRIPTS].setdefault(found["test"], {})[found["choice"]] = found["transcripts"]


_config: pytest.Config | None = None


def pytest_sessionstart(session: pytest.Session) -> None:
    global _config
    _config = session.config


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    asked = config.stash[ASKED]
    if not asked:
        return
    results = results_of(asked.values(), config.stash[BROKERS])
    relied_on = {topic for each in asked.values() for topic in each.differences}
    whole_suite = not config.option.keyword and all(Path(argument).is_dir() for argument in config.args)
    terminalreporter.section(
        "interop: " + " beside ".join(f"{kind} ({name})" for kind, name in config.stash[BROKERS].items())
    )
    for line in report_lines(results, sorted(set(DIFFERENCES) - relied_on) if whole_suite else []):
        terminalreporter.write_line(line)
    for test, transcripts in sorted(config.stash[TRANSCRIPTS].items()):
        _write_first_difference(terminalreporter, test, transcripts)
    if config.getoption("--results"):
        config.getoption("--results").write_text(json.dumps(results, indent=1) + "\n")


def _write_first_difference(terminalreporter: Any, test: str, transcripts: dict[str, list[str]]) -> None:
    ours, rabbitmq = transcripts.get("ours", []), transcripts.get("rabbitmq", [])
    if not ours or not rabbitmq or ours == rabbitmq:
        return
    for our_line, their_line in zip([*ours, "(end)"], [*rabbitmq, "(end)"], strict=False):
        if our_line != their_line:
            terminalreporter.write_line(f"transcripts differ: {test}\n  rabbitmq {their_line}\n  ours     {our_line}")
            return
