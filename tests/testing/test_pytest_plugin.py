"""The pytest plugin, in sessions of pytest that these tests start."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from amqp_broker.testing import Broker, pytest_plugin

# Where the package is not installed, only on the path, its plugin has to be named.
IS_INSTALLED = any(point.name == "amqp-broker" for point in entry_points(group="pytest11"))
PLUGIN = () if IS_INSTALLED else ("-p", "amqp_broker.testing.pytest_plugin")
# That plugin loads all of Hypothesis, which is half of what a pytest with a broker takes.
ARGUMENTS = (*PLUGIN, "-p", "no:cacheprovider", "-p", "no:hypothesispytest")

HEAD = """
import pika, pytest, socket

@pytest.fixture
def channel(amqp_url):
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        yield channel
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(pytest_plugin, "GRACE_S", 0.2)
    return Run(pytester)


class Run:
    """Runs a test module in a pytest of its own."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def __call__(self, tests: str, *arguments: str) -> pytest.RunResult:
        self.pytester.makepyfile(HEAD + tests)
        return self.pytester.runpytest_inprocess(*ARGUMENTS, *arguments)

    def apart(self, tests: str) -> pytest.RunResult:
        """The same in a process of its own, for tests that leave sockets behind."""
        self.pytester.makepyfile(HEAD + tests)
        return self.pytester.runpytest_subprocess(*ARGUMENTS)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("amqp_broker.queue('gone').bodies", "LookupError: there is no queue 'gone'"),
        ("amqp_broker.wait_until(lambda: False, timeout_s=0.01)", "TimeoutError: still False"),
        ("Broker(prot=1)", "*SettingError: there is no setting prot: did you mean port?"),
        ("Broker().url", "*NotRunning: the broker is not running*"),
    ],
)
def test_an_error_that_the_question_deserved_ends_in_the_users_own_line(question: str, answer: str, run: Run) -> None:
    result = run(f"from amqp_broker.testing import Broker\n\ndef test_it(amqp_broker):\n    {question}\n")
    result.stdout.fnmatch_lines([f">*{question}", f"E*{answer}*", "test_*.py:11: *"])
    assert "amqp_broker/testing" not in result.stdout.str().replace("\\", "/")
    assert " --" not in result.stdout.str().split("FAILURES")[1].split("AMQP broker")[0]


def test_a_defect_keeps_its_frames(run: Run) -> None:
    result = run("""
def test_it(amqp_broker):
    amqp_broker.queue([]).bodies
""")
    result.stdout.fnmatch_lines(["*amqp_broker*view.py:*TypeError"])


@pytest.mark.parametrize(
    ("ini", "said"),
    [
        ("amqp_settings = prot=1", "ERROR: amqp_settings: there is no setting 'prot': did you mean port?"),
        ("amqp_settings = heartbeat_s", "ERROR: amqp_settings: 'heartbeat_s' is not a setting as name=value"),
        ("amqp_settings = protocols=mqtt,gopher", "ERROR: amqp_settings: protocols names 'gopher': there are *"),
        ("amqp_settings = protocols=mqtt gopher", "ERROR: amqp_settings: protocols names 'gopher': there are *"),
        (
            "amqp_settings = tls_key=k.pem",
            "ERROR: amqp_settings: tls_key has no effect: TLS is off: *",
        ),
        ("amqp_settings = data_dir=/tmp/x", "ERROR: amqp_settings: data_dir has no effect: a broker in a test keeps *"),
        ("amqp_settings = port=x", "ERROR: amqp_settings: port takes a whole number from 0 to 65535, not 'x'"),
        ("amqp_broker_url = localhost:5672", "ERROR: 'localhost:5672' is no address of a broker: it is amqp://*"),
        ("amqp_checks = no_unruoted", "ERROR: amqp_checks does not know no_unruoted: did you mean no_unrouted?"),
    ],
)
def test_a_mistake_in_the_ini_file_is_told_once_before_anything_is_collected(ini: str, said: str, run: Run) -> None:
    run.pytester.makeini(f"[pytest]\n{ini}\n")
    result = run("def test_it(channel): pass\n\ndef test_another(channel): pass\n")
    result.stderr.fnmatch_lines([said])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().count("ERROR") == 1


def test_each_test_has_a_world_of_its_own(run: Run) -> None:
    result = run("""
