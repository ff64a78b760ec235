"""The directory of a cluster with several shards, and brokers that agree with it: in memory."""

from __future__ import annotations

import pytest

from amqp_broker.access.passwords import SHA256
from amqp_broker.access.users import User
from amqp_broker.broker.broker import Broker
from amqp_broker.server.sharding.directory import BadDirectory, Directory, agree, described
from tests.support.memory_broker import MemoryBroker

SHARDS = 3


def root_with(*hosts: str) -> MemoryBroker:
    """The root's broker, with virtual hosts beside the first one."""
    broker = MemoryBroker()
    for host in hosts:
        broker.administration.add_virtual_host(host)
    return broker


def directory_of(root: Broker, before: Directory | None = None) -> Directory:
    """What the root's owner writes, as all others read it."""
    return Directory.decode((before or Directory()).followed_by(root, SHARDS).encode())


def agree_with(broker: Broker, directory: Directory, shard: int | None) -> None:
    broker.handle(lambda: agree(broker, directory, shard))


def test_virtual_hosts_are_spread_and_stay_where_they_are() -> None:
    root = root_with("a", "b", "c")
    first = directory_of(root)
    assert {name: place.shard for name, place in first.places.items()} == {"/": 0, "a": 1, "b": 2, "c": 0}
    root.administration.delete_virtual_host("a")
    root.administration.add_virtual_host("d")
    second = directory_of(root, first)
    assert {name: place.shard for name, place in second.places.items()} == {"/": 0, "b": 2, "c": 0, "d": 1}
    assert second.number == first.number + 1
    assert second.followed_by(root, SHARDS) is second, "nothing has changed"
    assert second.shard_of("a") == 0


def test_a_shard_has_its_own_virtual_hosts_and_all_users() -> None:
    root = root_with("a", "b")
    root.administration.add_user("ada", "secret", ("management",))
    root.administration.change_password("ada", "secret", algorithm=SHA256)  # verified at once, without a thread
    for host in "ab":
        root.administration.set_permission("ada", host, ".*", "^w", "")
        root.administration.set_topic_permission("ada", host, "amq.topic", "^t", ".*")
    root.administration.delete_user("guest")
    broker = MemoryBroker()
    agree_with(broker, directory_of(root), 1)
    assert list(broker.virtual_hosts) == ["a"]
    (ada,) = list(broker.users)
    assert isinstance(broker.users.authenticate("ada", b"secret"), User)
    assert list(ada.permissions) == ["a"]
    assert described(broker)["topic_permissions"].keys() == {("ada", "a", "amq.topic")}
    everything = MemoryBroker()
    agree_with(everything, directory_of(root), None)
    assert described(everything) == described(root)


def test_what_the_root_takes_away_is_gone() -> None:
    root = root_with("a")
    root.administration.set_permission("guest", "a", ".*", ".*", ".*")
    root.administration.set_topic_permission("guest", "a", "amq.topic", "^t", ".*")
    root.administration.parameters.set_global_parameter("colour", "blue")
    root.administration.set_user_limits("guest", connections_max=3)
    first = directory_of(root)
    broker = MemoryBroker()
    agree_with(broker, first, 1)
    assert broker.users.get("guest").limits.connections_max == 3  # type: ignore[union-attr]
    root.administration.clear_permission("guest", "a")
    root.administration.clear_topic_permission("guest", "a")
    root.administration.parameters.clear_global_parameter("colour")
    root.administration.set_user_limits("guest", connections_max=None)
    agree_with(broker, directory_of(root, first), 1)
    found = described(broker)
    assert not found["permissions"]
    assert not found["topic_permissions"]
    assert ("colour",) not in found["global_parameters"]
    assert broker.users.get("guest").limits.connections_max is None  # type: ignore[union-attr]


def test_a_virtual_host_that_was_made_again_is_empty_even_for_who_has_missed_that() -> None:
    root = root_with("a")
    first = directory_of(root)
    broker = MemoryBroker()
    agree_with(broker, first, 1)
    host = broker.virtual_hosts["a"]
    host.add_queue("q", durable=True, auto_delete=False, owner=None, table={})
    agree_with(broker, first, 1)
    assert broker.virtual_hosts["a"] is host, "nothing has changed"
    root.administration.delete_virtual_host("a")
    gone = directory_of(root, first)
    root.administration.add_virtual_host("a")
    agree_with(broker, directory_of(root, gone), 1)
    assert broker.virtual_hosts["a"] is not host
    assert not broker.virtual_hosts["a"].queues


@pytest.mark.parametrize("is_made_again", [False, True])
def test_a_virtual_host_goes_although_the_shard_has_it_protected(is_made_again: bool) -> None:
    root, broker = root_with("a"), MemoryBroker()
    root.administration.set_protection("a", is_on=True)
    first = directory_of(root)
    agree_with(broker, first, 1)
    host = broker.virtual_hosts["a"]
    assert host.metadata.is_protected
    root.administration.set_protection("a", is_on=False)
    root.administration.delete_virtual_host("a")
    directory = directory_of(root, first)
    if is_made_again:
        root.administration.add_virtual_host("a")
        directory = directory_of(root, directory)
    agree_with(broker, directory, 1)
    assert broker.virtual_hosts.get("a") is not host
    assert ("a" in broker.virtual_hosts) is is_made_again


def test_what_is_no_directory_is_not_read() -> None:
    with pytest.raises(BadDirectory, match="use the release that wrote it"):
        Directory.decode(b"{}")
