"""The overview of a cluster, as etcd tells: nodes, who owns the broker, etcd's members. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypedDict

from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import ROOT_SHARD, BadKey, Keys, Node
from amqp_broker.cluster.ownership import owner_in
from amqp_broker.cluster.upkeep import PUBLISHERS_WAIT_SHARE
from amqp_broker.etcd import messages
from amqp_broker.etcd.messages import KeyValue

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


class ShardOverview(TypedDict):
    """One shard of several."""

    number: int
    owner: str | None  # the name of the node
    epoch: int
    virtual_hosts: list[str]


class ClusterOverview(TypedDict):
    """A cluster."""

    cluster: str
    node: str  # who was asked
    owner: str | None  # the name of the node that owns the broker; None while nobody does
    epoch: int  # of that ownership; 0 for none
    nodes: list[NodeOverview]
    shards: list[ShardOverview]  # empty where there is one
    etcd: EtcdOverview


async def overview(
    etcd: EtcdClient,
    keys: Keys,
    configuration: ClusterConfiguration,
    quota_bytes: int,
    places: Mapping[str, int] = MappingProxyType({}),
) -> ClusterOverview:
    """Ask etcd what there is of the cluster now.

    Args:
        places: the shards of virtual hosts, where there are several.

    Raises:
        EtcdUnavailable: no member answers.
        EtcdRefused: etcd will not.
    """
    nodes_key = keys.nodes.encode()
    nodes = await _range(etcd, messages.range_request(nodes_key, messages.prefix_end(nodes_key)))
    owners = {number: await _owner(etcd, keys, number) for number in range(configuration.shards)}
    owner_id, epoch = owners[ROOT_SHARD]
    rows = [_node(entry.value, owner_id) for entry in nodes.entries]
    found = sorted((row for row in rows if row is not None), key=lambda row: row["name"])
    return ClusterOverview(
        cluster=configuration.cluster,
        node=configuration.node_name,
        owner=next((row["name"] for row in found if row["is_owner"]), None),
        epoch=epoch,
        nodes=found,
        shards=[_shard(nodes.entries, number, *owner, places) for number, owner in owners.items()]
        if configuration.shards > 1
        else [],
        etcd=await _etcd_overview(etcd, quota_bytes),
    )


async def _owner(etcd: EtcdClient, keys: Keys, shard: int) -> tuple[str, int]:
    """The identifier of the node that owns a shard, and the epoch; nothing where nobody does."""
    owners = (await _range(etcd, messages.range_request(keys.owner(shard).encode()))).entries
    return (owner_in(owners[0].value), owners[0].mod_revision) if owners else ("", 0)


def _shard(
    nodes: Sequence[KeyValue], number: int, owner_id: str, epoch: int, places: Mapping[str, int]
) -> ShardOverview:
    rows = [_node(entry.value, owner_id) for entry in nodes]
    owner = next((row["name"] for row in rows if row is not None and row["is_owner"]), None)
    hosts = sorted(name for name, shard in places.items() if shard == number)
    return ShardOverview(number=number, owner=owner, epoch=epoch, virtual_hosts=hosts)


async def _range(etcd: EtcdClient, request: bytes) -> messages.RangeAnswer:
    return messages.RangeAnswer.read(await etcd.call(messages.RANGE, request))


def _node(value: bytes, owner_id: str) -> NodeOverview | None:
    try:
        node = Node.decode(value)
    except BadKey:
        return None
    return NodeOverview(
        name=node.name,
        link=f"{node.link_host}:{node.link_port}",
        version=node.version,
        started_s=node.started_s,
        is_owner=node.node_id == owner_id,
    )


async def _etcd_overview(etcd: EtcdClient, quota_bytes: int) -> EtcdOverview:
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
    )
