"""Consumers of a stream that have a name in common, of whom one alone is served (single active consumer).

Who it is: the oldest; among the partitions of a super stream, each takes the next one, so that they are spread over the
consumers. One that is to make way is asked to first, and answers when it has stored how far it is. (RabbitMQ docs,
"Streams", "Single Active Consumer for Streams".)
"""

from __future__ import annotations

from typing import Final, Protocol

NO_PARTITION: Final = -1


class Member(Protocol):
    """A consumer in a group."""

    def activate(self) -> None:
        """It is its turn."""

    def deactivate(self) -> None:
        """It is to make way, and to say ``StreamGroup.made_way`` when it has."""


class StreamGroup:
    """The consumers of one name.

    Args:
        partition: which of a super stream's the stream is; ``NO_PARTITION`` where it is none.
    """

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.members: list[Member] = []
        self.active: Member | None = None
        self._leaving: Member | None = None  # the active one, while it makes way

    def add(self, member: Member) -> None:
        """One more."""
        self.members.append(member)
        self._choose()

    def remove(self, member: Member) -> None:
        """One has gone."""
        if member in self.members:
            self.members.remove(member)
        if self._leaving is member:
            self._leaving = None
        if self.active is member:
            self.active = None
        self._choose()

    def made_way(self, member: Member) -> None:
        """One has made way, as it was asked to."""
        if self._leaving is member:
            self._leaving = self.active = None
            self._choose()

    def _choose(self) -> None:
        if not self.members or self._leaving is not None:
            return
        if self.partition != NO_PARTITION:
            chosen = self.members[self.partition % len(self.members)]
        else:
            chosen = self.active or self.members[0]
        if self.active is None:
            self.active = chosen
            chosen.activate()
        elif self.active is not chosen:
            self._leaving = self.active
            self.active.deactivate()
