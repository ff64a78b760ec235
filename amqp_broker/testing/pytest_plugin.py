"""The pytest plugin: a broker for tests that ask for one. Loaded at every start of pytest, so it imports nothing dear.

Fixtures ``amqp_broker`` and ``amqp_url``, marker ``amqp``, option ``--amqp-broker-url``, ini settings; they are
described in ``docs/testing.md``. One broker serves a session (under xdist, each worker's); each test has a virtual
host of its own in it, which is deleted afterwards.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from amqp_broker.settings import Description
    from amqp_broker.testing.broker import Broker, VirtualHostView

MARKER = "amqp"
MARKER_TEXT = (
    "amqp(*checks, no_unacknowledged=False, no_unrouted=False, no_leaked_connections=False, no_leaked_channels=False, "
    "frozen=False): what must hold at the end of a test that uses amqp_broker or amqp_url, and whether its clock "
    "stands still (amqp-broker)"
)
FIXTURES = ("amqp_broker", "amqp_url")
CHECKS = ("no_unacknowledged", "no_unrouted", "no_leaked_connections", "no_leaked_channels")
_PACKAGE = Path(__file__).parents[1]
_LIBRARY = Path(os.__file__).parent
NAME_LENGTH_MAX = 60
URL_VARIABLE = "AMQP_BROKER_URL"
SECTION = "AMQP broker"

# How long what must hold may take to become so: a worker of the test's fixtures may be about to acknowledge.
GRACE_S = 1.0
POLL_S = 0.002

Answer = TypeVar("Answer")
Problems = TypeVar("Problems")

_VIEW: pytest.StashKey[VirtualHostView] = pytest.StashKey()
_PICTURE: pytest.StashKey[str] = pytest.StashKey()
_NUMBER: pytest.StashKey[int] = pytest.StashKey()
_SETTINGS: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


class NotChecked(pytest.PytestWarning):
    """A test asks for something that is not done for it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the ini settings."""
    parser.getgroup("amqp-broker").addoption(
        "--amqp-broker-url",
        metavar="URL",
        help="run tests against this broker (a real RabbitMQ, say) in place of one in the test's process",
    )
    parser.addini("amqp_broker_url", f"the same as --amqp-broker-url; the environment variable is {URL_VARIABLE}")
    parser.addini("amqp_checks", "what must hold at the end of every test: " + " ".join(CHECKS), type="args")
    parser.addini("amqp_settings", "settings of the broker, each as name=value", type="linelist")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and check what the ini file and the command line say before anything is collected."""
    config.addinivalue_line("markers", MARKER_TEXT)
    config.stash[_NUMBER] = 0
    config.stash[_SETTINGS] = _settings(config)
    _check_url(_foreign_url(config))
    checks = config.getini("amqp_checks")
    _check_names("amqp_checks", checks, CHECKS)
    if checks and _foreign_url(config):
        try:
            config.issue_config_time_warning(_not_checked(checks), stacklevel=2)
        except NotChecked as warning:  # where warnings are errors
            raise pytest.UsageError(str(warning)) from None


# --- fixtures


@pytest.fixture(scope="session")
def amqp_broker_session(pytestconfig: pytest.Config) -> Iterator[Broker]:
    """The broker that all tests of the session share; use ``amqp_broker``."""
    from amqp_broker.testing.broker import Broker

    with Broker(**pytestconfig.stash[_SETTINGS]) as broker:
        yield broker


@pytest.fixture
def amqp_broker(request: pytest.FixtureRequest) -> Iterator[VirtualHostView | ForeignBroker]:
    """A broker that is empty, with a virtual host for this test alone."""
    wanted = _wanted(request.node)
    url = _foreign_url(request.config)
    if url:
        _say_what_is_not_checked(request.node, wanted)
        yield ForeignBroker(url)
        return
    broker: Broker = request.getfixturevalue("amqp_broker_session")
    stash = request.config.stash
    stash[_NUMBER] += 1
    view = broker.add_virtual_host(_virtual_host_name(request.node.name, stash[_NUMBER]))
    if wanted.get("frozen"):
        view.clock.freeze()
    request.node.stash[_VIEW] = view
    try:
        yield view
        problems = _before_long(lambda: _leaks(view, wanted))
        request.node.stash[_PICTURE] = _picture(view)  # for what fails from now on: another fixture, or this one
    finally:
        del request.node.stash[_VIEW]
        view.fail.nothing()
        view.clock.resume()
        broker.delete_virtual_host(view.virtual_host)
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def amqp_url(amqp_broker: VirtualHostView | ForeignBroker) -> str:
    """What a client connects to, user, password and virtual host included."""
    return amqp_broker.url


