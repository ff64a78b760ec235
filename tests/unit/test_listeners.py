"""Listening: which addresses a name stands for, one port for all of them, and an accept loop that survives."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trio

from amqp_broker.network import listeners as module
from amqp_broker.network.listeners import CannotListen, Endpoint, Listener, accept_forever, bind, listen


@contextmanager
def bound(hosts: tuple[str, ...], port: int = 0) -> Iterator[list[Listener]]:
    listeners = trio.run(bind, hosts, port)
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_localhost_is_both_loopbacks_on_one_port() -> None:
    with bound(("localhost",)) as listeners:
        endpoints = [listener.endpoint for listener in listeners]
    addresses = ["127.0.0.1", "::1"] if has_ipv6() else ["127.0.0.1"]
    assert [endpoint.address for endpoint in endpoints] == addresses
    assert len({endpoint.port for endpoint in endpoints}) == 1
    assert endpoints[0].url == f"amqp://localhost:{endpoints[0].port}"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("*", "amqp://localhost:5672"),
        ("0.0.0.0", "amqp://127.0.0.1:5672"),
        ("::", "amqp://[::1]:5672"),
        ("10.0.0.7", "amqp://10.0.0.7:5672"),
    ],
)
def test_the_url_is_one_that_a_client_can_connect_to(host: str, url: str) -> None:
    assert Endpoint(host, "0.0.0.0", 5672).url == url


def test_an_address_is_itself_and_is_named_once() -> None:
    with bound(("127.0.0.1", "127.0.0.1")) as listeners:
        assert [listener.endpoint.address for listener in listeners] == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("hosts", "addresses"),
    [
        (("127.0.0.1", "localhost"), ["127.0.0.1", "::1"]),
        (("localhost", "127.0.0.1", "::1"), ["127.0.0.1", "::1"]),
        (("127.0.0.1", "*", "localhost"), ["0.0.0.0", "::"]),
        (("127.0.0.1", "::"), ["127.0.0.1", "::"]),
        (("[::1]", "::1"), ["::1"]),
    ],
)
def test_addresses_that_overlap_are_listened_on_once(hosts: tuple[str, ...], addresses: list[str]) -> None:
    if not has_ipv6():
        pytest.skip("no IPv6 here")
    with bound(hosts) as listeners:
        listen(listeners)
        assert [listener.endpoint.address for listener in listeners] == addresses


def test_an_address_in_brackets_is_shown_in_one_pair_of_them() -> None:
    if not has_ipv6():
        pytest.skip("no IPv6 here")
    with bound(("[::1]",)) as (listener,):
        assert listener.endpoint.url == f"amqp://[::1]:{listener.endpoint.port}"


def test_a_machine_without_ipv6_listens_on_the_other_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    bind_one = module._bind_one

    def without_ipv6(host: str, address: str, port: int) -> Listener:
        if ":" in address:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return bind_one(host, address, port)

    monkeypatch.setattr(module, "_bind_one", without_ipv6)
    with bound(("localhost",)) as listeners:
        assert [listener.endpoint.address for listener in listeners] == ["127.0.0.1"]
    with pytest.raises(CannotListen, match=r"::1 has no address on this machine .*the setting host"):
        trio.run(bind, ("::1",), 0)


def test_a_port_in_use_is_named_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"port {port} on 127\.0\.0\.1 is in use .* the setting port"):
            trio.run(bind, ("localhost",), port)


def test_a_free_port_is_sought_until_it_is_free_on_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[str] = []
    bind_one = module._bind_one

    def taken_at_first(host: str, address: str, port: int) -> Listener:
        attempts.append(address)
        if attempts == ["127.0.0.1", "::1"]:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return bind_one(host, "127.0.0.1", 0 if address == "::1" else port)

    monkeypatch.setattr(module, "_bind_one", taken_at_first)
    with bound(("localhost",)):
        assert attempts == ["127.0.0.1", "::1", "127.0.0.1", "::1"]


def test_a_host_that_nobody_knows_is_named() -> None:
    with pytest.raises(CannotListen, match=r"host 'no such host' is not known here .*the setting host"):
        trio.run(bind, ("no such host",), 0)


@pytest.mark.parametrize("host", [".foo", "a" * 64 + ".example", "[", "[]"])
def test_a_host_that_can_be_no_name_is_named(host: str) -> None:
    with pytest.raises(CannotListen, match=r"is not known here \(.*\): .*the setting host") as refused:
        trio.run(bind, (host,), 0)
    assert repr(host) in str(refused.value)


def test_nobody_can_connect_before_listen() -> None:
    with bound(("127.0.0.1",)) as listeners, socket.socket() as client:
        address = ("127.0.0.1", listeners[0].endpoint.port)
        assert client.connect_ex(address) == errno.ECONNREFUSED
        listen(listeners)
        assert client.connect_ex(address) == 0


def test_endpoints_in_words() -> None:
    assert Endpoint("::1", "::1", 5672).url == "amqp://[::1]:5672"
    assert str(Endpoint("localhost", "::1", 5672)) == "[::1]:5672"


class FailingSocket:
    """A listening socket whose first calls of accept fail in ways that a real one fails in."""

    def __init__(self, real: socket.socket, failures: list[OSError]) -> None:
        self._real = real
        self._failures = failures

    def fileno(self) -> int:
        return self._real.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        if self._failures:
            raise self._failures.pop(0)
        return self._real.accept()


def accept_one(failures: list[OSError], on_accepted: Callable[[], None]) -> None:
    async def main() -> None:
        (listener,) = await bind(("127.0.0.1",), 0)
        listen([listener])
        failing = Listener(FailingSocket(listener.socket, failures), listener.endpoint)  # type: ignore[arg-type]
        with socket.create_connection(("127.0.0.1", listener.endpoint.port)):
            async with trio.open_nursery() as nursery:

                def accepted(one: socket.socket) -> None:
                    one.close()
                    on_accepted()
                    nursery.cancel_scope.cancel()

                with trio.fail_after(30):
                    await accept_forever(failing, accepted)
        listener.close()

    trio.run(main)


def test_accepting_survives_clients_that_left_and_want_of_descriptors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_PAUSE_AFTER_FAILURE_S", 0)
    failures: list[OSError] = [
        ConnectionAbortedError(errno.ECONNABORTED, "Software caused connection abort"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOBUFS, "No buffer space available"),
    ]
    accepted: list[bool] = []
    accept_one(failures, lambda: accepted.append(True))
    assert accepted == [True]
    assert failures == []
    assert [record.getMessage() for record in caplog.records] == ["cannot accept"]  # once, not for every attempt
