"""Strangers at a node's link port: they hold few places, for a second, and none that a node needs."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import trio
import trio.testing

from amqp_broker.cluster import callers as callers_module
from amqp_broker.cluster import clients as clients_module
from amqp_broker.cluster import door
from amqp_broker.cluster.callers import OF_ONE_ADDRESS_MAX, STRANGERS_MAX, Callers
from amqp_broker.cluster.door import Caller
from amqp_broker.cluster.keys import Node
from amqp_broker.settings import Settings
from tests.cluster.test_clients import node_of, with_owner
from tests.support.served import on_a_jumping_clock

PLACES = 100
NODE = Caller("orders", "other", "secret")


class Port:
    """A port's places, and who holds one."""

    def __init__(self, nursery: trio.Nursery, places_max: int = PLACES, nodes: tuple[str, ...] = ()) -> None:
        self.callers = Callers(places_max, nodes.__contains__)
        self._nursery = nursery
        self.gone: list[str] = []

    async def call(self, host: str) -> str:
        """A caller comes, and stays silent; returns why it is refused."""
        reason = self.callers.refusal_of(host)
        if not reason:
            self._nursery.start_soon(self._stay, host)
        await trio.testing.wait_all_tasks_blocked()
        return reason

    async def _stay(self, host: str) -> None:
        with self.callers.place_of(host):
            await trio.sleep_forever()
        self.gone.append(host)


def with_port(
    test: Callable[[Port], Awaitable[None]], *, nodes: tuple[str, ...] = (), places_max: int = PLACES
) -> None:
    @on_a_jumping_clock
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await test(Port(nursery, places_max, nodes))
            nursery.cancel_scope.cancel()

    main()


def test_an_address_has_few_places_and_loses_the_oldest_to_who_comes_after_a_second() -> None:
    async def test(port: Port) -> None:
        assert [await port.call("a") for _ in range(OF_ONE_ADDRESS_MAX)] == [""] * OF_ONE_ADDRESS_MAX
        assert await port.call("a") == f"{OF_ONE_ADDRESS_MAX} callers have not proved yet that they are nodes"
        assert not await port.call("b")
        await trio.sleep(1.01)
        assert (await port.call("a"), port.gone) == ("", ["a"])
        assert len(port.callers) == OF_ONE_ADDRESS_MAX + 1

    with_port(test)


def test_all_strangers_together_leave_places_for_nodes() -> None:
    async def test(port: Port) -> None:
        refused = [await port.call(str(number)) for number in range(PLACES)]
        assert refused.count("") == STRANGERS_MAX == len(port.callers)
        assert [await port.call("node") for _ in range(PLACES - STRANGERS_MAX)] == [""] * (PLACES - STRANGERS_MAX)
        assert not port.gone
        assert (await port.call("node"), port.gone) == ("", ["0"])  # and have to go for one, however young
        assert await port.call("new") == f"{PLACES} callers have not proved yet that they are nodes"

    with_port(test, nodes=("node",))


def test_nodes_that_call_together_finish_before_others_of_theirs_begin() -> None:
    async def test(port: Port) -> None:
        assert [await port.call("node") for _ in range(PLACES)] == [""] * PLACES
        await trio.sleep(2)
        assert (bool(await port.call("node")), port.gone) == (True, [])

    with_port(test, nodes=("node",))


def test_who_has_proved_itself_is_a_stranger_no_more_and_has_to_go_for_nobody() -> None:
    async def test(port: Port) -> None:
        with ExitStack() as stack:
            place = stack.enter_context(port.callers.place_of("a"))
            port.callers.note_proved(place)
            assert len(port.callers) == 0
            assert [await port.call("a") for _ in range(PLACES)] == [""] * PLACES
            assert not place.scope.cancel_called

    with_port(test)


def test_a_stranger_that_is_silent_does_not_keep_a_node_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """On real sockets: from one address, where no node is known."""
    monkeypatch.setattr(callers_module, "OF_ONE_ADDRESS_MAX", 1)
    monkeypatch.setattr(callers_module, "SAFE_S", 0.0)

    async def act(owner: Node) -> None:
        silent = await trio.open_tcp_stream(owner.link_host, owner.link_port)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await door.is_owner(NODE, owner, shard=0)
        with trio.fail_after(1), suppress(trio.BrokenResourceError):
            assert await silent.receive_some() == b""
        await silent.aclose()

    trio.run(with_owner, lambda: True, act, lambda: None, Settings())


class Names(trio.abc.HostnameResolver):
    """Names that stand for an address; each is looked up in vain the first time."""

    def __init__(self, **addresses: str) -> None:
        self._addresses = addresses
        self.asked: list[str] = []

    async def getaddrinfo(self, host: bytes | str | None, *rest: Any, **more: Any) -> Any:
        await trio.lowlevel.checkpoint()
        name = host.decode() if isinstance(host, bytes) else str(host)
        self.asked.append(name)
        if self.asked.count(name) < 2:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self._addresses[name], 0))]

    async def getnameinfo(self, *rest: Any) -> Any:
        raise AssertionError("nobody asks for a name")


@on_a_jumping_clock
async def test_a_node_that_says_a_name_is_known_at_its_address() -> None:
    names = Names(first="10.0.0.1", second="10.0.0.2")
    trio.socket.set_custom_hostname_resolver(names)
    known, clients = node_of("owner")
    hosts = ("10.0.0.1", "10.0.0.2", "10.0.0.3")

    async def seen() -> list[bool]:
        known.tell()
        await trio.sleep(2 * clients_module.LOOK_UP_AGAIN_S)
        return [clients._is_of_node(host) for host in hosts]

    known.nodes = {host: Node(host, host, host, 1, "1", 0) for host in ("first", "10.0.0.3")}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clients.look_nodes_up)
        assert await seen() == [True, False, True]
        known.nodes["second"] = Node("second", "second", "second", 1, "1", 0)
        assert await seen() == [True, True, True]
        del known.nodes["first"]
        assert await seen() == [False, True, True]
        nursery.cancel_scope.cancel()
    assert names.asked == ["first", "first", "second", "second"]
