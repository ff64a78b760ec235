"""``amqp-broker cluster``, and what load balancers and administrators meet at each node."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pika
import pytest
import typer

from amqp_broker.cli.cluster import _failures_told
from amqp_broker.cli.exit_codes import ExitCode
from amqp_broker.cli.serve_cluster import serve_cluster
from amqp_broker.settings import Settings
from tests.support.cluster_processes import ClusterOfThree, NodeProcess
from tests.support.command_line import OurBroker
from tests.support.command_line import run as command
from tests.support.etcd_process import ETCD, one_member

IS_COMPILED = os.environ.get("AMQP_BROKER_UNDER_TEST") == "compiled"
GUEST = "Basic Z3Vlc3Q6Z3Vlc3Q="


def ask(node: NodeProcess, path: str) -> tuple[int, str]:
    request = Request(f"http://127.0.0.1:{node.management_port}{path}", headers={"Authorization": GUEST})
    try:
        with urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def publish(port: int, bodies: list[bytes]) -> None:
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("kept", durable=True)
    for body in bodies:
        channel.basic_publish("", "kept", body, pika.BasicProperties(delivery_mode=2))
    connection.close()


def taken(port: int) -> list[bytes]:
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
    channel = connection.channel()
    bodies = []
    while (message := channel.basic_get("kept", auto_ack=True))[0] is not None:
        bodies.append(message[2])
    connection.close()
    return bodies


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_certificate_that_is_not_there_is_told_in_a_line(tmp_path: Path) -> None:
    told: list[tuple[ExitCode, str]] = []

    def fail(code: ExitCode, text: str) -> NoReturn:
        told.append((code, text))
        raise SystemExit

    settings = Settings(
        port=0,
        cluster="etcd://127.0.0.1:1/c",
        cluster_secret="s",
        data_dir=str(tmp_path),
        tls_certificate="nowhere.pem",
        tls_key="nowhere.pem",
    )
    with pytest.raises(SystemExit):
        serve_cluster(settings, fail)
    assert [(code, "nowhere.pem" in text) for code, text in told] == [(ExitCode.WRONG_USE, True)]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt()])])
def test_a_command_that_is_interrupted_says_what_has_become_of_it(
    interrupt: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, _failures_told(Path("file"), "file is not written"):
        raise interrupt
    assert (caught.value.exit_code, capsys.readouterr().err) == (130, "\nstopped: file is not written\n")


@pytest.mark.slow
def test_a_cluster_is_looked_at_handed_over_and_moved_out(cluster: ClusterOfThree, tmp_path: Path) -> None:
    owner = cluster.wait_for_owner()
    doors = [node for node in cluster.nodes if node is not owner]
    url = f"etcd://127.0.0.1:{cluster.etcd.client_port}/test"

    def overview(node: NodeProcess) -> dict[str, object]:
        done = command("cluster", "status", "--json", "--data-dir", str(node.data_folder))
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    until(lambda: len(overview(owner)["nodes"]) == 3)  # type: ignore[arg-type]
    assert {overview(node)["owner"] for node in cluster.nodes} == {owner.name}

    # What each node tells a load balancer, and the owner's HTTP API through any of them. Nodes are told of each other
    # by etcd a little later than this test, which has asked etcd.
    until(lambda: ask(owner, "/owner")[0] == 200)
    until(lambda: {ask(node, "/ready")[0] for node in cluster.nodes} == {200})
    until(lambda: [node.builds for node in cluster.nodes] == [{IS_COMPILED}] * 3)
    assert {ask(node, "/owner")[0] for node in doors} == {503}
    publish(doors[0].port, [b"1", b"2"])
    assert {json.loads(ask(node, "/api/queues/%2F/kept")[1])["name"] for node in cluster.nodes} == {"kept"}

    names = [f"rabbit@{node.name}" for node in (owner, *sorted(doors, key=lambda node: node.name))]
    until(lambda: [node["name"] for node in json.loads(ask(doors[0], "/api/nodes")[1])] == names)

    # A door says where to go
    done = command("queues", "list", "--data-dir", str(doors[0].data_folder))
    assert (done.returncode != 0, f"ask node '{owner.name}'" in done.stderr) == (True, True)
    done = command("cluster", "step-down", "--data-dir", str(doors[0].data_folder))
    assert (done.returncode != 0, f"ask node '{owner.name}'" in done.stderr) == (True, True)
    assert command("users", "add", "me", "--no-password", "--data-dir", str(owner.data_folder)).returncode == 0

    done = command("cluster", "step-down", "--data-dir", str(owner.data_folder))
    assert done.stdout == f"node '{owner.name}' has handed the broker over\n"
    successor = cluster.wait_for_owner()
    assert successor is not owner
    assert owner.process.poll() is None  # it stays as a door
    until(lambda: ask(successor, "/owner")[0] == 200)
    assert json.loads(ask(successor, "/api/queues/%2F/kept")[1])["messages"] == 2

    alone = tmp_path / "alone"
    done = command("cluster", "export", str(alone), "--cluster", url)
    assert done.returncode == 0, done.stderr
    assert command("journal", "check", str(alone)).returncode == 0
    done = command("cluster", "export", str(alone), "--cluster", url)
    assert "name a new folder" in done.stderr
    snapshot = tmp_path / "snapshot"
    assert command("cluster", "backup", str(snapshot), "--cluster", url).returncode == 0
    assert snapshot.stat().st_size > 10_000
    assert snapshot.stat().st_mode & 0o077 == 0  # passwords are in it, if only their hashes
    done = command("cluster", "import", str(alone), "--cluster", url)
    assert "has a journal already" in done.stderr
    assert [node.end(signal.SIGTERM) for node in cluster.nodes] == [0, 0, 0]  # none trips over its own end

    broker = OurBroker(subfolder=str(alone))
    try:
        assert "me" in [user["name"] for user in json.loads(broker.ctl("users", "list", "--json"))]
        assert taken(broker.address.port) == [b"1", b"2"]
    finally:
        broker.stop()


@pytest.mark.slow
@pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)")
def test_what_one_broker_had_is_a_clusters(tmp_path: Path) -> None:
    broker = OurBroker(subfolder=str(tmp_path / "alone"))
    publish(broker.address.port, [b"%d" % number for number in range(100)])
    broker.stop()
    etcd = one_member(tmp_path / "etcd")
    try:
        url = f"etcd://127.0.0.1:{etcd.client_port}/moved"
        done = command("cluster", "import", str(tmp_path / "alone"), "--cluster", url)
        assert done.returncode == 0, done.stderr
        done = command("cluster", "export", str(tmp_path / "back"), "--cluster", url)
        assert done.returncode == 0, done.stderr
        assert (
            "no journal of a cluster"
            in command("cluster", "export", str(tmp_path / "none"), "--cluster", url.replace("moved", "other")).stderr
        )
    finally:
        etcd.kill()
    broker = OurBroker(subfolder=str(tmp_path / "back"))
    try:
        assert taken(broker.address.port) == [b"%d" % number for number in range(100)]
    finally:
        broker.stop()


def test_without_etcd_a_command_says_so_in_a_line(tmp_path: Path) -> None:
    done = command("cluster", "backup", str(tmp_path / "file"), "--cluster", "etcd://127.0.0.1:1/none")
    assert done.returncode == 10
    assert "is etcd running" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
    done = command("cluster", "backup", str(tmp_path), "--cluster", "etcd://127.0.0.1:1/none")
    assert (done.returncode, "is a folder: name a file" in done.stderr) == (2, True)
    done = command("cluster", "backup", str(tmp_path / "file"))
    assert (done.returncode, "name the cluster" in done.stderr) == (2, True)
