"""What an operator is told whose ``cluster`` names a member of etcd wrongly: without etcd, on the loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import trio
import trustme

from amqp_broker.cluster.configuration import cluster_configuration
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.etcd_failures import login_advice
from amqp_broker.cluster.members import Address, Credentials, EtcdRefused, EtcdUnavailable, Member
from amqp_broker.etcd import messages
from amqp_broker.settings import SettingError, Settings

AUTHORITY, OTHER_AUTHORITY = trustme.CA(), trustme.CA()


def member_of(host: str, *, wants_certificate: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(host).configure_cert(context)
    if wants_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        AUTHORITY.configure_trust(context)
    return context


def node_of(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@contextmanager
def served(member: ssl.SSLContext | None) -> Iterator[int]:
    """A port at which two connections meet what an etcd does that does not understand them: it closes them."""

    def serve() -> None:
        for _ in range(2):
            accepted, _ = listener.accept()
            with (
                suppress(OSError),
                accepted if member is None else member.wrap_socket(accepted, server_side=True) as one,
            ):
                one.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def told(member: ssl.SSLContext | None, node: ssl.SSLContext | None) -> str:
    """What is said of a member that speaks TLS, or does not, to a node that wants it, or does not."""

    async def call(port: int) -> None:
        async with trio.open_nursery() as nursery:
            client = EtcdClient([Address("127.0.0.1", port, tls=node)], 20.0, nursery)
            with pytest.raises(EtcdUnavailable) as caught:
                await client.call_once(messages.STATUS, b"")
            said.append(str(caught.value))
            nursery.cancel_scope.cancel()

    said: list[str] = []
    with served(member) as port:
        trio.run(call, port)
        one = Member("127.0.0.1", port, Credentials(tls=node), 20.0)
        with pytest.raises(EtcdUnavailable) as caught:
            one.call(messages.STATUS, b"")
        said.append(str(caught.value))
    assert said[0] == said[1], "from the event loop, and from a thread"
    return said[0].removeprefix(f"127.0.0.1:{port}: ")


@pytest.mark.parametrize(
    ("member", "node", "words"),
    [
        (None, lambda: node_of(AUTHORITY), "it does not begin TLS, as it seems (etcd:// in place of etcds://"),
        (lambda: member_of("127.0.0.1"), None, "as one with TLS does (etcds:// in place of etcd://)"),
        (lambda: member_of("127.0.0.1"), lambda: node_of(OTHER_AUTHORITY), "etcd_ca names who may have signed it"),
        (lambda: member_of("elsewhere"), lambda: node_of(AUTHORITY), "its certificate is for another host ("),
        (
            lambda: member_of("127.0.0.1", wants_certificate=True),
            lambda: node_of(AUTHORITY),
            "it wants a certificate that it accepts, as it seems (etcd_certificate, etcd_key)",
        ),
    ],
)
def test_a_mistake_about_tls_is_named(
    member: Callable[[], ssl.SSLContext] | None, node: Callable[[], ssl.SSLContext] | None, words: str
) -> None:
    text = told(member and member(), node and node())
    assert text.startswith("it")
    assert words in text
    assert "SSL" not in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "*"])
def test_an_address_that_leads_each_node_to_itself_is_refused(host: str) -> None:
    settings = Settings(cluster="etcd://10.0.0.1:2379,10.0.0.2/orders", cluster_secret="s", link_host=host)
    with pytest.raises(SettingError, match="link_host takes the address at which the other nodes reach this one"):
        cluster_configuration(settings)


def test_members_may_be_named_with_spaces_between_them() -> None:
    settings = Settings(cluster="etcd://10.0.0.1:2379, 10.0.0.2/orders", cluster_secret="s")
    assert list(map(str, cluster_configuration(settings).addresses)) == ["10.0.0.1:2379", "10.0.0.2:2379"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("etcdserver: permission denied", "has to read and write all keys"),
        ("etcdserver: authentication failed, invalid user ID or password", "look at the user and password"),
    ],
)
def test_who_is_refused_is_told_what_it_lacks(said: str, words: str) -> None:
    assert words in login_advice(EtcdRefused(7, said))


def test_each_member_is_named_with_its_own_reason() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            client = EtcdClient([Address("127.0.0.1", 1), Address("nowhere.invalid", 2)], 20.0, nursery)
            refused, unknown = "127.0.0.1:1: Connection refused", "nowhere.invalid:2: "
            with pytest.raises(EtcdUnavailable, match=f"answers: {refused}; {unknown}"):
                await client.call(messages.STATUS, b"")

    trio.run(main)
