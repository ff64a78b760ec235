"""The journal of a cluster as a folder, and back; and a copy of all that etcd has.

An import happens while the importer owns the shard, and its files get their names all at once at the end: it is there
as a whole, or not at all. An export reads everything at one revision, so it is what a crash at that moment would have
left, which a broker starts from.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import trio

from amqp_broker.cluster.configuration import ClusterConfiguration
from amqp_broker.cluster.etcd_checks import check_etcd
from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.etcd_failures import login_advice
from amqp_broker.cluster.keys import Keys
from amqp_broker.cluster.lease import Lease
from amqp_broker.cluster.members import UNKNOWN_STATUSES, EtcdRefused, EtcdUnavailable, Members, blocking_members
from amqp_broker.cluster.ownership import Ownership
from amqp_broker.cluster.store import EtcdStore, OwnershipLost, StoreAtOneRevision
from amqp_broker.etcd import messages
from amqp_broker.etcd.calls import OK, Answer, Ended
from amqp_broker.journal.files import FileSystem
from amqp_broker.journal.kept_copies import NAMES, PIECES
from amqp_broker.journal.kept_files import TRANSACTION_CHANGES_MAX, Delete, KeptFiles, Transaction
from amqp_broker.journal.real_files import RealFiles

COPY_BYTES: Final = 1_048_576
CALL_TIMEOUT_S: Final = 5.0
DIGEST_BYTES: Final = 32  # of SHA-256, at the end of etcd's snapshots
IMPORTER: Final = "importer"
LOOK_S: Final = 0.5  # how often it is asked whether etcd is full
OUT_OF_RANGE: Final = 11  # of gRPC
OF_LOGIN: Final = "auth: "  # what etcd says of a user where it gives no status of its own, as of a snapshot
SEVERAL_JOURNALS: Final = (
    "a journal for each shard, and a broker alone has one: 'cluster backup' has all of them, for etcdctl to restore; "
    "to move in or out, export and import definitions over HTTP, and have shovels carry the messages"
)

Progress = Callable[[int, int], None]  # bytes done, bytes in all


class CannotTransfer(Exception):
    """The failure of a transfer: nothing was changed; the text says why, and the way out."""


def _explained(error: EtcdUnavailable | EtcdRefused) -> str:
    """Why etcd does not do it, and the way out."""
    if isinstance(error, EtcdUnavailable):
        return f"{error}: is etcd running, and is the setting cluster right?"
    if error.status == OUT_OF_RANGE:
        return "etcd has forgotten the moment that is read, as much is written meanwhile: try again, or stop the nodes"
    if error.is_out_of_space:
        return f"{error}: give it a larger quota, and clear its alarm"
    return f"etcd refuses this: {login_advice(error)}"


class _AtOneRevision(StoreAtOneRevision):
    """The store as it stood when it was first asked; cannot be written."""

    def __init__(self, members: Members, prefix: str) -> None:
        super().__init__(self._read, prefix)
        self._members = members

    def _read(self, request: bytes) -> bytes:
        try:
            return self._members.call(messages.RANGE, request)
        except (EtcdUnavailable, EtcdRefused) as error:
            raise CannotTransfer(_explained(error)) from error

    def commit(self, transactions: Sequence[Transaction]) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def check_space(self, size: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def export_journal(configuration: ClusterConfiguration, shard: int, target: FileSystem, progress: Progress) -> int:
    """Copy a cluster's journal into a folder; nodes may run meanwhile.

    Args:
        target: an empty folder.
        progress: called now and then.

    Returns:
        How many bytes it has.

    Raises:
        CannotTransfer: etcd does not answer, or has no such cluster.
        OSError: a file cannot be written.
    """
    keys = Keys(configuration.cluster)
    with (
        closing(blocking_members(configuration.addresses, CALL_TIMEOUT_S)) as members,
        tempfile.TemporaryDirectory(prefix="amqp-broker-export-") as folder,
    ):
        if any(_AtOneRevision(members, "").entries(keys.shard_count)):
            raise CannotTransfer(f"the cluster '{configuration.cluster}' has {SEVERAL_JOURNALS}")
        source = KeptFiles(_AtOneRevision(members, keys.shard(shard)), RealFiles(Path(folder)), "etcd")
        source.fetch()
        if not source.names():
            raise CannotTransfer(f"etcd has no journal of a cluster '{configuration.cluster}'")
        return _copy(source, target, progress)


def _copy(source: FileSystem, target: FileSystem, progress: Progress) -> int:
    sizes = {name: source.open(name).size() for name in source.names()}
    done_bytes, all_bytes = 0, sum(sizes.values())
    for name, size in sizes.items():
        read, written = source.open(name), target.create(name, 0)
        for offset in range(0, size, COPY_BYTES):
            written.write_at(offset, read.read_at(offset, min(COPY_BYTES, size - offset)))
            done_bytes += min(COPY_BYTES, size - offset)
            progress(done_bytes, all_bytes)
        written.sync()
    target.sync_folder()
    return all_bytes


async def import_journal(
    configuration: ClusterConfiguration, shard: int, source: FileSystem, progress: Progress
) -> int:
    """Make the journal of a broker that ran alone that of a cluster, which must have none yet and no running node.

    Args:
        source: the files, used by nobody.
        progress: called now and then, in a thread.

    Returns:
        How many bytes it has.

    Raises:
        CannotTransfer: the cluster has a journal or an owner, or etcd does not answer.
        OSError: it is not known whether all of it arrived; what did has no name, and the next owner removes it.
        KeyboardInterrupt: alone or in an exception group; likewise.
    """
    if configuration.shards > 1:
        raise CannotTransfer(f"with cluster_shards {configuration.shards} the cluster has {SEVERAL_JOURNALS}")
    if len(source.names()) > TRANSACTION_CHANGES_MAX:
        raise CannotTransfer(
            f"the journal has {len(source.names())} files, more than etcd can hold: let consumers empty queues first"
        )
    keys = Keys(configuration.cluster)
    async with trio.open_nursery() as nursery:
        etcd = EtcdClient(configuration.addresses, CALL_TIMEOUT_S, nursery)
        lease = Lease(etcd, configuration.lease_ttl_s)
        ownership = Ownership(etcd, keys, shard, IMPORTER)
        try:
            await check_etcd(etcd, keys, configuration.shards)
            await _refuse_what_is_there(etcd, keys, shard)
            await lease.grant()
            epoch = await ownership.campaign(lease.number)
            if epoch is None:
                raise CannotTransfer("a node of the cluster runs: stop all of them first")
            with closing(blocking_members(configuration.addresses, CALL_TIMEOUT_S)) as members:
                store = EtcdStore(members, keys.shard(shard), keys.owner(shard), epoch)
                nursery.start_soon(_give_up_with, lease, store)
                nursery.start_soon(_give_up_when_full, store)
                try:
                    size_bytes = await trio.to_thread.run_sync(_copy_into, store, source, progress)
                except KeyboardInterrupt:
                    await lease.revoke()  # so that nobody has to wait for its end who begins again
                    raise
            await ownership.disown(ownership.claim)
            await lease.revoke()
        except (EtcdUnavailable, EtcdRefused) as error:
            raise CannotTransfer(_explained(error)) from error
        except OwnershipLost as error:
            if store.is_out_of_space:
                remove = f"etcdctl del --prefix {keys.prefix}"
                raise CannotTransfer(
                    f"etcd is full: give it a larger quota, remove what was copied ({remove}), and clear its alarm"
                ) from error
            raise CannotTransfer("etcd has not heard of this import for as long as a lease lives: try again") from error
        nursery.cancel_scope.cancel()
    return size_bytes


async def _give_up_with(lease: Lease, store: EtcdStore) -> None:
    """Renew a lease; when it is lost, or nobody waits any more, the copying ends, which no node would take up."""
    try:
        await lease.keep_alive()
    finally:
        store.give_up()


async def _give_up_when_full(store: EtcdStore) -> None:
    """Wait for no space: there is no node that would make some."""
    while not store.is_out_of_space:  # noqa: ASYNC110  # it is told in another thread
        await trio.sleep(LOOK_S)
    store.give_up()


async def _refuse_what_is_there(etcd: EtcdClient, keys: Keys, shard: int) -> None:
    names = f"{keys.shard(shard)}{NAMES}".encode()
    request = messages.range_request(names, messages.prefix_end(names), limit=1)
    if messages.RangeAnswer.read(await etcd.call(messages.RANGE, request)).entries:
        raise CannotTransfer("the cluster has a journal already: choose another name for it in the setting cluster")


def _copy_into(store: EtcdStore, source: FileSystem, progress: Progress) -> int:
    """In a thread."""

    def go_on(done_bytes: int, all_bytes: int) -> None:
        trio.from_thread.check_cancelled()  # by Ctrl-C
        progress(done_bytes, all_bytes)

    store.open()
    store.commit([[Delete(PIECES, messages.prefix_end(PIECES.encode()).decode())]])  # of an import that was stopped
    with tempfile.TemporaryDirectory(prefix="amqp-broker-import-") as folder:
        return _copy(source, KeptFiles(store, RealFiles(Path(folder)), "etcd"), go_on)


async def back_up(configuration: ClusterConfiguration, path: Path, progress: Progress) -> int:
    """Write a snapshot of all that etcd has into a file, which ``etcdctl snapshot restore`` reads.

    Returns:
        How many bytes it has.

    Raises:
        CannotTransfer: etcd does not answer, or the snapshot did not arrive whole; the file is not there then.
        OSError: the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            async with trio.open_nursery() as nursery:
                etcd = EtcdClient(configuration.addresses, CALL_TIMEOUT_S, nursery)
                try:
                    await etcd.call(messages.STATUS, b"")  # to find a member that answers, or why none does
                    size_bytes = await _receive_snapshot(etcd, file.write, progress)
                except (EtcdUnavailable, EtcdRefused) as error:
                    raise CannotTransfer(_explained(error)) from error
                nursery.cancel_scope.cancel()
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return size_bytes


async def _receive_snapshot(etcd: EtcdClient, write: Callable[[bytes], object], progress: Progress) -> int:
    digest, tail, size_bytes = hashlib.sha256(), b"", 0
    ended: Ended | None = None
    async with etcd.stream(messages.SNAPSHOT, b"") as answers:
        async for first in answers:
            # All that wait are taken: more come in each turn of the event loop than the one that it would hand out.
            waiting = [answers.receive_nowait() for _ in range(answers.statistics().current_buffer_used)]
            for answer in (first, *waiting):
                if not isinstance(answer, Answer):
                    ended = answer
                    break
                part = messages.SnapshotPart.read(answer.message)
                write(part.data)
                size_bytes += len(part.data)
                progress(size_bytes, size_bytes + part.remaining_bytes)
                digest.update((tail + part.data)[:-DIGEST_BYTES])
                tail = (tail + part.data)[-DIGEST_BYTES:]
    if ended is not None and (ended.status not in (OK, *UNKNOWN_STATUSES) or ended.explanation.startswith(OF_LOGIN)):
        raise EtcdRefused(ended.status, ended.explanation)
    if ended is None or ended.status != OK or digest.digest() != tail:
        raise CannotTransfer("the snapshot did not arrive whole: try again")
    return size_bytes
