"""The overview of a cluster, as etcd tells: nodes, who owns the broker, how much it has, etcd. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Final, TypedDict

import trio

from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import ROOT_SHARD, BadKey, Keys, Node
from amqp_broker.cluster.known import BACKLOG_BYTES_OF
from amqp_broker.cluster.members import Address, EtcdRefused, EtcdUnavailable
from amqp_broker.cluster.ownership import owner_in
from amqp_broker.cluster.takeovers import Takeover, last_takeovers
from amqp_broker.cluster.upkeep import PUBLISHERS_WAIT_SHARE
from amqp_broker.etcd import messages

MEMBER_TIMEOUT_S: Final = 1.0
NO_SPACE: Final = "alarm:NOSPACE"  # among what etcd says is wrong


class NodeOverview(TypedDict):
    """One node."""

    name: str
    link: str  # where the other nodes reach it
    version: str
    started_s: int  # seconds since 1970
    is_owner: bool


class EtcdOverview(TypedDict):
    """The member of etcd that this node asks."""

    address: str
    version: str
    database_bytes: int  # on its disk
    database_used_bytes: int  # of them in use: what counts against the quota until etcd is defragmented is the former
    quota_bytes: int  # as the setting etcd_quota_bytes has it
    publishers_wait: bool  # because so much of it is used, or etcd says that it is full
    has_leader: bool
    errors: list[str]
    members: list[MemberOverview]  # all that the nodes are told of


class MemberOverview(TypedDict):
    """One member of etcd, as this node reaches it."""

    address: str
    failure: str | None  # why it cannot be counted on; None where it answers and has a leader


class TakeoverOverview(TypedDict):
    """The takeover by which a shard came to its owner, or to the last one where there is none."""

    node: str
    from_node: str | None  # who owned it before, where that is known and there was somebody
    at_s: int  # when it served, in seconds since 1970
    seconds: float | None  # nobody owned it before that, as far as it knows


class ShardOverview(TypedDict):
    """One shard of several."""

    number: int
    owner: str | None  # the name of the node
    epoch: int
    backlog_bytes: int | None
    last_takeover: TakeoverOverview | None
    virtual_hosts: list[str]


class ClusterOverview(TypedDict):
    """A cluster."""

    cluster: str
    node: str  # who was asked
    owner: str | None  # the name of the node that owns the broker; None while nobody does
    epoch: int  # of that ownership; 0 for none
    backlog_bytes: int | None  # of all shards: what is live in etcd; None while a shard has no owner that has told it
    last_takeover: TakeoverOverview | None  # None where it is not known, as after one by an earlier release
    nodes: list[NodeOverview]
    shards: list[ShardOverview]  # empty where there is one
    etcd: EtcdOverview


async def overview(
    etcd: EtcdClient,
    keys: Keys,
    configuration: ClusterConfiguration,
    quota_bytes: int,
    places: Mapping[str, int] = MappingProxyType({}),
    backlogs: Mapping[int, int] = MappingProxyType({}),
) -> ClusterOverview:
    """Ask etcd what there is of the cluster now.

    Args:
        places: the shards of virtual hosts, where there are several.
        backlogs: what is live of the shards that this node owns; others tell that of theirs in their keys, in bytes.

    Raises:
        EtcdUnavailable: no member answers.
        EtcdRefused: etcd will not.
    """
    nodes = await _nodes(etcd, keys)
    takeovers = await last_takeovers(etcd, keys)
    owners = {number: await _owner(etcd, keys, number) for number in range(configuration.shards)}
    shards = [
        _shard(number, nodes.get(owner_id), epoch, backlogs.get(number), _of_owner(takeovers.get(number), owner_id))
        for number, (owner_id, epoch) in owners.items()
    ]
    for shard in shards:
        shard["virtual_hosts"] = sorted(name for name, number in places.items() if number == shard["number"])
    root, sizes_bytes = shards[ROOT_SHARD], [shard["backlog_bytes"] for shard in shards]
    return ClusterOverview(
        cluster=configuration.cluster,
        node=configuration.node_name,
        owner=root["owner"],
        epoch=root["epoch"],
        backlog_bytes=None if None in sizes_bytes else sum(filter(None, sizes_bytes)),
        last_takeover=root["last_takeover"],
        nodes=[_node(node, owners[ROOT_SHARD][0]) for node in sorted(nodes.values(), key=lambda node: node.name)],
        shards=shards if configuration.shards > 1 else [],
        etcd=await _etcd_overview(etcd, quota_bytes, configuration.addresses),
    )


async def _nodes(etcd: EtcdClient, keys: Keys) -> dict[str, Node]:
    """Those that are there, by their identifiers; whom another release has written so that it cannot be read is not."""
    first, nodes = keys.nodes.encode(), dict[str, Node]()
    for entry in (await _range(etcd, messages.range_request(first, messages.prefix_end(first)))).entries:
        with suppress(BadKey):
            node = Node.decode(entry.value)
            nodes[node.node_id] = node
    return nodes


async def _owner(etcd: EtcdClient, keys: Keys, shard: int) -> tuple[str, int]:
    """The identifier of the node that owns a shard, and the epoch; nothing where nobody does."""
    owners = (await _range(etcd, messages.range_request(keys.owner(shard).encode()))).entries
    return (owner_in(owners[0].value), owners[0].mod_revision) if owners else ("", 0)


async def _range(etcd: EtcdClient, request: bytes) -> messages.RangeAnswer:
    return messages.RangeAnswer.read(await etcd.call(messages.RANGE, request))


def _of_owner(takeover: Takeover | None, owner_id: str) -> Takeover | None:
    """A takeover, unless there was another one since: a node of an earlier release does not write it down."""
    return takeover if takeover is not None and owner_id in ("", takeover.node_id) else None


def _shard(
    number: int, owner: Node | None, epoch: int, backlog_bytes: int | None, takeover: Takeover | None
) -> ShardOverview:
    """One shard, without its virtual hosts."""
    if backlog_bytes is None and owner is not None:
        backlog_bytes = owner.uses.get(f"{BACKLOG_BYTES_OF}{number}")
    return ShardOverview(
        number=number,
        owner=owner.name if owner is not None else None,
        epoch=epoch,
        backlog_bytes=backlog_bytes,
        last_takeover=None
        if takeover is None
        else TakeoverOverview(
            node=takeover.node,
            from_node=takeover.from_node or None,
            at_s=takeover.at_s,
            seconds=takeover.seconds,
        ),
        virtual_hosts=[],
    )


def _node(node: Node, owner_id: str) -> NodeOverview:
    return NodeOverview(
        name=node.name,
        link=f"{node.link_host}:{node.link_port}",
        version=node.version,
        started_s=node.started_s,
        is_owner=node.node_id == owner_id,
    )


async def _etcd_overview(etcd: EtcdClient, quota_bytes: int, addresses: Sequence[Address]) -> EtcdOverview:
    status = messages.StatusAnswer.read(await etcd.call(messages.STATUS, b""))
    is_full = any(NO_SPACE in error for error in status.errors)
    return EtcdOverview(
        address=str(etcd.present),
        version=status.version,
        database_bytes=status.database_bytes,
        database_used_bytes=status.database_used_bytes,
        quota_bytes=quota_bytes,
        publishers_wait=status.database_used_bytes > quota_bytes * PUBLISHERS_WAIT_SHARE or is_full,
        has_leader=status.leader != 0,
        errors=status.errors,
        members=await member_overviews(addresses),
    )


async def member_overviews(addresses: Sequence[Address]) -> list[MemberOverview]:
    """Ask each member of etcd at once how it is.

    Args:
        addresses: of the members.
    """
    members = [MemberOverview(address=str(address), failure=None) for address in addresses]

    async def ask(address: Address, member: MemberOverview, connections: trio.Nursery) -> None:
        try:
            answer = await EtcdClient([address], MEMBER_TIMEOUT_S, connections).call_once(messages.STATUS, b"")
        except (EtcdUnavailable, EtcdRefused) as error:
            member["failure"] = str(error).removeprefix(f"{address}: ")
        else:
            if not messages.StatusAnswer.read(answer).leader:
                member["failure"] = "it has no leader"

    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as asking:
            for address, member in zip(addresses, members, strict=True):
                asking.start_soon(ask, address, member, connections)
        connections.cancel_scope.cancel()
    return members