@pytest.mark.parametrize("number", [1, 2, 3])
def test_first_to_come(channel, amqp_broker, number):
    assert amqp_broker.queues == ()
    channel.queue_declare("q", durable=True)
    channel.basic_publish("", "q", b"hello")
    assert amqp_broker.queue("q").bodies == [b"hello"]
    assert amqp_broker.virtual_host.startswith(f"test_first_to_come-{number}-")
""")
    result.assert_outcomes(passed=3)


@pytest.mark.slow
def test_xdist_shares_nothing(run: Run) -> None:
    pytest.importorskip("xdist")
    result = run(
        """
@pytest.mark.parametrize("number", range(8))
def test_it(channel, amqp_broker, number):
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"hello")
    assert amqp_broker.queue("q").message_count == 1
""",
        "-n2",
    )
    result.assert_outcomes(passed=8)


def test_a_failure_comes_with_a_picture(run: Run) -> None:
    result = run("""
def test_it(channel, amqp_broker):
    channel.queue_declare("billing")
    channel.basic_publish("", "biling", b"hello")
    assert amqp_broker.queue("billing").bodies == [b"hello"]
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*--- AMQP broker ---*",
            "virtual host 'test_it-1'",
            "    billing: 0 ready, 0 unacknowledged, consumers: none",
            "    guest from 127.0.0.1:*, channels: 1",
            "    b'hello': to '' with 'biling' -> nowhere (there is no queue 'biling')",
        ]
    )


def test_a_test_that_passes_or_needs_no_broker_shows_none(run: Run) -> None:
    result = run("""
def test_passes(channel):
    pass

def test_fails():
    assert False
""")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*AMQP broker*")


@pytest.mark.parametrize(
    ("check", "what_it_says"),
    [
        ("no_unacknowledged", "*queue 'q' has 1 unacknowledged at the end of the test*"),
        ("no_unrouted", "*b'nowhere' to exchange '' with 'nope' went nowhere: there is no queue 'nope'*"),
    ],
)
def test_messages_that_went_astray_fail_the_test_that_says_so(run: Run, check: str, what_it_says: str) -> None:
    result = run(f"""
def do(channel):
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"hello")
    channel.basic_get("q")
    channel.basic_publish("", "nope", b"nowhere")

@pytest.mark.amqp({check}=True)
def test_that_says_so(channel):
    do(channel)

def test_that_does_not(channel):
    do(channel)

@pytest.mark.amqp({check}=True)
def test_that_is_in_order(channel):
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"hello")
    channel.basic_get("q", auto_ack=True)
""")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines([what_it_says, "FAILED *::test_that_says_so*"])