class ForeignBroker:
    """The fixture ``amqp_broker`` with ``--amqp-broker-url``: it has its address, and can wait for what others know. A
    test that asks for more is skipped.

    Args:
        url: where it is.
    """

    def __init__(self, url: str) -> None:
        from urllib.parse import unquote, urlsplit

        parts = urlsplit(url)
        self.url = url
        self.host = parts.hostname or "localhost"
        self.port = parts.port or 5672
        self.virtual_host = unquote(parts.path[1:]) or "/"

    def wait_until(self, condition: Callable[[], Answer], timeout_s: float = 5.0) -> Answer:
        """Ask again and again, until the answer is true; as ``Broker.wait_until``."""
        deadline_s = time.monotonic() + timeout_s
        while not (answer := condition()):
            if time.monotonic() >= deadline_s:
                raise TimeoutError(f"still {answer!r} after {timeout_s:g} s")
            time.sleep(POLL_S)
        return answer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        pytest.skip(f"amqp_broker.{name} needs the broker in the test's process, not the one at --amqp-broker-url")


def _foreign_url(config: pytest.Config) -> str:
    url = config.getoption("--amqp-broker-url") or os.environ.get(URL_VARIABLE) or config.getini("amqp_broker_url")
    return str(url or "")


def _check_url(url: str) -> None:
    """Refuse what no client could connect to."""
    if not url:
        return
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("amqp", "amqps") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets that are not closed
        is_right = False
    if not is_right:
        raise pytest.UsageError(f"{url!r} is no address of a broker: it is amqp://user:password@host:port/vhost")


def _settings(config: pytest.Config) -> dict[str, Any]:
    """The ini file's settings, each of the type that it has in the broker."""
    lines = config.getini("amqp_settings")
    if not lines:
        return {}
    from amqp_broker.settings import DESCRIPTIONS

    settings: dict[str, Any] = {}
    for line in lines:
        name, is_given, text = (part.strip() for part in line.partition("="))
        description = DESCRIPTIONS.get(name)
        if not is_given:
            raise pytest.UsageError(f"amqp_settings: {line!r} is not a setting as name=value")
        if description is None:
            raise pytest.UsageError(f"amqp_settings: there is no setting {name!r}{_did_you_mean(name, DESCRIPTIONS)}")
        settings[name] = _value(description, text)
    from amqp_broker.settings import SettingError
    from amqp_broker.testing.settings import settings_in_tests

    try:
        settings_in_tests(settings)
    except SettingError as error:
        raise pytest.UsageError(f"amqp_settings: {error}") from None
    return settings


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    return f": did you mean {near[0]}?" if near else "; 'amqp-broker config show' lists them"


def _value(description: Description, text: str) -> Any:
    from amqp_broker.settings import SettingError, check, split_list

    value: Any = text
    if description.is_list:
        value = split_list(",".join(text.split()))
    elif description.kind is int and text.removeprefix("-").isdecimal():
        value = int(text)
    try:
        check(description.name, value)
    except SettingError as error:
        raise pytest.UsageError(f"amqp_settings: {error}") from None
    return value


def _virtual_host_name(test: str, number: int) -> str:
    """A name that tells the test, and that no other test of the session has."""
    return f"{re.sub('[^A-Za-z0-9_]+', '-', test)[:NAME_LENGTH_MAX].strip('-')}-{number}"


# --- what must hold at the end


def _wanted(item: pytest.Item) -> dict[str, Any]:
    """What the test's markers ask for, the nearest first, then the ini file."""
    wanted: dict[str, Any] = dict.fromkeys(item.config.getini("amqp_checks"), True)
    for marker in reversed(list(item.iter_markers(MARKER))):
        wanted.update(dict.fromkeys(marker.args, True), **marker.kwargs)
    _check_names(MARKER, wanted, (*CHECKS, "frozen"))
    return wanted


