"""What docs/cluster.md tells operators of etcd: one with TLS and users, and one that is restored from a backup."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import trustme

from tests.cluster.test_commands import publish, taken
from tests.support.command_line import OurBroker
from tests.support.command_line import run as command
from tests.support.etcd_process import ETCD, EtcdMember, free_ports, one_member

ETCDCTL = shutil.which("etcdctl")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ETCD is None, reason="etcd is not installed (Debian: etcd-server)"),
    pytest.mark.skipif(ETCDCTL is None, reason="etcdctl is not installed (Debian: etcd-client)"),
]


def etcdctl(*arguments: str) -> None:
    assert ETCDCTL is not None
    done = subprocess.run([ETCDCTL, *arguments], env={"ETCDCTL_API": "3"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def node(url: str, folder: Path, **settings: str) -> OurBroker:
    """A cluster's only node."""
    more = {f"AMQP_BROKER_{name.upper()}": value for name, value in settings.items()}
    environment = {"AMQP_BROKER_CLUSTER": url, "AMQP_BROKER_CLUSTER_SECRET": "s", "AMQP_BROKER_LINK_PORT": "0"}
    return OurBroker(environment={**environment, **more}, subfolder=str(folder))


def test_a_node_uses_an_etcd_with_certificates_and_users(tmp_path: Path) -> None:
    authority, paths = trustme.CA(), {name: str(tmp_path / f"{name}.pem") for name in ("ca", "member", "node")}
    authority.cert_pem.write_to_path(paths["ca"])
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(paths["member"])
    authority.issue_cert("node.example").private_key_and_cert_chain_pem.write_to_path(paths["node"])
    client_port, peer_port = free_ports(2)
    tls = ["--cert-file", paths["member"], "--key-file", paths["member"]]
    tls += ["--client-cert-auth", "--trusted-ca-file", paths["ca"]]
    etcd = EtcdMember(tmp_path / "etcd", "one", client_port, {"one": peer_port}, tls, scheme="https")
    try:
        etcd.wait_until_ready()
        at = [f"--endpoints=https://127.0.0.1:{client_port}"]
        at += [f"--cacert={paths['ca']}", f"--cert={paths['node']}", f"--key={paths['node']}"]
        etcdctl(*at, "user", "add", "root:r")
        etcdctl(*at, "user", "grant-role", "root", "root")
        etcdctl(*at, "user", "add", "broker:secret@/:")
        etcdctl(*at, "role", "add", "broker")
        etcdctl(*at, "role", "grant-permission", "broker", "readwrite", "--prefix", "amqp-broker/safe/")
        etcdctl(*at, "user", "grant-role", "broker", "broker")
        etcdctl(*at, "auth", "enable")
        url = f"etcds://broker:secret%40%2F%3A@127.0.0.1:{client_port}/safe"
        broker = node(
            url, tmp_path / "data", etcd_ca=paths["ca"], etcd_certificate=paths["node"], etcd_key=paths["node"]
        )
        try:
            publish(broker.address.port, [b"1", b"2"])
            broker.kill_and_restart()
            assert taken(broker.address.port) == [b"1", b"2"]
        finally:
            broker.stop()
    finally:
        etcd.kill()


def test_a_backup_of_one_member_is_restored_at_three(tmp_path: Path) -> None:
    etcd = one_member(tmp_path / "etcd")
    url = f"etcd://127.0.0.1:{etcd.client_port}/orders"
    broker = node(url, tmp_path / "data")
    try:
        publish(broker.address.port, [b"1", b"2"])
        done = command("cluster", "backup", str(tmp_path / "backup"), "--cluster", url)
        assert done.returncode == 0, done.stderr
        publish(broker.address.port, [b"too late for it"])
    finally:
        broker.stop()
        etcd.kill()
    client_ports, peer_ports = free_ports(3), dict(zip("abc", free_ports(3), strict=True))
    peers = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in peer_ports.items())
    for name, port in peer_ports.items():
        etcdctl(
            *("snapshot", "restore", str(tmp_path / "backup"), "--name", name),
            *("--data-dir", str(tmp_path / name / "data"), "--initial-cluster", peers),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{port}"),
        )
    members = [
        EtcdMember(tmp_path / name, name, port, peer_ports) for name, port in zip(peer_ports, client_ports, strict=True)
    ]
    addresses = ",".join(f"127.0.0.1:{port}" for port in client_ports)
    try:
        broker = node(f"etcd://{addresses}/orders", tmp_path / "restored")
        try:
            assert taken(broker.address.port) == [b"1", b"2"]
        finally:
            broker.stop()
    finally:
        for member in members:
            member.kill()
