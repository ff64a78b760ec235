"""etcd's transactions and ranges in memory, behind members that lose, delay and repeat what they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from amqp_broker.cluster.members import EtcdRefused, EtcdUnavailable, Member
from amqp_broker.etcd import messages, protobuf
from amqp_broker.etcd.protobuf import all_data_of, data, data_of, decode, integer, integer_of, message


class FakeEtcd:
    """Keys with revisions."""

    def __init__(self) -> None:
        self.revision = 1
        self.keys: dict[bytes, tuple[bytes, int, int]] = {}  # value, create and mod revision
        self.log: list[tuple[int, bytes]] = []  # the revision of each put, and its key

    def put(self, key: bytes, value: bytes) -> int:
        """Put a key by itself; returns the revision."""
        self.revision += 1
        self._put(key, value)
        return self.revision

    def delete(self, key: bytes) -> None:
        """Delete a key by itself."""
        self.revision += 1
        self.keys.pop(key, None)

    def _put(self, key: bytes, value: bytes) -> None:
        created = self.keys[key][1] if key in self.keys else self.revision
        self.keys[key] = (value, created, self.revision)
        self.log.append((self.revision, key))

    def answer(self, path: str, request: bytes) -> bytes:
        """Carry one request out."""
        if path == messages.RANGE:
            return self._range(decode(request))
        assert path == messages.TRANSACTION
        fields = decode(request)
        holds = all(self._holds(decode(condition)) for condition in all_data_of(fields, 1))
        operations = [decode(one) for one in all_data_of(fields, 2 if holds else 3)]
        touched = [data_of(decode(data_of(one, 2)), 1) for one in operations if 2 in one]
        assert len(touched) == len(set(touched)), "duplicate key given in txn request"
        if any(2 in one or 3 in one for one in operations):
            self.revision += 1
        answers = b"".join(message(3, self._operate(operation)) for operation in operations)
        return self._header() + integer(2, holds) + answers

    def _header(self) -> bytes:
        return message(1, integer(3, self.revision))

    def _holds(self, condition: protobuf.Fields) -> bool:
        value, created, modified = self.keys.get(data_of(condition, 3), (b"", 0, 0))
        target = integer_of(condition, 2)
        if target == messages.Target.VALUE:
            return value == data_of(condition, 7) and created > 0
        if target == messages.Target.CREATE_REVISION:
            return created == integer_of(condition, 5)
        assert target == messages.Target.MOD_REVISION
        return modified == integer_of(condition, 6)

    def _operate(self, operation: protobuf.Fields) -> bytes:
        if 1 in operation:
            return message(1, self._range(decode(data_of(operation, 1))))
        if 2 in operation:
            put = decode(data_of(operation, 2))
            self._put(data_of(put, 1), data_of(put, 2))
            return message(2, b"")
        deletion = decode(data_of(operation, 3))
        for key in self._between(data_of(deletion, 1), data_of(deletion, 2)):
            del self.keys[key]
        return message(3, b"")

    def _between(self, key: bytes, end: bytes) -> list[bytes]:
        return sorted(one for one in self.keys if one == key or (end and key <= one < end))

    def _range(self, request: protobuf.Fields) -> bytes:
        found = self._between(data_of(request, 1), data_of(request, 2))
        some = found[: integer_of(request, 3) or None]
        entries = b"".join(message(2, self._entry(key)) for key in some)
        return self._header() + entries + integer(3, len(some) < len(found)) + integer(4, len(found))

    def _entry(self, key: bytes) -> bytes:
        value, created, modified = self.keys[key]
        return data(1, key) + integer(2, created) + integer(3, modified) + integer(4, 1) + data(5, value)


class UnreliableMember(Member):
    """A member that may lose the request or the answer, or carry the request out much later.

    Args:
        etcd: what it is a member of.
        random: decides.
        reliability: how likely a call is simply answered.
    """

    def __init__(self, etcd: FakeEtcd, random: Random, reliability: float = 1.0) -> None:
        super().__init__("fake", 1)
        self._etcd = etcd
        self._random = random
        self.reliability = reliability
        self.late: list[tuple[str, bytes]] = []

    def call_all(self, path: str, requests: Sequence[bytes]) -> list[bytes | EtcdRefused | None]:
        places = list(range(len(requests)))
        self._random.shuffle(places)
        outcomes: list[bytes | EtcdRefused | None] = [None] * len(requests)
        for place in places:
            outcomes[place] = self._call_one(path, requests[place])
        return outcomes

    def _call_one(self, path: str, request: bytes) -> bytes | None:
        if self._random.random() < self.reliability:
            return self._etcd.answer(path, request)
        what = self._random.choice(("lost", "answer lost", "late", "twice"))
        if what == "late":
            self.late.append((path, request))
        elif what == "answer lost":
            self._etcd.answer(path, request)
        elif what == "twice":
            self.late.append((path, request))
            return self._etcd.answer(path, request)
        return None

    def deliver_late(self) -> None:
        """Carry some of the delayed requests out, in any order."""
        self._random.shuffle(self.late)
        for _ in range(self._random.randrange(len(self.late) + 1)):
            self._etcd.answer(*self.late.pop())

    def call(self, path: str, request: bytes) -> bytes:
        outcome = self._call_one(path, request)
        if outcome is None:
            raise EtcdUnavailable("lost")
        return outcome
