"""The messages to etcd and from it: each request written, each answer read (etcd's API reference, v3.4).

Requests are functions that return the encoded message; answers are classes with ``read``. Only what the cluster needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from amqp_broker.etcd import protobuf as wire

# The names of the calls, as they stand in the path.
RANGE: Final = "/etcdserverpb.KV/Range"
TRANSACTION: Final = "/etcdserverpb.KV/Txn"
COMPACT: Final = "/etcdserverpb.KV/Compact"
WATCH: Final = "/etcdserverpb.Watch/Watch"
LEASE_GRANT: Final = "/etcdserverpb.Lease/LeaseGrant"
LEASE_REVOKE: Final = "/etcdserverpb.Lease/LeaseRevoke"
LEASE_KEEP_ALIVE: Final = "/etcdserverpb.Lease/LeaseKeepAlive"
MEMBER_LIST: Final = "/etcdserverpb.Cluster/MemberList"
STATUS: Final = "/etcdserverpb.Maintenance/Status"
ALARM: Final = "/etcdserverpb.Maintenance/Alarm"
DEFRAGMENT: Final = "/etcdserverpb.Maintenance/Defragment"
SNAPSHOT: Final = "/etcdserverpb.Maintenance/Snapshot"
AUTHENTICATE: Final = "/etcdserverpb.Auth/Authenticate"

_PUT_OPERATION: Final = 2
_DELETE_OPERATION: Final = 3
_RANGE_OPERATION: Final = 1


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range that holds every key with this prefix: the first key behind them.

    Args:
        prefix: not empty, and not of bytes 255 alone.
    """
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,))


# --- keys


class Target(IntEnum):
    """The attribute of a key that a condition compares."""

    VERSION = 0
    CREATE_REVISION = 1
    MOD_REVISION = 2
    VALUE = 3


def compare(key: bytes, target: Target, expected: int | bytes) -> bytes:
    """One condition of a transaction: this of the key equals that. A key that does not exist has the revision 0."""
    union = _COMPARED_FIELDS[target]
    # The value compared with is written even when it is zero: without it, etcd compares with nothing.
    if isinstance(expected, bytes):
        compared = wire.message(union, expected)
    else:
        compared = wire.encode_varint(union << 3 | wire.VARINT) + wire.encode_varint(expected)
    return wire.integer(2, target) + wire.data(3, key) + compared


_COMPARED_FIELDS: Final = {
    Target.VERSION: 4,
    Target.CREATE_REVISION: 5,
    Target.MOD_REVISION: 6,
    Target.VALUE: 7,
}


def put(key: bytes, value: bytes, lease: int = 0) -> bytes:
    """An operation of a transaction: give a key a value.

    Args:
        lease: the key goes with it; 0 for none.
    """
    before, behind = wire.data(1, key) + (wire.beginning(2, len(value)) if value else b""), wire.integer(3, lease)
    size_bytes = len(before) + len(value) + len(behind)
    return b"".join((wire.beginning(_PUT_OPERATION, size_bytes), before, value, behind))


def delete(key: bytes, range_end: bytes = b"") -> bytes:
    """An operation of a transaction: delete a key, or all from it up to a range's end."""
    return wire.message(_DELETE_OPERATION, wire.data(1, key) + wire.data(2, range_end))


def get(key: bytes, range_end: bytes = b"") -> bytes:
    """An operation of a transaction: read a key, or all from it up to a range's end."""
    return wire.message(_RANGE_OPERATION, range_request(key, range_end))


def transaction_request(
    conditions: Sequence[bytes], operations: Sequence[bytes], otherwise: Sequence[bytes] = ()
) -> bytes:
    """A transaction: if all conditions hold, do the one, else the other."""
    parts: list[bytes] = []
    for field, some in ((1, conditions), (2, operations), (3, otherwise)):
        for one in some:
            parts += (wire.beginning(field, len(one)), one)
    return b"".join(parts)