def test_messages_given_back_at_the_end_of_a_channel_were_not_acknowledged(run: Run) -> None:
    result = run("""
@pytest.mark.amqp(no_unacknowledged=True)
def test_it(channel):
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"hello")
    channel.basic_get("q")
    channel.close()
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*queue 'q' got 1 back unacknowledged when their channels ended*"])


def test_leaks_are_found_when_the_fixtures_are_gone(run: Run) -> None:
    run.pytester.makeini("[pytest]\namqp_settings = protocols = stomp\n")
    run.pytester.makeconftest("from amqp_broker.testing import pytest_plugin\n\npytest_plugin.GRACE_S = 0.2\n")
    result = run.apart("""
kept = []

@pytest.mark.amqp(no_leaked_connections=True)
def test_leaks(amqp_broker, amqp_url):
    kept.append(pika.BlockingConnection(pika.URLParameters(amqp_url)))
    stomp = socket.create_connection(("127.0.0.1", int(amqp_broker.stomp_url.rpartition(":")[2].partition("/")[0])))
    login = f"host:{amqp_broker.virtual_host}\\nlogin:guest\\npasscode:guest"
    stomp.sendall(f"CONNECT\\naccept-version:1.2\\n{login}\\n\\n\\0".encode())
    assert stomp.recv(9) == b"CONNECTED"
    kept.append(stomp)

@pytest.mark.amqp(no_leaked_connections=True)
def test_closes(channel):
    pass

@pytest.mark.amqp(no_leaked_channels=True)
def test_closes_the_connection_only(amqp_url):
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    connection.channel()
    connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
    kept.append(connection)

@pytest.mark.amqp(no_leaked_channels=True)
def test_closes_the_channel(channel):
    channel.close()
""")
    result.assert_outcomes(passed=4, errors=2)
    not_closed = ["connection 127.0.0.1:* was not closed"] * 2
    clients = ["    guest from 127*, channels: none", "    guest from 127*, STOMP 1.2"]
    result.stdout.fnmatch_lines([*not_closed, "*--- AMQP broker ---*", *clients])
    result.stdout.fnmatch_lines(["connection * had channels that were not *"])


def test_the_ini_file_and_the_markers_say_what_is_checked(run: Run) -> None:
    run.pytester.makeini("[pytest]\namqp_checks = no_unrouted\namqp_settings =\n  heartbeat_s = 7\n  product = Mine\n")
    result = run("""
def test_checked(channel):
    channel.basic_publish("", "nope", b"hello")

@pytest.mark.amqp(no_unrouted=False)
def test_not_checked(channel):
    channel.basic_publish("", "nope", b"hello")

def test_settings(channel):
    parameters = channel.connection._impl
    assert parameters.params.heartbeat == 7
    assert parameters.server_properties["product"] == "Mine"
""")
    result.assert_outcomes(passed=2, failed=1)


def test_an_unknown_check_is_refused(run: Run) -> None:
    result = run("""
@pytest.mark.amqp(no_unrooted=True)
def test_it(channel):
    pass
""")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*amqp does not know no_unrooted*"])


def test_a_tests_clock_is_its_own_affair(run: Run) -> None:
    result = run("""
@pytest.mark.amqp(frozen=True)
def test_frozen(amqp_broker):
    assert amqp_broker.clock.is_frozen
    amqp_broker.fail.memory_alarm()
    amqp_broker.fail.nack_next_publish()

def test_afterwards(amqp_broker, channel):
    assert not amqp_broker.clock.is_frozen
    channel.confirm_delivery()
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"hello")
    assert amqp_broker.queue("q").bodies == [b"hello"]
""")
    result.assert_outcomes(passed=2)


def test_a_session_survives_a_crash(run: Run) -> None:
    result = run("""
@pytest.mark.parametrize("time", [1, 2])
def test_crash(amqp_broker, amqp_url, time):
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        connection.channel().queue_declare("q", durable=True)
    amqp_broker.fail.crash()
    assert amqp_broker.queues == ("q",)
""")
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize("how", ["option", "ini", "environment"])
def test_the_same_tests_run_against_a_real_broker(
    run: Run, broker: Broker, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: tuple[str, ...] = ()
    if how == "option":
        arguments = ("--amqp-broker-url", broker.url)
    elif how == "ini":
        run.pytester.makeini(f"[pytest]\namqp_broker_url = {broker.url}\n")
    else:
        monkeypatch.setenv("AMQP_BROKER_URL", broker.url)
    result = run(
        f"""
def test_that_needs_an_address(amqp_broker, channel):
    assert (amqp_broker.host, amqp_broker.port, amqp_broker.virtual_host) == ("127.0.0.1", {broker.port}, "/")
    channel.queue_declare("q")

def test_that_needs_more(amqp_broker):
    amqp_broker.clock.advance(hours=1)
""",
        *arguments,
    )
    result.assert_outcomes(passed=1, skipped=1)
    assert broker.queues == ("q",)


def test_a_session_without_a_broker_does_not_pay_for_one() -> None:
    """Loading the plugin, as every start of pytest does, loads neither trio nor the broker."""
    program = (
        "import sys, amqp_broker.testing.pytest_plugin;"
        "print(sorted(name for name in sys.modules if name.split('.')[0] == 'trio' or name.startswith('amqp_broker.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "['amqp_broker.testing', 'amqp_broker.testing.pytest_plugin']"


def test_an_unrouted_publish_is_not_forgotten(run: Run) -> None:
    """However many come after it."""
    run.pytester.makeini("[pytest]\namqp_checks = no_unrouted\n")
    result = run("""
def test_it(channel, amqp_broker):
    for number in range(15):
        channel.basic_publish("", "nope", b"nowhere %d" % number)
    channel.queue_declare("q")
    for _ in range(10_000):
        channel.basic_publish("", "q", b"hello")
    assert all(entry.was_routed for entry in amqp_broker.published)
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*b'nowhere 0' to exchange*", "and 5 publishes more went nowhere"])


