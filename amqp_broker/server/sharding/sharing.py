"""The directory where all can read it: written by the root's owner, agreed with by the owners of all shards.

What an administrator has changed is answered when it stands there (``until_shared``); who serves a client has asked
what stands there after the client came (``current``, ``until_in_force``). So a client that was told of a user, a
permission or a virtual host finds it at every node; a node that cannot read the directory, or not make it true, serves
nobody. Where it stands is a ``Shelf``'s: etcd, or a file of one machine. What is in the directory is ``directory.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, Protocol

import trio

from amqp_broker.broker.observer import Happening, Kind, Onlooker, Subject
from amqp_broker.logs import log_event
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.server.changes import until_durable
from amqp_broker.server.sharding.directory import BadDirectory, CannotAgree, Directory, Place, agree
from amqp_broker.server.sharding.shards import ROOT

PAUSE_S: Final = 0.1
AGAIN_S: Final = 1.0  # when it could not be written
_KINDS: Final = (Kind.VIRTUAL_HOST, Kind.USER, Kind.PERMISSION, Kind.TOPIC_PERMISSION, Kind.PARAMETER)
_HAPPENINGS: Final = ("user.", "vhost.")
_LOGINS: Final = "user.authentication."


class DirectoryUnavailable(Exception):
    """The place where the directory is kept does not answer now."""


class Kept(NamedTuple):
    """The value that is kept, and a number that another value had not."""

    value: bytes
    revision: int


class Shelf(Protocol):
    """The place where the directory is kept."""

    async def follow(self, take: Callable[[bytes], None], tell: Callable[[], None]) -> None:
        """Hand on what stands there, and whatever takes its place, until cancelled.

        Args:
            tell: called after what has changed together was handed on.
        """
        ...

    async def read(self) -> Kept | None:
        """What stands there now; None where nothing does.

        Raises:
            DirectoryUnavailable: it is not known.
        """
        ...

    async def replace(self, value: bytes, revision: int, claim: bytes) -> int | None:
        """Write a value in place of the one with a revision (0 where there is none), while a claim to the root stands.

        Returns:
            The new revision; None where it was not written.

        Raises:
            DirectoryUnavailable: it is not known whether it was written.
        """
        ...

    async def announce(self) -> None:
        """Return when all others agree with what stands there, where that has to be asked for."""
        ...


class Watched(Protocol):
    """The state that is waited on for changes."""

    @property
    def changed(self) -> trio.Event:
        """Set at the next change, when another takes its place."""
        ...

    def tell(self) -> None:
        """Something has changed: whoever waits looks again."""
        ...


class _Changes(Onlooker):
    """Counts what changes of that which is in a directory."""

    def __init__(self) -> None:
        self.count = 0
        self.gone: set[str] = set()  # virtual hosts that were deleted, since somebody took these
        self.shared = 0  # of them, so many are in the directory
        self.moved = trio.Event()

    def declared(self, subject: Subject, by: str) -> None:
        """Count it."""
        if subject.kind in _KINDS:
            self._more()

    def deleted(self, subject: Subject, by: str) -> None:
        """Count it."""
        if subject.kind is Kind.VIRTUAL_HOST:
            self.gone.add(subject.name)
        if subject.kind in _KINDS:
            self._more()

    def happened(self, happening: Happening) -> None:
        """Count it."""
        if happening.name.startswith(_HAPPENINGS) and not happening.name.startswith(_LOGINS):
            self._more()

    def _more(self) -> None:
        self.count += 1
        self.tell()

    def tell(self) -> None:
        """Whoever waits looks again."""
        self.moved.set()
        self.moved = trio.Event()

    async def until_shared(self) -> None:
        """Return when all that has changed so far is in the directory."""
        count = self.count
        while self.shared < count:
            await self.moved.wait()


class Sharing:
    """The directory, as one node has it.

    Args:
        shelf: where it is kept.
        known: what the node knows; told when the directory has changed.
        shard_count: how many shards there are.
    """

    def __init__(self, shelf: Shelf, known: Watched, shard_count: int) -> None:
        self._shelf = shelf
        self._known = known
        self._shard_count = shard_count
        self.directory = Directory()
        self._has_user_limits = False  # it
        self._value = b""  # that was taken last
        self._is_readable = True  # that value
        self._has_failed = False  # to write, the last time
        self._read_revision = 0  # of it, when the root's owner has read it
        self._in_force: dict[int, int] = {}  # by shard that this node owns: the number of the directory
        self._reads_begun = self._reads_done = 0
        self._changes = _Changes()  # of the root, while this node owns it

    async def until_shared(self) -> None:
        """Return when all that administrators have changed here so far stands in the directory."""
        await self._changes.until_shared()

    async def follow(self) -> None:
        """Follow what stands there, until cancelled."""
        await self._shelf.follow(self._take, self._known.tell)

    def _take(self, value: bytes) -> None:
        if value == self._value:
            return
        self._value, self._is_readable = value, False
        try:
            found = Directory.decode(value)
            self._is_readable = True
        except BadDirectory as error:
            log_event(logging.ERROR, "directory not read", reason=str(error))
            self._known.tell()
            return
        if found.number > self.directory.number:
            self.directory = found
            self._has_user_limits = found.has_user_limits()
            self._known.tell()

    async def until_users_are_limited(self, are_limited: bool) -> None:
        """Return when any user has a limit, or when none has."""
        while self._has_user_limits != are_limited:
            await self._known.changed.wait()

    async def current(self) -> Directory:
        """As it stands at a moment after this was asked; as it is known where what keeps it does not answer.

        One question answers all who ask at the same time.

        Raises:
            CannotAgree: what stands there cannot be read.
        """
        wanted = self._reads_begun + 1
        while self._reads_done < wanted:
            changed = self._known.changed
            if self._reads_begun > self._reads_done:
                await changed.wait()
                continue
            self._reads_begun += 1
            try:
                with suppress(DirectoryUnavailable):
                    await self._read()
                self._reads_done += 1
            finally:
                self._reads_begun = self._reads_done  # who was cancelled has not read
                self._known.tell()
        self._check_readable()
        return self.directory

    def _check_readable(self) -> None:
        if not self._is_readable:
            raise CannotAgree("the directory of the cluster cannot be read: this node needs the release that wrote it")

    async def _read(self) -> None:
        found = await self._shelf.read()
        if found is not None:
            self._take(found.value)
            self._read_revision = max(self._read_revision, found.revision)

    async def until_in_force(self, shard: int) -> bool:
        """Wait until a shard that this node owns agrees with the directory as it is now.

        Returns:
            False if the node owns it no more.

        Raises:
            CannotAgree: what stands in the directory cannot be read.
        """
        if shard == ROOT:
            return True
        number = (await self.current()).number
        while (in_force := self._in_force.get(shard)) is not None and in_force < number:
            await self._known.changed.wait()
        return in_force is not None

    async def keep(
        self,
        shard: int,
        server: BrokerServer,
        claim: Callable[[], bytes],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Have a shard that this node owns agree with the directory; the root, have the directory agree with it.

        Starts when it does for the first time.

        Args:
            claim: this node's to the root, with which the directory is fenced.

        Raises:
            CannotAgree: another node may be able to.
        """
        if shard == ROOT:
            await self._share(server, claim, task_status)
        else:
            await self._agree(shard, server, task_status)

    async def _share(
        self, server: BrokerServer, claim: Callable[[], bytes], task_status: trio.TaskStatus[None]
    ) -> None:
        changes = self._changes = _Changes()
        broker = server.broker
        broker.observers.add(changes, of_messages=False)
        is_read = is_started = False
        gone: set[Place] = set()  # although the virtual host may have been made again since
        while True:
            is_read = is_read or await self._try_to_read()
            self._check_readable()  # a newer release's is not replaced: its virtual hosts would be moved, and emptied
            count, revision = changes.count, self._read_revision
            names, changes.gone = changes.gone, set()
            gone.update(place for name, place in self.directory.places.items() if name in names)
            directory = self.directory.followed_by(broker, self._shard_count, gone)
            await until_durable(broker)  # what changes meanwhile is not told yet: it could be forgotten again
            if not is_read or (directory is not self.directory and not await self._put(directory, revision, claim())):
                is_read = False  # what was written may stand there all the same, or come to stand there
                await trio.sleep(AGAIN_S if self._has_failed else PAUSE_S)
                continue
            await self._shelf.announce()
            gone.clear()
            changes.shared = count
            changes.tell()
            if not is_started:
                is_started = True
                task_status.started()
            if changes.count == count:
                await changes.moved.wait()

    async def _try_to_read(self) -> bool:
        try:
            await self._read()
        except DirectoryUnavailable:
            return False
        return True

    async def _put(self, directory: Directory, revision: int, claim: bytes) -> bool:
        """Write it while this node owns the root; returns whether it stands there.

        It takes the place of the one that it follows, which has this revision, and of nothing else, so no two
        directories have the same number.
        """
        value = directory.encode()
        try:
            written = await self._shelf.replace(value, revision, claim)
        except DirectoryUnavailable as error:
            if not self._has_failed:  # said once
                log_event(logging.WARNING, "directory not written", reason=str(error))
            self._has_failed = True
            return False
        self._has_failed = False
        if written is not None:
            self._take(value)
            self._read_revision = max(self._read_revision, written)
        return written is not None

    async def _agree(self, shard: int, server: BrokerServer, task_status: trio.TaskStatus[None]) -> None:
        number = 0
        await self.current()
        try:
            while True:
                changed = self._known.changed
                self._check_readable()
                directory = self.directory
                if directory.number > number:
                    server.broker.handle(partial(agree, server.broker, directory, shard))
                    self._in_force[shard] = directory.number
                    self._known.tell()
                    if not number:
                        task_status.started()
                    number = directory.number
                else:
                    await changed.wait()
        finally:
            self._in_force.pop(shard, None)
            self._known.tell()
