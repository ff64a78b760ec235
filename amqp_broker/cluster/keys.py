"""The keys of a cluster in etcd, and what stands in them.

amqp-broker/CLUSTER/format           the format's number, written once
amqp-broker/CLUSTER/shards           how many there are, likewise; not where there is one
amqp-broker/CLUSTER/directory        users and virtual hosts (``directory.py``); not where there is one shard
amqp-broker/CLUSTER/node/ID          a node: JSON, goes with the node's lease
amqp-broker/CLUSTER/takeover/N       who took the shard over last (``takeovers.py``)
amqp-broker/CLUSTER/shard/N/owner    who owns the shard: goes with the lease; its revision is the epoch
amqp-broker/CLUSTER/shard/N/last     who owned it last
amqp-broker/CLUSTER/shard/N/f/, d/   the journal's files (``journal/kept_files.py``)
amqp-broker/CLUSTER/shard/N/lane/    see ``store.py``
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Final

ROOT: Final = "amqp-broker/"
FORMAT: Final = 1
FORMAT_OF_SEVERAL_SHARDS: Final = 2  # a release that knows of one only must not take part
ROOT_SHARD: Final = 0


class BadKey(Exception):
    """A value in etcd that cannot be read: somebody else writes there, or a newer release does."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the others see it."""

    node_id: str
    name: str
    link_host: str
    link_port: int
    version: str
    started_s: int  # seconds since 1970
    uses: dict[str, int] = field(default_factory=dict)  # of its machine (``server/other_nodes.py``)
    cluster_name: str = ""  # that administrators gave the broker, as far as the node has owned it

    def encode(self) -> bytes:
        """As it stands in its key."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, value: bytes) -> Node:
        """Read it; what a newer release has added is passed over.

        Raises:
            BadKey: it is none.
        """
        try:
            found = json.loads(value)
            return cls(
                str(found["node_id"]),
                str(found["name"]),
                str(found["link_host"]),
                int(found["link_port"]),
                str(found["version"]),
                int(found["started_s"]),
                {str(name): int(value) for name, value in found.get("uses", {}).items()},
                str(found.get("cluster_name", "")),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadKey(f"this is no node of a cluster: {value[:80]!r}") from error


def namesake(earlier: Iterable[bytes], name: str, link: tuple[str, int]) -> Node | None:
    """Another node that has a node's name; one with its link address is what it was before it was started again.

    Args:
        earlier: what stands in the keys of the nodes that were there before it.
        name: the node's.
        link: where it listens for others.
    """
    for value in earlier:
        with suppress(BadKey):
            found = Node.decode(value)
            if found.name == name and (found.link_host, found.link_port) != link:
                return found
    return None


class Keys:
    """The names of one cluster's keys.

    Args:
        cluster: its name.
    """

    def __init__(self, cluster: str) -> None:
        self.prefix = f"{ROOT}{cluster}/"
        self.format = f"{self.prefix}format"
        self.shard_count = f"{self.prefix}shards"
        self.directory = f"{self.prefix}directory"
        self.nodes = f"{self.prefix}node/"
        self.shards = f"{self.prefix}shard/"
        self.takeovers = f"{self.prefix}takeover/"

    def node(self, node_id: str) -> str:
        """The key of a node."""
        return self.nodes + node_id

    def shard(self, number: int) -> str:
        """What the keys of a shard begin with."""
        return f"{self.shards}{number}/"

    def owner(self, shard: int) -> str:
        """Who owns a shard."""
        return f"{self.shard(shard)}owner"

    def last_owner(self, shard: int) -> str:
        """Who owned it last."""
        return f"{self.shard(shard)}last"

    def takeover(self, shard: int) -> str:
        """Who took it over, when, and from whom; what begins as the shard's keys do, all nodes would follow."""
        return f"{self.takeovers}{shard}"
