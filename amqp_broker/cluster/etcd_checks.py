"""Checks that an etcd can be used, and that what stands in it is of this release."""

from __future__ import annotations

from typing import Final

from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.etcd_failures import login_advice
from amqp_broker.cluster.keys import FORMAT, FORMAT_OF_SEVERAL_SHARDS, Keys
from amqp_broker.cluster.members import EtcdRefused
from amqp_broker.etcd import messages
from amqp_broker.etcd.messages import Target

OLDEST_ETCD: Final = (3, 4, 22)
BROKEN_ETCD: Final = ((3, 5, 0), (3, 5, 6))  # from, and the first that is right again


class CannotJoin(Exception):
    """The failure of this node to be part of the cluster; the text says why, and the way out."""


async def check_etcd(etcd: EtcdClient, keys: Keys, shard_count: int) -> None:
    """See that etcd answers, is none that loses data, and holds a cluster of this release's format, or none yet.

    Args:
        shard_count: how many shards the cluster is to have.

    Raises:
        CannotJoin: it cannot be used.
        EtcdUnavailable: it does not answer.
        EtcdRefused: it is full.
    """
    try:
        status = messages.StatusAnswer.read(await etcd.call(messages.STATUS, b""))
        _check_version(status.version)
        key, count_key = keys.format.encode(), keys.shard_count.encode()
        absent = messages.compare(key, Target.CREATE_REVISION, 0)
        wanted = FORMAT if shard_count == 1 else FORMAT_OF_SEVERAL_SHARDS
        puts = [messages.put(key, str(wanted).encode())]
        if shard_count > 1:
            puts.append(messages.put(count_key, str(shard_count).encode()))
        request = messages.transaction_request([absent], puts, [messages.get(key), messages.get(count_key)])
        answer = messages.TransactionAnswer.read(await etcd.call(messages.TRANSACTION, request))
    except EtcdRefused as error:
        if error.is_out_of_space:
            raise
        raise CannotJoin(f"etcd refuses this node: {login_advice(error)}") from error
    if not answer.succeeded:
        formats, counts = (found.entries for found in answer.ranges[:2])
        _check_format(formats[0].value.decode("utf-8", "replace"))
        found = counts[0].value.decode("utf-8", "replace") if counts else "1"
        if found != str(shard_count):
            raise CannotJoin(
                f"the cluster has {found} shard{'s' if counts else ''} for good, cluster_shards says {shard_count}: "
                f"set it to {found}, or name another cluster"
            )


def _check_format(found: str) -> None:
    if found not in (str(FORMAT), str(FORMAT_OF_SEVERAL_SHARDS)):
        known = f"{FORMAT} and {FORMAT_OF_SEVERAL_SHARDS}"
        raise CannotJoin(f"the cluster has format {found}, this release knows {known}: use a newer release")


def _check_version(version: str) -> None:
    """Refuse an etcd that is known to lose data, or too old."""
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:3] if part.isdecimal())
    if numbers < OLDEST_ETCD or BROKEN_ETCD[0] <= numbers < BROKEN_ETCD[1]:
        raise CannotJoin(
            f"etcd {version} cannot be used: 3.4.22 or newer is needed, and not 3.5.0 to 3.5.5, which may lose data"
        )
