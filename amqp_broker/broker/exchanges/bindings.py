"""The bindings of one exchange, by where they lead: what goes with a destination is taken out in one piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from amqp_broker.broker.exchanges.binding import Binding, BindingIdentity

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.queues.base import Queue


class Bindings:
    """Bindings from one exchange."""

    __slots__ = ("_by_destination", "_count")

    def __init__(self) -> None:
        self._by_destination: dict[Exchange | Queue, dict[BindingIdentity, Binding]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, identity: BindingIdentity) -> bool:
        return self.get(identity) is not None

    def get(self, identity: BindingIdentity) -> Binding | None:
        """The binding of this identity, if it is there."""
        group = self._by_destination.get(identity[0])
        return None if group is None else group.get(identity)

    def values(self) -> Iterator[Binding]:
        """All of them."""
        for group in self._by_destination.values():
            yield from group.values()

    def lead_to(self, destination: Exchange | Queue) -> bool:
        """Whether one of them leads there."""
        return destination in self._by_destination

    def destinations(self) -> list[Exchange | Queue]:
        """Where they lead, each once."""
        return list(self._by_destination)

    def add(self, binding: Binding) -> None:
        """One more, which was not there."""
        self._by_destination.setdefault(binding.destination, {})[binding.identity] = binding
        self._count += 1

    def pop(self, identity: BindingIdentity) -> Binding | None:
        """Take one out; returns None when it is not there."""
        group = self._by_destination.get(identity[0])
        binding = None if group is None else group.pop(identity, None)
        if binding is not None:
            self._count -= 1
            if not group:
                del self._by_destination[binding.destination]
        return binding

    def take(self, destination: Exchange | Queue) -> list[Binding]:
        """Take all out that lead to a destination."""
        group = self._by_destination.pop(destination, {})
        self._count -= len(group)
        return list(group.values())
