"""The types of something that a broker has, by the names that clients declare them with.

Each broker has registries of its own, so a plugin adds a type to one broker and to no other. Holds no type; those are
named in ``exchanges/registry.py`` and ``queues/registry.py``.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class UnknownType(Exception):
    """Something is of a type that this broker does not have: a plugin that is not there, or a newer release's.

    Args:
        kind: of what: ``exchange`` or ``queue``.
        type_name: the type's name.
    """

    def __init__(self, kind: str, type_name: str) -> None:
        super().__init__(f"unknown {kind} type '{type_name}'")
        self.kind = kind
        self.type_name = type_name


class TypeRegistry(Generic[T]):
    """What makes one of each type.

    Args:
        kind: of what the types are: ``exchange`` or ``queue``.
        types: those that every broker has.
    """

    def __init__(self, kind: str, types: dict[str, T]) -> None:
        self._kind = kind
        self._types = dict(types)

    def register(self, name: str, makes_one: T) -> None:
        """Add a type.

        Raises:
            ValueError: there is one of that name.
        """
        if name in self._types:
            raise ValueError(f"there is an {self._kind} type '{name}' already")
        self._types[name] = makes_one

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def __getitem__(self, name: str) -> T:
        """What makes one of this type.

        Raises:
            UnknownType: there is none of that name.
        """
        makes_one = self._types.get(name)
        if makes_one is None:
            raise UnknownType(self._kind, name)
        return makes_one

    @property
    def names(self) -> tuple[str, ...]:
        """All there are."""
        return tuple(self._types)
