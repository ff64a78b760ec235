"""The command line as a user meets it, in processes of its own: what it says, what it touches, how it ends."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pika.exceptions
import pytest

from amqp_broker import __version__
from tests.support import command_line

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
END_S_MAX = 20.0
SHOW = ("config", "show")


class Served:
    """A broker that was started, and what it printed until it was ready."""

    def __init__(self, process: subprocess.Popen[str], said: list[str]) -> None:
        self.process = process
        self.said = said
        found = re.search(r"amqp://localhost:(\d+)", "\n".join(said))
        assert found is not None, said
        self.port = int(found.group(1))

    def connect(self, host: str = "localhost") -> pika.BlockingConnection:
        return pika.BlockingConnection(pika.ConnectionParameters(host, self.port))

    def end(self, number: signal.Signals) -> str:
        """End it by a signal and make sure that it ends well and soon; returns its log."""
        started_s = time.monotonic()
        self.process.send_signal(number)
        _, log = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, log
        assert time.monotonic() - started_s < END_S_MAX
        return log


Serve = Callable[..., Served]


NO_MANAGEMENT = {"AMQP_BROKER_MANAGEMENT_PORT": "-1", "AMQP_BROKER_METRICS_PORT": "-1"}  # others may have the default


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AMQP_BROKER_", "RABBITMQ_"))}
    return {**kept, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "COLUMNS": "100", **NO_MANAGEMENT, **more}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **more: str) -> Served:
        process = subprocess.Popen(
            [sys.executable, "-m", "amqp_broker", "serve", "--port", "0", *arguments],
            cwd=REPOSITORY,
            env=environment(tmp_path, **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        said: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.rstrip("\n"))
            if line.startswith("ready"):
                return Served(process, said)
        pytest.fail(f"it ended: {said} {process.communicate()[1]}")

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run_command(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        if arguments[:1] != ("serve",):
            return command_line.run(*arguments, environment=environment(tmp_path, **more))
        return subprocess.run(
            [sys.executable, "-m", "amqp_broker", *arguments],
            cwd=REPOSITORY,
            env=environment(tmp_path, **more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    return run_command


Run = Callable[..., subprocess.CompletedProcess[str]]


# --- how it starts ---------------------------------------------------------------------------------------------------


def test_it_says_where_it_listens_where_the_data_is_and_when_it_is_ready(serve: Serve, tmp_path: Path) -> None:
    said = serve().said
    assert re.match(r"listening on amqp://localhost:\d+ \(127\.0\.0\.1:\d+", said[0])
    assert said[1].startswith(f"data folder {tmp_path / 'state' / 'amqp-broker'}")
    assert [line.split()[0] for line in said[2:-2]] == ["memory", "disk", "descriptors:"]
    assert re.fullmatch(rf"amqp-broker {__version__}( \(compiled\))?, \w+ 3\.\d+\.\d+, process \d+", said[-2])
    assert re.fullmatch(r"ready after \d+\.\d\d s", said[-1])


def test_what_listens_everywhere_says_an_address_to_paste_and_that_guest_is_let_in_from_here_only(serve: Serve) -> None:
    broker = serve("--host", "*")
    assert re.match(r"listening on amqp://localhost:\d+ \(0\.0\.0\.0:\d+", broker.said[0])
    log = broker.end(signal.SIGTERM)
    assert "nobody can log in from other machines" in log
    assert "amqp-broker users add" in log


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [(["--host", "localhost"], {}), (["--host", "*"], {"RABBITMQ_DEFAULT_USER": "me"})],
)
def test_nothing_is_said_of_logins_where_somebody_can(
    arguments: list[str], variables: dict[str, str], serve: Serve
) -> None:
    assert "nobody can log in" not in serve(*arguments, **variables).end(signal.SIGTERM)


def test_both_loopbacks_answer(serve: Serve) -> None:
    broker = serve()
    addresses = ["127.0.0.1", "::1"] if "[::1]" in broker.said[0] else ["127.0.0.1"]
    for address in ("localhost", *addresses):
        with broker.connect(address) as connection:
            assert connection.is_open


def test_a_free_port_is_the_same_on_both_loopbacks(serve: Serve) -> None:
    broker = serve()
    assert set(re.findall(r":(\d+)[,)]", broker.said[0])) == {str(broker.port)}


def test_rabbitmqs_variables_make_the_first_user(serve: Serve) -> None:
    broker = serve(RABBITMQ_DEFAULT_USER="me", RABBITMQ_DEFAULT_PASS="secret", RABBITMQ_DEFAULT_VHOST="shop")
    parameters = pika.URLParameters(f"amqp://me:secret@localhost:{broker.port}/shop")
    with pika.BlockingConnection(parameters) as connection:
        assert connection.is_open
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        broker.connect()
    log = broker.end(signal.SIGTERM)
    assert "secret" not in log


# --- how it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_tells_every_client_and_ends_with_0(serve: Serve, number: signal.Signals) -> None:
    broker = serve(AMQP_BROKER_SHUTDOWN_GRACE_MS="200")  # these clients answer nothing before it has ended
    clients = [broker.connect() for _ in range(3)]
    log = broker.end(number)
    for client in clients:
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
            client.process_data_events(PATIENCE_S)
        assert closed.value.reply_code == 320
        assert closed.value.reply_text == (
            "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
        )
    assert log.count('event="connection opened"') == 3
    assert log.count('event="connection closed"') == 3


def test_a_client_that_answers_nothing_does_not_hold_up_the_end(serve: Serve) -> None:
    broker = serve(AMQP_BROKER_SHUTDOWN_GRACE_MS="200")
    client = broker.connect()
    with socket.create_connection(("127.0.0.1", broker.port)) as silent:
        silent.sendall(b"AMQP\x00\x00\x09\x01")
        broker.end(signal.SIGTERM)
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
        client.process_data_events(PATIENCE_S)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a broker, and do not wait for anything."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "amqp_broker", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")],
            cwd=REPOSITORY,
            env=environment(tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def has_taken_signals_over(process: subprocess.Popen[str]) -> bool:
    """Whether SIGTERM does not simply kill it any more: from the first line of our own on."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
    assert caught is not None
    return bool(int(caught.group(1), 16) >> (signal.SIGTERM - 1) & 1)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells which signals are caught")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.3])
