"""How long a node may speak for its shards: two thirds of its lease, from before each renewal was asked for."""

from __future__ import annotations

from typing import cast

import pytest
import trio

from amqp_broker.cluster import lease as lease_module
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.lease import Lease
from amqp_broker.cluster.members import EtcdUnavailable
from amqp_broker.etcd import protobuf as wire
from tests.support.served import on_a_jumping_clock

TTL_S = 3


class LateEtcd:
    """Grants and renews leases, each answer some time after it was asked."""

    delay_s = 0.5
    is_silent = False
    left_s = TTL_S

    async def call(self, path: str, request: bytes) -> bytes:
        await trio.sleep(self.delay_s)
        if self.is_silent:
            raise EtcdUnavailable("it is silent")
        return wire.integer(2, 7) + wire.integer(3, self.left_s)


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> LateEtcd:
    monkeypatch.setattr(lease_module, "now_s", trio.current_time)
    return LateEtcd()


@on_a_jumping_clock
async def test_it_is_counted_from_before_etcd_was_asked(etcd: LateEtcd) -> None:
    lease = Lease(cast(EtcdClient, etcd), TTL_S)
    asked_s = trio.current_time()
    assert not lease.may_speak
    await lease.grant()
    await trio.sleep_until(asked_s + 1.9)
    assert lease.may_speak
    await trio.sleep_until(asked_s + 2.1)
    assert not lease.may_speak


@on_a_jumping_clock
async def test_it_goes_on_while_etcd_answers_and_after_it_was_silent(etcd: LateEtcd) -> None:
    lease = Lease(cast(EtcdClient, etcd), TTL_S)
    await lease.grant()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease.keep_alive)
        for _ in range(12):
            await trio.sleep(0.3)
            assert lease.may_speak
        etcd.is_silent = True
        await trio.sleep(2.1)
        assert not lease.may_speak
        assert not lease.is_lost.is_set()  # etcd may count from later
        etcd.is_silent = False
        await trio.sleep(1.1)
        assert lease.may_speak
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_silent", [True, False])
@on_a_jumping_clock
async def test_it_ends_with_the_lease(etcd: LateEtcd, is_silent: bool) -> None:
    lease = Lease(cast(EtcdClient, etcd), TTL_S)
    await lease.grant()
    etcd.is_silent, etcd.left_s = is_silent, 0
    began_s = trio.current_time()
    with trio.fail_after(60):
        await lease.keep_alive()
    assert (lease.number, lease.is_lost.is_set()) == (0, True)
    assert trio.current_time() - began_s > (TTL_S if is_silent else 0)


@on_a_jumping_clock
async def test_a_loop_that_hangs_has_let_it_pass(etcd: LateEtcd, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the first thing that is asked when the loop goes on: no renewal has come before."""
    hung_s = 0.0
    monkeypatch.setattr(lease_module, "now_s", lambda: trio.current_time() + hung_s)
    lease = Lease(cast(EtcdClient, etcd), TTL_S)
    await lease.grant()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lease.keep_alive)
        await trio.sleep(5)
        assert lease.may_speak
        hung_s = 2.1
        assert not lease.may_speak
        nursery.cancel_scope.cancel()