def test_what_the_test_has_refused_itself_is_not_unrouted(run: Run) -> None:
    result = run("""
@pytest.mark.amqp("no_unrouted")
def test_it(channel, amqp_broker):
    channel.confirm_delivery()
    channel.queue_declare("q")
    amqp_broker.fail.nack_next_publish()
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", "q", b"hello")
    channel.basic_publish("", "q", b"hello")
""")
    result.assert_outcomes(passed=1)


def test_messages_of_a_queue_that_was_deleted_are_unacknowledged_still(run: Run) -> None:
    result = run("""
@pytest.mark.amqp(no_unacknowledged=True)
def test_it(channel, amqp_broker):
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"hello")
    channel.basic_get("q")
    channel.queue_delete("q")
    channel.queue_declare("q")
    assert amqp_broker.queue("q").unacknowledged_count == 0
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*queue 'q' has 1 unacknowledged at the end of the test*"])


def test_a_worker_that_is_about_to_acknowledge_is_waited_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest_plugin, "GRACE_S", 10.0)
    result = run("""
import threading

@pytest.fixture
def worker(channel):
    connection = channel.connection
    worker = threading.Timer(0.05, lambda: connection.process_data_events(0))
    yield worker
    worker.join()  # the channel is closed after it: two threads must not be at pika's connection at once

@pytest.mark.amqp(no_unacknowledged=True)
def test_it(channel, worker):
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"hello")
    method, _, _ = channel.basic_get("q")
    channel.connection.add_callback_threadsafe(lambda: channel.basic_ack(method.delivery_tag))
    worker.start()
""")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("phase", ["setup", "teardown"])
def test_a_fixture_that_fails_comes_with_a_picture_too(run: Run, phase: str) -> None:
    result = run(f"""
@pytest.fixture
def worker(channel, amqp_broker):
    channel.queue_declare("billing")
    assert amqp_broker.queues == ("billing",)
    if "{phase}" == "setup":
        raise OSError("cannot work")
    yield
    raise OSError("cannot work")

def test_it(worker):
    pass
""")
    result.assert_outcomes(passed=phase == "teardown", errors=1)
    result.stdout.fnmatch_lines(["*cannot work*", "*--- AMQP broker ---*", "    billing: 0 ready, *"])


def test_checks_that_a_real_broker_cannot_answer_are_named(run: Run, broker: Broker) -> None:
    """Those of the ini file once, those of a test with the test."""
    run.pytester.makeini("[pytest]\namqp_checks = no_unrouted\n")
    result = run(
        """
@pytest.mark.amqp(no_leaked_connections=True)
def test_it(channel):
    channel.basic_publish("", "nope", b"hello")

def test_that_asks_for_nothing_more(channel, amqp_broker):
    assert amqp_broker.wait_until(lambda: "at once") == "at once"
    with pytest.raises(TimeoutError, match="still 0"):
        amqp_broker.wait_until(lambda: 0, timeout_s=0)
""",
        "--amqp-broker-url",
        broker.url,
        "-Walways",
    )
    result.assert_outcomes(passed=2, warnings=2)
    result.stdout.fnmatch_lines(["*NotChecked: no_unrouted: without effect with --amqp-broker-url*"])
    result.stdout.fnmatch_lines(["*NotChecked: no_leaked_connections: without effect with --amqp-broker-url*"])
    result = run("def test_it(): pass", "--amqp-broker-url", broker.url, "-Werror:no_unrouted")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: no_unrouted: without effect with --amqp-broker-url*"])


def test_a_marker_without_a_broker_says_so(run: Run) -> None:
    result = run(
        """
pytestmark = pytest.mark.amqp(frozen=True)

@pytest.mark.amqp(no_unrouted=True)
def test_checks_nothing():
    pass

def test_says_nothing():
    pass
""",
        "-Walways",
    )
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*NotChecked: mark.amqp: the test uses neither amqp_broker nor amqp_url*"])


def test_an_unknown_check_of_the_ini_file_is_refused(run: Run) -> None:
    run.pytester.makeini("[pytest]\namqp_checks = no_unrooted\n")
    result = run("def test_it(): pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*amqp_checks does not know no_unrooted: did you mean no_unrouted?"])