def range_request(
    key: bytes, range_end: bytes = b"", *, limit: int = 0, revision: int = 0, keys_only: bool = False
) -> bytes:
    """Read a key, or all from it up to a range's end, in the order of the keys.

    Args:
        limit: of keys; 0 for none.
        revision: as things stood then; 0 for now.
        keys_only: without the values.
    """
    return (
        wire.data(1, key)
        + wire.data(2, range_end)
        + wire.integer(3, limit)
        + wire.integer(4, revision)
        + wire.integer(8, keys_only)
    )


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as it stands in etcd."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int

    @classmethod
    def read(cls, encoded: wire.Part) -> KeyValue:
        """Read one.

        Raises:
            MalformedMessage: it cannot be read; so do all the others.
        """
        fields = wire.decode(encoded)
        return cls(
            wire.data_of(fields, 1),
            wire.data_of(fields, 5),
            wire.integer_of(fields, 2),
            wire.integer_of(fields, 3),
            wire.integer_of(fields, 4),
            wire.integer_of(fields, 6),
        )


def _revision_in(fields: wire.Fields) -> int:
    """The store's revision, from the header of an answer."""
    return wire.integer_of(wire.decode(wire.message_in(fields, 1)), 3)


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """The answer to a range request: what was read."""

    revision: int
    entries: list[KeyValue]
    more: bool
    count: int

    @classmethod
    def read(cls, encoded: wire.Part) -> RangeAnswer:
        """Read it."""
        fields = wire.decode(encoded)
        entries = [KeyValue.read(entry) for entry in wire.messages_in(fields, 2)]
        return cls(_revision_in(fields), entries, bool(wire.integer_of(fields, 3)), wire.integer_of(fields, 4))


@dataclass(frozen=True, slots=True)
class TransactionAnswer:
    """The answer to a transaction: whether the conditions held, and what each of its reads found."""

    revision: int
    succeeded: bool
    ranges: list[RangeAnswer]

    @classmethod
    def read(cls, encoded: bytes) -> TransactionAnswer:
        """Read it."""
        fields = wire.decode(encoded)
        ranges = []
        for operation in wire.messages_in(fields, 3):
            ranges += [RangeAnswer.read(one) for one in wire.messages_in(wire.decode(operation), _RANGE_OPERATION)]
        return cls(_revision_in(fields), bool(wire.integer_of(fields, 2)), ranges)


def compaction_request(revision: int, *, is_waited_for: bool = False) -> bytes:
    """Forget what was overwritten before a revision.

    Args:
        is_waited_for: the answer comes only when its space is free for others.
    """
    return wire.integer(1, revision) + wire.integer(2, is_waited_for)


# --- watching


def watch_request(key: bytes, range_end: bytes = b"", *, start_revision: int = 0) -> bytes:
    """Be told of every change of a key or range; what has changed since is told in several answers where it is much.

    Args:
        start_revision: from there on; 0 for from now on.
    """
    create = wire.data(1, key) + wire.data(2, range_end) + wire.integer(3, start_revision) + wire.integer(4, 1)
    return wire.message(1, create + wire.integer(8, 1))


@dataclass(frozen=True, slots=True)
class Event:
    """A key was put or deleted; a deleted one has no value."""

    is_delete: bool
    entry: KeyValue


@dataclass(frozen=True, slots=True)
class WatchAnswer:
    """An answer of a watch: it was made, it was ended, or keys have changed."""

    revision: int
    created: bool
    cancelled: bool
    compact_revision: int  # above 0: what was to be watched has been forgotten up to there
    cancel_reason: str
    is_unfinished: bool  # the next answer goes on with this one, maybe within a revision
    events: list[Event]

    @classmethod
    def read(cls, encoded: bytes) -> WatchAnswer:
        """Read it."""
        fields = wire.decode(encoded)
        events = []
        for one in wire.messages_in(fields, 11):
            event = wire.decode(one)
            events.append(Event(bool(wire.integer_of(event, 1)), KeyValue.read(wire.message_in(event, 2))))
        return cls(
            _revision_in(fields),
            bool(wire.integer_of(fields, 3)),
            bool(wire.integer_of(fields, 4)),
            wire.integer_of(fields, 5),
            wire.data_of(fields, 6).decode("utf-8", "replace"),
            bool(wire.integer_of(fields, 7)),
            events,
        )


