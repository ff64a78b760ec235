"""Calls to etcd from the event loop: when a member is left for the next one, and what becomes of a connection."""

from __future__ import annotations

from contextlib import suppress
from math import inf

import pytest
import trio
import trio.testing

from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.members import Address, EtcdUnavailable
from amqp_broker.etcd.calls import OK
from tests.cluster.test_etcd_calls import Server, SlowLogins
from tests.support.served import on_a_jumping_clock


def connected(monkeypatch: pytest.MonkeyPatch) -> trio.abc.Stream:
    """The member's end of the first connection, on which nothing arrives before it is read."""
    ours, theirs = trio.testing.lockstep_stream_pair()

    async def connect(address: Address) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    monkeypatch.setattr(EtcdClient, "_open", staticmethod(connect))
    return theirs


@on_a_jumping_clock
async def test_a_caller_that_is_cancelled_while_it_speaks_takes_no_frames_of_others_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    member, server, scope = connected(monkeypatch), Server(lambda path, body: ([body], OK, "")), trio.CancelScope()

    async def give_up(client: EtcdClient) -> None:
        with scope:
            await client.call("/a/B", b"first")

    async def answer() -> None:
        while True:
            await member.send_all(server.answer(bytes(await member.receive_some())))

    async with trio.open_nursery() as nursery:
        client = EtcdClient([Address("localhost", 1)], 20.0, nursery)
        nursery.start_soon(give_up, client)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        nursery.start_soon(answer)
        assert await client.call("/a/B", b"second") == b"second"
        nursery.cancel_scope.cancel()


@on_a_jumping_clock
async def test_a_connection_that_a_call_waited_for_in_vain_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    member = connected(monkeypatch)
    async with trio.open_nursery() as nursery:
        client = EtcdClient([Address("localhost", 1)], 1.0, nursery)
        with pytest.raises(EtcdUnavailable, match="does not answer"):
            await client.call("/a/B", b"")
        with trio.fail_after(1), suppress(trio.BrokenResourceError):
            while await member.receive_some():
                pass
        nursery.cancel_scope.cancel()


@on_a_jumping_clock
async def test_a_member_that_ends_while_nothing_is_asked_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    (first, first_member), (second, second_member) = (
        trio.testing.memory_stream_pair(),
        trio.testing.memory_stream_pair(),
    )
    to_come = {1: first, 2: second}

    async def connect(address: Address) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if address.port not in to_come:
            raise EtcdUnavailable("connection refused")
        return to_come.pop(address.port)

    async def answer(member: trio.abc.Stream) -> None:
        server = Server(lambda path, body: ([body], OK, ""))
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await member.receive_some():
                await member.send_all(server.answer(bytes(data)))

    monkeypatch.setattr(EtcdClient, "_open", staticmethod(connect))
    async with trio.open_nursery() as nursery:
        client = EtcdClient([Address("localhost", 1), Address("localhost", 2)], 1.0, nursery)
        nursery.start_soon(answer, first_member)
        nursery.start_soon(answer, second_member)
        assert await client.call("/a/B", b"one") == b"one"
        await first_member.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert await client.call("/a/B", b"two") == b"two"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("apart_s", [0, 0.001])
@on_a_jumping_clock
async def test_a_member_that_is_gone_is_left_once_however_many_calls_wait_for_it(
    apart_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(address: Address) -> trio.abc.Stream:
        await trio.sleep(inf if address.port == 1 else 0.002)
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(answer, theirs)
        return ours

    async def answer(member: trio.abc.Stream) -> None:
        server = Server(lambda path, body: ([body], OK, ""))
        while data := await member.receive_some():
            await member.send_all(server.answer(bytes(data)))

    async def call(delay_s: float) -> None:
        await trio.sleep(delay_s)
        answers.append(await client.call("/a/B", b"asked"))

    answers: list[bytes] = []
    monkeypatch.setattr(EtcdClient, "_open", staticmethod(connect))
    async with trio.open_nursery() as nursery:
        client = EtcdClient([Address("localhost", port) for port in (1, 2, 3)], 1.0, nursery)
        async with trio.open_nursery() as calls:
            for number in range(3):
                calls.start_soon(call, number * apart_s)
        nursery.cancel_scope.cancel()
    assert answers == [b"asked"] * 3


@pytest.mark.parametrize(
    ("leaders", "login_s", "name", "answered_s"),
    [
        pytest.param([7], 3.1, b"slow", 3.1, id="it answers other calls"),
        pytest.param([], inf, b"other", 1.0, id="it is silent"),
        pytest.param([0], inf, b"other", 1.0, id="it has no leader"),
        pytest.param([7, 0], inf, b"other", 1.25, id="it has lost its leader"),
        pytest.param([7, 8], inf, b"other", 1.25, id="it has another leader, which knows nothing of the login"),
        pytest.param([7], inf, b"other", 5.75, id="it never ends"),
    ],
)
@on_a_jumping_clock
async def test_a_login_is_waited_for_as_long_as_its_member_answers_other_calls(
    leaders: list[int], login_s: float, name: bytes, answered_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(address: Address) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        server = SlowLogins(b"slow", leaders) if address.port == 1 else SlowLogins(b"other", [7])
        if address.port != 1 or leaders:
            nursery.start_soon(answer, server, theirs, login_s if address.port == 1 else 0.01)
        return ours

    async def answer(server: SlowLogins, member: trio.abc.Stream, login_s: float) -> None:
        with suppress(trio.BrokenResourceError):
            while data := await member.receive_some():
                await member.send_all(server.answer(bytes(data)))
                while server.logins:
                    nursery.start_soon(log_in, server, member, server.logins.pop(), login_s)

    async def log_in(server: SlowLogins, member: trio.abc.Stream, login: int, login_s: float) -> None:
        await trio.sleep(login_s)
        await member.send_all(server.answer_late(login))

    monkeypatch.setattr(EtcdClient, "_open", staticmethod(connect))
    async with trio.open_nursery() as nursery:
        client = EtcdClient([Address("localhost", port, "ada", "secret") for port in (1, 2)], 1.0, nursery)
        assert await client.call("/a/B", b"asked") == name
        assert trio.current_time() == pytest.approx(answered_s, abs=0.1)
        nursery.cancel_scope.cancel()
