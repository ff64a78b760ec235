"""``amqp-broker users``, ``vhosts`` and ``permissions`` against a broker process: what they do, say and refuse."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pika
import pika.exceptions
import pytest
from pamqp import commands, frame
from typer.testing import CliRunner

from amqp_broker.cli.application import application
from tests.support.client import PROTOCOL_HEADER
from tests.support.command_line import OurBroker
from tests.support.command_line import run as run_command

REFUSED, NOT_RUNNING, WRONG_USE = 8, 7, 2


@pytest.fixture(scope="module")
def broker() -> Iterator[OurBroker]:
    process = OurBroker(environment={"AMQP_BROKER_HANDSHAKE_TIMEOUT_MS": "300000"})  # of the storm's last one
    yield process
    process.stop()


def run(data: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, "--data-dir", str(data), standard_input=typed)


def connect(broker: OurBroker, user: str, password: str, vhost: str) -> pika.BlockingConnection:
    credentials = pika.PlainCredentials(user, password)
    parameters = pika.ConnectionParameters("127.0.0.1", broker.address.port, vhost, credentials)
    return pika.BlockingConnection(parameters)


def test_a_user_from_the_first_day_to_the_last(broker: OurBroker) -> None:
    data = broker.data_folder
    broker.ctl("users", "add", "ada", "--tag", "management", "--password-stdin", standard_input="secret\n")
    broker.ctl("vhosts", "add", "orders")
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError):
        connect(broker, "ada", "secret", "orders")
    broker.ctl("permissions", "set", "ada", "^ada", ".*", ".*", "--vhost", "orders")
    broker.ctl("permissions", "set-topic", "ada", "amq.topic", "^{username}", ".*", "--vhost", "orders")
    broker.ctl("users", "limits", "ada", "--connections", "5")
    broker.ctl("vhosts", "limits", "orders", "--queues", "1")
    broker.kill_and_restart()  # what was said to be done is on disk
    with connect(broker, "ada", "secret", "orders") as connection:
        channel = connection.channel()
        channel.queue_declare("ada.1", durable=True)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="queue limit"):
            channel.queue_declare("ada.2")
    users = json.loads(broker.ctl("users", "list", "--json"))
    assert [(user["name"], user["tags"], user["connections_max"]) for user in users] == [
        ("ada", ["management"], 5),
        ("guest", ["administrator"], None),
    ]
    listed = broker.ctl("permissions", "list").splitlines()
    assert listed[1].split() == ["ada", "orders", "^ada", ".*", ".*"]
    assert listed[-1].split() == ["ada", "orders", "amq.topic", "^{username}", ".*"]
    assert broker.ctl("vhosts", "list").splitlines()[2].split() == ["orders", "1", "0", "1", "-"]

    broker.ctl("users", "password", "ada", "--password-stdin", "--hash", "sha512", standard_input="other\n")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        connect(broker, "ada", "secret", "orders")
    connection = connect(broker, "ada", "other", "orders")
    broker.ctl("users", "delete", "ada")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="user 'ada' is deleted"):
        connection.process_data_events(60)
    broker.ctl("vhosts", "delete", "orders")
    assert run(data, "permissions", "list", "--json").stdout.count('"user"') == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("users", "add", "guest", "--no-password"), "there is a user 'guest' already"),
        (("users", "delete", "nobody"), "there is no user 'nobody'"),
        (("users", "add", "", "--no-password"), "name has 1 to 255 bytes"),
        (("users", "add", "eve", "--no-password", "--tag", "a,b"), "'a,b' is no tag"),
        (("vhosts", "delete", "nowhere"), "there is no virtual host 'nowhere'"),
        (("permissions", "set", "guest", "(", "", ""), "the configure pattern '(' cannot be used"),
    ],
)
def test_what_is_refused(broker: OurBroker, arguments: tuple[str, ...], text: str) -> None:
    done = run(broker.data_folder, *arguments, typed="secret\n")
    assert done.returncode == REFUSED
    assert text in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("users", "limits", "guest", "--channels", "many"), "a whole number or none, not 'many'"),
        (("users", "limits", "guest", "--channels", "-1"), "a whole number or none, not '-1'"),
        (("users", "limits", "guest", "--channels", "9" * 5000), "a whole number or none, not '999"),
        (("users", "limits", "guest"), "--connections or --channels"),
        (("vhosts", "limits", "/"), "--connections or --queues"),
        (("users", "add", "eve", "--password-stdin", "--hash", "md5"), "scrypt, sha256, sha512, not 'md5'"),
        (("users", "add", "eve", "--password-stdin", "--no-password"), "choose one"),
    ],
)
def test_a_wrong_command_line(broker: OurBroker, arguments: tuple[str, ...], text: str) -> None:
    done = run(broker.data_folder, *arguments, typed="secret\n")
    assert done.returncode == WRONG_USE
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_password_may_be_any_bytes(broker: OurBroker) -> None:
    command = ("users", "add", "binary", "--password-stdin", "--data-dir", str(broker.data_folder))
    done = run_command(*command, standard_input=b"p\xff\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_nobody_is_there(tmp_path: Path) -> None:
    done = run(tmp_path, "users", "list")
    assert done.returncode == NOT_RUNNING
    assert str(tmp_path) in done.stderr


def test_a_folder_with_a_long_name() -> None:
    broker = OurBroker(subfolder="a" * 150)
    try:
        assert "guest" in broker.ctl("users", "list")
    finally:
        broker.stop()


def test_the_control_socket_is_for_its_owner_and_survives_what_is_no_request(broker: OurBroker) -> None:
    path = broker.data_folder / "control"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(broker.data_folder.stat().st_mode) == 0o700
    requests = [
        b"nonsense\n", b"[]\n", b"{}\n", b'{"command": "no"}\n', b'{"command": "users.add", "arguments": 5}\n',
        b'{"command": "users.add", "arguments": {"name": 5}}\n', b"\xff\n", b'{"command": []}\n',
        b'{"command": "users.limits", "arguments": {"name": "guest", "channels_max": "5"}}\n',
        b"[" * 60_000 + b"\n", b'{"command": "users.add", "arguments": {"name": "\\ud800", "password": null}}\n',
    ]  # fmt: skip
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        with client.makefile("rb") as answers:
            for request in requests:
                client.sendall(request)
                assert "error" in json.loads(answers.readline())
            client.sendall(b'{"command": "vhosts.list"}\n')
            assert json.loads(answers.readline())["items"][0]["name"] == "/"
    assert "internal error" not in broker.log_text()


def test_each_command_has_examples() -> None:
    for noun, verbs in {
        "users": ("list", "add", "password", "tags", "limits", "delete"),
        "vhosts": ("list", "add", "limits", "delete"),
        "permissions": ("list", "set", "clear", "set-topic", "clear-topic"),
        "queues": ("list", "purge", "delete", "peek", "move", "copy", "delete-messages"),
        "connections": ("list", "close"),
        "exchanges": ("list",),
        "bindings": ("list",),
        "consumers": ("list",),
    }.items():
        for verb in verbs:
            shown = CliRunner().invoke(application, [noun, verb, "--help"]).stdout
            assert f"amqp-broker {noun} {verb}" in shown.split("Options:")[0].split("\n", 2)[2]
            assert "8 the broker refused" in " ".join(shown.split())


def test_a_login_storm_stops_nobody(broker: OurBroker) -> None:
    """Fifty logins at once with a slow hash; the broker greets a stranger while they wait for their turn."""
    broker.ctl("users", "add", "storm", "--password-stdin", standard_input="secret\n")
    broker.ctl("permissions", "set", "storm", ".*", ".*", ".*")
    broker.restart()  # nothing is remembered
    start_ok = frame_of_start_ok("storm", "secret")
    clients = [socket.create_connection((broker.address.host, broker.address.port)) for _ in range(50)]
    for client in clients:
        client.sendall(PROTOCOL_HEADER + start_ok)
    with socket.create_connection((broker.address.host, broker.address.port), 30) as stranger:
        stranger.sendall(PROTOCOL_HEADER)
        assert stranger.recv(1) == b"\x01"
    for client in clients:
        client.settimeout(300)
        with client, client.makefile("rb") as frames:
            answers = [read_method(frames) for _ in range(2)]
            assert answers == [(10, 10), (10, 30)]  # connection.start, connection.tune


def frame_of_start_ok(user: str, password: str) -> bytes:
    return frame.marshal(commands.Connection.StartOk({}, "PLAIN", f"\0{user}\0{password}", "en_US"), 0)


def read_method(frames: BinaryIO) -> tuple[int, int]:
    header = frames.read(7)
    payload = frames.read(int.from_bytes(header[3:], "big") + 1)
    return int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big")