# --- leases


def lease_grant_request(ttl_s: int) -> bytes:
    """A new lease of so many seconds."""
    return wire.integer(1, ttl_s)


def lease_request(lease: int) -> bytes:
    """Renew a lease (``LEASE_KEEP_ALIVE``)."""
    return wire.integer(1, lease)


lease_revoke_request = lease_request


@dataclass(frozen=True, slots=True)
class LeaseAnswer:
    """A lease, and how long it lives without being renewed: 0 when it is gone."""

    lease: int
    ttl_s: int

    @classmethod
    def read(cls, encoded: bytes) -> LeaseAnswer:
        """Read it."""
        fields = wire.decode(encoded)
        return cls(wire.integer_of(fields, 2), wire.integer_of(fields, 3))


# --- the members of etcd


@dataclass(frozen=True, slots=True)
class Member:
    """A member of etcd's own cluster."""

    member_id: int
    name: str  # empty before it has begun
    client_urls: list[str]  # likewise
    peer_urls: list[str]

    @classmethod
    def read_all(cls, encoded: bytes) -> list[Member]:
        """Read the answer to ``MEMBER_LIST``, whose request is empty."""
        members = []
        for one in wire.messages_in(wire.decode(encoded), 2):
            fields = wire.decode(one)
            name = wire.data_of(fields, 2).decode("utf-8", "replace")
            clients, peers = _texts(fields, 4), _texts(fields, 3)
            members.append(cls(wire.integer_of(fields, 1), name, clients, peers))
        return members


def _texts(fields: wire.Fields, field: int) -> list[str]:
    return [text.decode("utf-8", "replace") for text in wire.all_data_of(fields, field)]


@dataclass(frozen=True, slots=True)
class StatusAnswer:
    """The answer to ``STATUS``, whose request is empty: how a member is."""

    member_id: int
    revision: int  # of the store, as far as that member knows
    version: str
    database_bytes: int
    database_used_bytes: int
    leader: int
    errors: list[str]

    @classmethod
    def read(cls, encoded: bytes) -> StatusAnswer:
        """Read it."""
        fields = wire.decode(encoded)
        header = wire.decode(wire.message_in(fields, 1))
        return cls(
            wire.integer_of(header, 2),
            wire.integer_of(header, 3),
            wire.data_of(fields, 2).decode("utf-8", "replace"),
            wire.integer_of(fields, 3),
            wire.integer_of(fields, 9),
            wire.integer_of(fields, 4),
            [error.decode("utf-8", "replace") for error in wire.all_data_of(fields, 8)],
        )


class AlarmAction(IntEnum):
    """The action of a request about alarms."""

    LIST = 0
    CLEAR = 2


NO_SPACE_ALARM: Final = 1


def alarm_request(action: AlarmAction, member_id: int = 0, alarm: int = 0) -> bytes:
    """List the alarms, or clear one."""
    return wire.integer(1, action) + wire.integer(2, member_id) + wire.integer(3, alarm)


def alarms_in(encoded: bytes) -> list[tuple[int, int]]:
    """The alarms that are raised: the member of each, and which it is."""
    alarms = [wire.decode(one) for one in wire.messages_in(wire.decode(encoded), 2)]
    return [(wire.integer_of(alarm, 1), wire.integer_of(alarm, 2)) for alarm in alarms]


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """A piece of a snapshot of the whole database. Its request, ``SNAPSHOT``, is empty."""

    remaining_bytes: int
    data: bytes

    @classmethod
    def read(cls, encoded: bytes) -> SnapshotPart:
        """Read it."""
        fields = wire.decode(encoded)
        return cls(wire.integer_of(fields, 2), wire.data_of(fields, 3))


# --- logging in


def authenticate_request(user: str, password: str) -> bytes:
    """Log in with a password; the answer's token goes with every call."""
    return wire.data(1, user.encode()) + wire.data(2, password.encode())


def token_in(encoded: bytes) -> str:
    """The token in the answer to ``AUTHENTICATE``."""
    return wire.data_of(wire.decode(encoded), 2).decode("ascii", "replace")