def _check_names(where: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    unknown = [str(name) for name in names if name not in known]
    if unknown:
        from difflib import get_close_matches

        near = get_close_matches(unknown[0], known, n=1)
        way_out = f"did you mean {near[0]}?" if near else f"it knows {', '.join(known)}"
        raise pytest.UsageError(f"{where} does not know {', '.join(sorted(unknown))}: {way_out}")


def _say_what_is_not_checked(item: pytest.Item, wanted: dict[str, Any]) -> None:
    """Nothing that was asked for may seem to hold because nobody has looked. The ini file's checks are told of once."""
    already_told = item.config.getini("amqp_checks")
    asked_for = [name for name in (*CHECKS, "frozen") if wanted.get(name) and name not in already_told]
    if asked_for:
        item.warn(_not_checked(asked_for))


def _not_checked(names: Iterable[str]) -> NotChecked:
    text = "without effect with --amqp-broker-url, only the broker in the test's process can do that (amqp-broker)"
    return NotChecked(f"{', '.join(names)}: {text}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """After the test, before its fixtures let go of anything: is every message where it should be?"""
    outcome = yield
    view = item.stash.get(_VIEW, None)
    if view is not None:
        wanted = _wanted(item)
        problems = _astray(view, wanted)
        if problems:
            pytest.fail("\n".join(problems), pytrace=False)
    elif not set(FIXTURES) & set(getattr(item, "fixturenames", ())) and any(
        marker.name == MARKER for marker in item.own_markers
    ):
        item.warn(NotChecked(f"mark.{MARKER}: the test uses neither {' nor '.join(FIXTURES)} (amqp-broker)"))
    return outcome


def _before_long(problems: Callable[[], Problems]) -> Problems:
    """The problems that are still there when those who are about to solve them have had their time."""
    found = problems()
    for _ in range(round(GRACE_S / POLL_S)):  # looks, not seconds: a busy machine may take that long for one of them
        if not found:
            break
        time.sleep(POLL_S)
        found = problems()
    return found


def _astray(view: VirtualHostView, wanted: dict[str, Any]) -> list[str]:
    """The messages that are not acknowledged, or that reached no queue."""
    problems = []
    if wanted.get("no_unacknowledged"):
        problems += [
            f"queue '{name}' has {count} unacknowledged at the end of the test"
            for name, count in _before_long(lambda: view.unacknowledged).items()
        ]
        problems += [
            f"queue '{name}' got {count} back unacknowledged when their channels ended"
            for name, count in view.given_back.items()
        ]
    if wanted.get("no_unrouted"):
        problems += _unrouted(view)
    return problems


def _unrouted(view: VirtualHostView) -> list[str]:
    first = view.unrouted
    problems = [
        f"{entry.body[:40]!r} to exchange '{entry.exchange}' with '{entry.routing_key}' went nowhere: {entry.reason}"
        for entry in first
    ]
    more = view.unrouted_count - len(first)
    if more > 0:
        problems.append(f"and {more} publishes more went nowhere")
    return problems


def _leaks(view: VirtualHostView, wanted: dict[str, Any]) -> list[str]:
    """The connections that are still there, once the other fixtures of the test have gone."""
    problems = []
    if wanted.get("no_leaked_connections"):
        problems += [f"connection {one.peer} was not closed" for one in view.connections]
    if wanted.get("no_leaked_channels"):
        still_open = [one.peer for one in view.connections if one.channel_count]
        problems += [f"connection {peer} had channels that were not closed" for peer in view.left_open + still_open]
    return problems


# --- the picture of what went wrong


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put a picture of the virtual host into the report of a test that failed, or that a fixture failed for."""
    if call.excinfo is not None and not item.config.getoption("fulltrace", False):
        _end_in_the_users_line(call.excinfo)
    report = yield
    if report.failed:
        view = item.stash.get(_VIEW, None)
        picture = item.stash.get(_PICTURE, "") if view is None else _picture(view)
        if picture:
            report.sections.append((SECTION, picture))
    if report.when == "teardown" and _PICTURE in item.stash:
        del item.stash[_PICTURE]
    return report


def _end_in_the_users_line(failure: pytest.ExceptionInfo[BaseException]) -> None:
    """Leave out what is behind the line that asked, where the answer is an error that the question deserved.

    What comes from a defect of ours keeps all of its frames.
    """
    error = failure.type
    if error not in (LookupError, TimeoutError) and not error.__module__.startswith("amqp_broker."):
        return
    last = of_the_user = None
    entry: TracebackType | None = failure.tb
    while entry is not None:
        last, entry = entry, entry.tb_next
        if _is_the_users(Path(last.tb_frame.f_code.co_filename)):
            of_the_user = last
    if last is not None and of_the_user is not None and _is_ours(Path(last.tb_frame.f_code.co_filename)):
        of_the_user.tb_next = None


def _is_ours(path: Path) -> bool:
    return path.is_relative_to(_PACKAGE)


def _is_the_users(path: Path) -> bool:
    """Whether a line is of the test or of what it uses: not of this package, nor of Python's own library."""
    is_python = path.is_relative_to(_LIBRARY) and "site-packages" not in path.parts
    return not _is_ours(path) and not is_python


def _picture(view: VirtualHostView) -> str:
    try:
        return view.picture()
    except Exception as error:  # the report must come, whatever the test did to the broker
        return f"no picture: {error!r}"
