"""What there is of a cluster, as etcd tells: nodes, who owns the broker, etcd's members. Changes nothing."""

from __future__ import annotations

from typing import TypedDict

from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.keys import BadKey, Keys, Node
from amqp_broker.cluster.ownership import owner_in
from amqp_broker.etcd import messages


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
    has_leader: bool
    errors: list[str]


class ClusterOverview(TypedDict):
    """A cluster."""

    cluster: str
    node: str  # who was asked
    owner: str | None  # the name of the node that owns the broker; None while nobody does
    epoch: int  # of that ownership; 0 for none
    nodes: list[NodeOverview]
    etcd: EtcdOverview


async def overview(
    etcd: EtcdClient, keys: Keys, configuration: ClusterConfiguration, shard: int, quota_bytes: int
) -> ClusterOverview:
    """Ask etcd what there is of the cluster now.

    Raises:
        EtcdUnavailable: no member answers.
        EtcdRefused: etcd will not.
    """
    nodes_key = keys.nodes.encode()
    nodes = await _range(etcd, messages.range_request(nodes_key, messages.prefix_end(nodes_key)))
    owners = (await _range(etcd, messages.range_request(keys.owner(shard).encode()))).entries
    owner_id = owner_in(owners[0].value) if owners else ""
    rows = [_node(entry.value, owner_id) for entry in nodes.entries]
    found = sorted((row for row in rows if row is not None), key=lambda row: row["name"])
    return ClusterOverview(
        cluster=configuration.cluster,
        node=configuration.node_name,
        owner=next((row["name"] for row in found if row["is_owner"]), None),
        epoch=owners[0].mod_revision if owners else 0,
        nodes=found,
        etcd=await _etcd_overview(etcd, quota_bytes),
    )


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
    return EtcdOverview(
        address=str(etcd.present),
        version=status.version,
        database_bytes=status.database_bytes,
        database_used_bytes=status.database_used_bytes,
        quota_bytes=quota_bytes,
        has_leader=status.leader != 0,
        errors=status.errors,
    )
