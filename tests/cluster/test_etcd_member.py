"""Nodes that look after etcd's members themselves: what they are told, and three of them as processes."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from amqp_broker.cluster import etcd_beginning, etcd_member
from amqp_broker.cluster.configuration import cluster_configuration
from amqp_broker.cluster.etcd_beginning import initial_state
from amqp_broker.cluster.etcd_member import CannotBegin, MemberPlace, etcd_command, look_after, members_in
from amqp_broker.etcd.messages import Member
from amqp_broker.settings import SettingError, Settings
from interop.brokers import our_environment
from tests.cluster.test_commands import publish, taken
from tests.support.etcd_process import ETCD, free_pairs, free_ports

THREE = "a=10.0.0.1,b=10.0.0.2:3379, c=[::1]:4379"


def test_members_are_named_with_their_machines() -> None:
    expected = {"a": MemberPlace("10.0.0.1"), "b": MemberPlace("10.0.0.2", 3379), "c": MemberPlace("::1", 4379)}
    assert members_in(THREE) == expected
    settings = Settings(with_etcd=THREE, node_name="b", cluster_secret="s")
    found = cluster_configuration(settings)
    assert (found.cluster, found.link_host) == ("amqp-broker", "10.0.0.2")
    assert list(map(str, found.addresses)) == ["10.0.0.1:2379", "10.0.0.2:3379", "::1:4379"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"with_etcd": "a=h,b"}, "takes NAME=HOST"),
        ({"with_etcd": "a=h,a=i,b=j"}, "each name once"),
        ({"with_etcd": "a=h:0"}, "takes NAME=HOST"),
        ({"with_etcd": "a=host.example,b=10.0.0.2,c=10.0.0.3"}, "takes IP addresses.*'host.example' is none"),
        ({"with_etcd": "a=10.0.0.1,b=localhost"}, "names 2 nodes: etcd wants 3 or 5"),
        ({"with_etcd": "a=10.0.0.1", "node_name": "b"}, "does not name this node, 'b'"),
        ({"with_etcd": "a=10.0.0.1", "cluster": "etcd://h/c", "node_name": "a"}, "a name alone"),
        ({"with_etcd": "a=10.0.0.1", "node_name": "a"}, "cluster_secret is missing"),
        ({"cluster": "etcd://root:pass@h"}, "not 'etcd://h'"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, str], text: str) -> None:
    with pytest.raises(SettingError, match=text):
        cluster_configuration(Settings(**settings))  # type: ignore[arg-type]


A, B, C = members_in(THREE).values()


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (None, "new"),
        ([Member(1, "a", [A.client_url], [A.peer_url]), Member(3, "", [], [C.peer_url])], "existing"),
        (
            [Member(1, "a", [A.client_url], [A.peer_url]), Member(2, "b", [B.client_url], [B.peer_url])],
            r"'etcdctl member add c --peer-urls=http://\[::1\]:4380'",
        ),
        ([Member(1, "a", [A.client_url], [A.peer_url])], "1 of the 3 members .* too few to add others"),
        ([Member(-1, "c", [C.client_url], [C.peer_url])], "'etcdctl member remove f{16}' and then"),
    ],
)
def test_a_member_without_data_begins_as_the_others_expect(
    listed: list[Member] | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_beginning, "_listed_by", {A: listed, B: None}.get)
    if said in ("new", "existing"):
        assert initial_state(members_in(THREE), "c", tmp_path) == said
    else:
        with pytest.raises(CannotBegin, match=said):
            initial_state(members_in(THREE), "c", tmp_path)
    (tmp_path / "member" / "wal").mkdir(parents=True)
    (tmp_path / "member" / "wal" / "0.wal").touch()
    assert initial_state(members_in(THREE), "c", tmp_path) == "new"


def test_one_set_of_files_is_for_clients_and_for_other_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "ca.pem"))
    both, authorities = str(tmp_path / "both.pem"), str(tmp_path / "ca.pem")
    plain = Settings(with_etcd="a=127.0.0.1", node_name="a", cluster_secret="s")

    def started(settings: Settings) -> tuple[bool, list[str]]:
        found = cluster_configuration(settings)
        files = found.member_files
        command = etcd_command(found.members, "a", found.cluster, tmp_path / "etcd", 1, files)
        return found.addresses[0].tls is not None, command

    is_tls, command = started(plain)
    assert not is_tls
    assert not [word for word in command if "cert" in word or "https" in word]
    is_tls, command = started(replace(plain, etcd_certificate=both, etcd_ca=authorities))
    assert is_tls
    assert not [word for word in command if "http://" in word]
    given = dict(itertools.pairwise(command))
    for prefix in ("--", "--peer-"):
        files = [given[f"{prefix}{name}"] for name in ("cert-file", "key-file", "trusted-ca-file")]
        assert files == [both, both, authorities]
        assert f"{prefix}client-cert-auth" in command
    assert given["--initial-cluster"] == "a=https://127.0.0.1:2380"


class Nodes:
    """Three nodes on the loopback, one command each.

    Args:
        folder: for all that they write.
        environment: more of theirs.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._environment = environment
        places = zip("abc", free_pairs(3), strict=True)
        self._members = ",".join(f"{name}=127.0.0.1:{port}" for name, port in places)
        self._folder = folder
        self.ports = dict(zip("abc", free_ports(3), strict=True))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "amqp_broker", "serve", "--port", str(self.ports[name])]
        command += ["--with-etcd", self._members, "--node-name", name, "--data-dir", str(self._folder / name)]
        environment = {
            "AMQP_BROKER_CLUSTER_SECRET": "secret of the test",
            "AMQP_BROKER_LINK_PORT": "0",
            "AMQP_BROKER_MANAGEMENT_PORT": "-1",
            "AMQP_BROKER_METRICS_PORT": "-1",
            **self._environment,
        }
        with (self._folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, env={**our_environment(), **environment}
            )

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def etcd_process(self, name: str) -> int:
        """That of a node's member, the last one that it has started."""
        started = [line for line in self.log(name).splitlines() if 'event="etcd started"' in line]
        return int(started[-1].rpartition("process=")[2].split()[0])


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_member_is_begun_by_a_thread_that_lives_as_long_as_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel ends it with that thread."""
    begun_by: list[threading.Thread] = []
    said: list[bytes] = []
    begin = etcd_member._started

    def note(command: list[str]) -> subprocess.Popen[bytes]:
        begun_by.append(threading.current_thread())
        return begin(command)

    async def main() -> None:
        program = "import sys, time; print(*sys.argv[1:], file=sys.stderr, flush=True); time.sleep(60)"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_after, [sys.executable, "-c", program, "--name"], lambda: "existing")
            while not said:
                await trio.testing.wait_all_tasks_blocked(0.005)
            nursery.cancel_scope.cancel()

    monkeypatch.setattr(etcd_member, "_started", note)
    monkeypatch.setattr(etcd_member, "_log", said.append)
    trio.run(main)
    assert begun_by == [threading.current_thread()]  # that of the event loop
    assert said == [b"--name --initial-cluster-state existing\n"]


@pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)")
@pytest.mark.skipif("CLUSTER_ROUNDS" not in os.environ, reason="takes seconds: make cluster-torture")
@pytest.mark.parametrize("secured", [(), ("ETCD", "LINK")], ids=["plain", "TLS"])
def test_three_commands_are_a_cluster(secured: tuple[str, ...], tmp_path: Path) -> None:
    """With TLS, one file has a certificate and its key for all that nodes and members of etcd say to each other."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "node.pem"))
    files = {"CA": str(tmp_path / "ca.pem"), "CERTIFICATE": str(tmp_path / "node.pem")}
    nodes = Nodes(
        tmp_path, {f"AMQP_BROKER_{prefix}_{name}": file for prefix in secured for name, file in files.items()}
    )
    try:
        for name in "abc":
            nodes.start(name)
        until(lambda: all("node of the cluster amqp-broker" in nodes.log(name) for name in "abc"))
        publish(nodes.ports["a"], [b"1", b"2"])

        # A member that ends is started again
        first = nodes.etcd_process("a")
        os.kill(first, signal.SIGKILL)
        until(lambda: nodes.etcd_process("a") != first)

        # A node that ends takes its member with it, and is not missed
        member = nodes.etcd_process("b")
        nodes.processes["b"].send_signal(signal.SIGTERM)
        assert nodes.processes["b"].wait(30) == 0
        assert not runs(member)
        assert taken(nodes.ports["c"]) == [b"1", b"2"]

        # Who is killed does, too
        member = nodes.etcd_process("c")
        nodes.processes["c"].kill()
        until(lambda: not runs(member) or sys.platform != "linux")
    finally:
        for process in nodes.processes.values():
            process.send_signal(signal.SIGTERM)
        for name in "abc":
            if nodes.processes[name].wait(30) is None:
                nodes.processes[name].kill()