def test_a_signal_at_any_moment_of_the_start_is_a_clean_end(
    begin: Callable[[], subprocess.Popen[str]], tmp_path: Path, number: signal.Signals, delay_s: float
) -> None:
    process = begin()
    wait_for(lambda: has_taken_signals_over(process))
    time.sleep(delay_s)
    process.send_signal(number)
    _, log = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, log
    assert "Traceback" not in log
    lock = tmp_path / "data" / "lock"
    assert not lock.exists() or lock.read_text() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_when_the_data_folder_is_taken_is_a_clean_end(
    begin: Callable[[], subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
) -> None:
    process = begin()
    wait_for((tmp_path / "data" / "lock").exists)
    process.send_signal(number)
    _, log = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, log
    assert all(" level=info " in line for line in log.splitlines())
    assert (tmp_path / "data" / "lock").read_text() == ""


def test_a_second_signal_ends_it_at_once(serve: Serve) -> None:
    broker = serve(AMQP_BROKER_SHUTDOWN_GRACE_MS="4500")
    client = broker.connect()  # never answers connection.close, since nobody runs its loop
    broker.process.send_signal(signal.SIGTERM)
    assert client.is_open
    wait_until_refused(broker.port)
    broker.process.send_signal(signal.SIGTERM)
    started_s = time.monotonic()
    assert broker.process.wait(PATIENCE_S) == -signal.SIGTERM
    assert time.monotonic() - started_s < 4.0
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        client.process_data_events(PATIENCE_S)


def wait_until_refused(port: int) -> None:
    """Wait until nobody listens any more."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.01)
    pytest.fail("it still listens")


# --- what is wrong ---------------------------------------------------------------------------------------------------


def assert_refused(done: subprocess.CompletedProcess[str], exit_code: int, *names: str) -> None:
    """One line on standard error that names these, nothing on standard output, this exit code."""
    assert done.returncode == exit_code, done
    assert done.stdout == ""
    assert done.stderr.startswith("amqp-broker: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for name in names:
        assert name in done.stderr


def test_a_port_in_use_is_named_and_nothing_is_touched(run: Run, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        data = tmp_path / "data"
        assert_refused(run("serve", "--port", port, "--data-dir", str(data)), 3, port, "127.0.0.1", "the setting port")
    assert not data.exists()


def test_a_data_folder_that_is_held_is_named_with_its_holder(serve: Serve, run: Run, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    broker = serve("--data-dir", data)
    done = run("serve", "--port", "0", "--data-dir", data)
    assert_refused(done, 4, data, f"process {broker.process.pid}", "--data-dir")
    with broker.connect() as connection:
        assert connection.is_open


def test_a_data_folder_that_cannot_be_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    data = str(tmp_path / "file" / "data")
    assert_refused(run("serve", "--port", "0", "--data-dir", data), 4, data, "--data-dir")


def test_a_data_folder_with_a_file_in_the_journals_place(run: Run, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("mine")
    assert_refused(run("serve", "--port", "0", "--data-dir", str(tmp_path)), 4, str(tmp_path / "journal"))
    assert (tmp_path / "journal").read_text() == "mine"


def test_what_can_be_no_name_touches_nothing(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text('data_dir = "/tmp/a\\u0000b"')
    assert_refused(run("serve", "--config", str(config)), 2, "data_dir", str(config))
    config.write_text(f'default_virtual_host = "{"x" * 300}"')
    assert_refused(run("serve", "--port", "0", "--config", str(config)), 2, "default_virtual_host", "255 bytes")
    assert_refused(run("serve", "--data-dir", "~nosuchuser/x"), 2, "~nosuchuser", "--data-dir")
    assert_refused(run("serve", "--port", "0", "--host", ".foo"), 3, "'.foo'", "the setting host")
    assert list(tmp_path.iterdir()) == [config]


def test_an_unknown_key(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text("heartbeats_s = 5")
    done = run("serve", "--config", str(config))
    assert_refused(done, 2, str(config), "heartbeats_s", "did you mean heartbeat_s?")
    assert list(tmp_path.iterdir()) == [config]


def test_a_config_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert_refused(run("serve", "--config", str(missing)), 2, str(missing), "--config")
    assert_refused(run("serve", AMQP_BROKER_CONFIG=str(missing)), 2, str(missing))
    assert list(tmp_path.iterdir()) == []


def test_wrong_values(run: Run) -> None:
    assert_refused(run("serve", "--port", "amqp"), 2, "--port", "'amqp'")
    assert_refused(run("serve", "--log-level", "loud"), 2, "--log-level", "debug, info, warning, error")
    assert_refused(run("serve", AMQP_BROKER_HEARTBEAT_S="often"), 2, "AMQP_BROKER_HEARTBEAT_S", "'often'")


def test_a_host_that_is_not_here(run: Run) -> None:
    assert_refused(run("serve", "--port", "0", "--host", "192.0.2.1"), 3, "192.0.2.1", "the setting host")


def test_an_unknown_option_or_command(run: Run) -> None:
    for arguments in (("serve", "--prot", "1"), ("sreve",)):
        assert_refused(run(*arguments), 2, "No such", arguments[-1] if len(arguments) == 1 else "--prot")
    assert_refused(run("serve", "--port"), 2, "--port")


def test_a_group_of_commands_alone_says_which_there_are(run: Run) -> None:
    for arguments in ((), ("users",)):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("Usage: amqp-broker ")
        assert "Commands:" in done.stderr


# --- the other commands ----------------------------------------------------------------------------------------------


def test_version(run: Run) -> None:
    build = " (compiled)" if os.environ.get("AMQP_BROKER_UNDER_TEST") == "compiled" else ""
    for arguments in ("version", "--version"):
        done = run(arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}{build}\n", "")


def test_help_cuts_no_sentence_short(run: Run) -> None:
    assert "..." not in run("--help").stdout.partition("Commands:")[2]


def test_help_has_examples_and_exit_codes(run: Run) -> None:
    done = run("serve", "--help")
    assert done.returncode == 0
    assert "  amqp-broker serve --port 0 --data-dir /tmp/throw-away\n" in done.stdout
    assert "Exit codes: 0 done" in done.stdout


def test_config_show_is_a_file_that_serve_takes_and_says_where_values_come_from(run: Run, tmp_path: Path) -> None:
    given = {"AMQP_BROKER_HEARTBEAT_S": "5", "AMQP_BROKER_CLUSTER": "etcd://me:hunter2@e:2379/c"}
    done = run("config", "show", "--port", "5673", **given, RABBITMQ_DEFAULT_PASS="hunter2")
    assert done.returncode == 0
    shown = tomllib.loads(done.stdout)
    assert (shown["port"], shown["heartbeat_s"]) == (5673, 5)
    assert "# environment AMQP_BROKER_PORT; this value: command line --port\n" in done.stdout
    assert "# environment AMQP_BROKER_HEARTBEAT_S; this value: environment AMQP_BROKER_HEARTBEAT_S\n" in done.stdout
    assert "hunter2" not in done.stdout
    assert "default_password" not in shown

    config = tmp_path / "broker.toml"
    config.write_text(done.stdout)
    again = tomllib.loads(run("config", "show", "--config", str(config)).stdout)
    assert {name: value for name, value in again.items() if name != "default_password"} == shown


def test_config_show_takes_every_option_of_serve(run: Run) -> None:
    serve, show = (set(re.findall(r"^  (--[a-z-]+)", run(*of, "--help").stdout, re.M)) for of in (["serve"], SHOW))
    assert serve == show
    given = ("--tls-port", "5670", "--tls-certificate", "server.pem")
    assert tomllib.loads(run(*SHOW, *given).stdout)["tls_port"] == 5670


# --- the journal's tools ---------------------------------------------------------------------------------------------


@pytest.fixture
def data_of_a_killed_broker(serve: Serve, tmp_path: Path) -> Path:
    """A data folder with three confirmed messages, whose broker was killed."""
    data = tmp_path / "data"
    broker = serve("--data-dir", str(data))
    with broker.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("kept", durable=True)
        channel.confirm_delivery()
        for body in (b"first body", b"second body", b"third body"):
            channel.basic_publish("", "kept", body, pika.BasicProperties(delivery_mode=2))
    broker.process.kill()
    broker.process.wait(PATIENCE_S)
    return data


def damage(data: Path, text: bytes) -> None:
    """Change one byte of a text in the journal."""
    for segment in (data / "journal").iterdir():
        content = bytearray(segment.read_bytes())
        position = content.find(text)
        if position >= 0:
            content[position] ^= 1
            segment.write_bytes(content)
            return
    pytest.fail(f"no {text!r} in the journal")


def test_a_journal_is_checked_and_dumped_without_secrets(run: Run, data_of_a_killed_broker: Path) -> None:
    data = str(data_of_a_killed_broker)
    checked = run("journal", "check", data)
    assert checked.returncode == 0, checked.stderr
    assert re.match(r"1 segment, \d+ bytes on disk\n", checked.stdout)
    assert "0 damaged places" in checked.stdout
    assert run("journal", "check", "--data-dir", data).stdout == checked.stdout
    assert run("journal", "check", AMQP_BROKER_DATA_DIR=data).stdout == checked.stdout
    assert_refused(run("journal", "check", data, "--data-dir", data), 2, "the data folder was given twice")

    dumped = run("journal", "dump", data)
    assert dumped.returncode == 0, dumped.stderr
    assert dumped.stdout.count("message to '' key 'kept'") == 3
    assert "body of 10 bytes" in dumped.stdout
    assert "first body" not in dumped.stdout
    assert "'password_hash'" not in dumped.stdout
    assert "first body" in run("journal", "dump", "--bodies", data).stdout


def test_a_damaged_journal_is_refused_checked_and_repaired(
    serve: Serve, run: Run, data_of_a_killed_broker: Path
) -> None:
    data = str(data_of_a_killed_broker)
    damage(data_of_a_killed_broker, b"second body")
    assert_refused(run("serve", "--port", "0", "--data-dir", data), 5, data, "amqp-broker journal check")
    checked = run("journal", "check", data)
    assert checked.returncode == 5
    assert "1 damaged place\n" in checked.stdout
    report = json.loads(run("journal", "check", "--json", data).stdout)
    assert (report["is_intact"], len(report["damages"])) == (False, 1)
    tried = run("journal", "repair", "--dry-run", data)
    assert "would be saved" in tried.stdout, tried.stderr
    assert run("journal", "check", data).returncode == 5

    repaired = run("journal", "repair", data)
    assert repaired.returncode == 0, repaired.stderr
    assert "kept aside: " in repaired.stdout
    with serve("--data-dir", data).connect() as connection:
        channel = connection.channel()
        bodies = [channel.basic_get("kept", auto_ack=True)[2] for _ in range(3)]
    assert bodies == [b"first body", b"third body", None]


def test_a_running_brokers_journal_is_looked_at_and_not_repaired(serve: Serve, run: Run, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    broker = serve("--data-dir", data)
    with broker.connect() as connection:
        connection.channel().queue_declare("kept", durable=True)
        checked = run("journal", "check", data)
        assert checked.returncode == 0, checked.stderr
        assert f"in use by process {broker.process.pid}" in checked.stdout
        assert json.loads(run("journal", "check", "--json", data).stdout)["used_by"] == str(broker.process.pid)
        entries = [json.loads(line) for line in run("journal", "dump", "--json", data).stdout.splitlines()]
        assert any("'kept'" in entry["meaning"] for entry in entries if entry.get("kind") == 4)
        assert run("journal", "repair", "--dry-run", data).stdout == "nothing is damaged, and nothing was changed\n"
        assert_refused(run("journal", "repair", data), 4, data, f"process {broker.process.pid}")


def test_the_journals_tools_keep_away_from_other_folders(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert_refused(run("journal", "check", str(other)), 4, str(other))
    assert list(other.iterdir()) == []


# --- the broker as a neighbour ---------------------------------------------------------------------------------------


def test_more_clients_than_descriptors_are_refused_and_the_broker_goes_on(serve: Serve) -> None:
    broker = serve()
    limit = 60
    resource.prlimit(broker.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    first = broker.connect()
    channel = first.channel()
    channel.queue_declare("kept", durable=True)
    channel.confirm_delivery()
    crowd = [socket.create_connection(("127.0.0.1", broker.port)) for _ in range(limit)]
    assert broker.process.stderr is not None
    assert any("refusing connections" in line for line in broker.process.stderr)  # reads on until it is said
    channel.basic_publish("", "kept", b"x", pika.BasicProperties(delivery_mode=2))  # confirmed, or it raises

    for one in crowd:
        one.close()
    wait_until_answered(broker.port)
    first.close()
    broker.end(signal.SIGTERM)


def test_more_clients_than_the_setting_allows_are_refused(serve: Serve) -> None:
    broker = serve(AMQP_BROKER_CONNECTIONS_MAX="1")
    with broker.connect(), pytest.raises(pika.exceptions.ProbableAccessDeniedError, match="node connection limit"):
        broker.connect()
    broker.connect().close()


def test_more_clients_that_do_not_log_in_than_the_setting_allows_are_refused(serve: Serve) -> None:
    broker = serve(AMQP_BROKER_HANDSHAKES_MAX="2")
    with broker.connect():
        silent = [socket.create_connection(("127.0.0.1", broker.port)) for _ in range(3)]
        assert broker.process.stderr is not None
        assert any("handshakes_max" in line for line in broker.process.stderr)  # reads on until it is said
        assert silent[2].recv(1) == b""
        for one in silent:
            one.close()
        wait_until_answered(broker.port)


def wait_until_answered(port: int) -> None:
    """Wait until a client that connects is greeted."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as probe:
            try:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                if probe.recv(1):
                    return
            except ConnectionError:
                pass
        time.sleep(0.01)
    pytest.fail("it refuses connections still")
