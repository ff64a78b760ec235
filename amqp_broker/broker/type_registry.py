"""The types of something that a broker has, by the names that clients declare them with.

Each broker has registries of its own, so what is registered with one broker is in no other. What installed packages
bring is looked for when somebody asks for a type that is not there, or for all there are. Holds no type; those are
named in ``exchanges/registry.py`` and ``queues/registry.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class UnknownType(Exception):
    """A type that this broker does not have: of a plugin that is not there, or of a newer release.

    Args:
        kind: of what: ``exchange`` or ``queue``.
        type_name: the type's name.
    """

    def __init__(self, kind: str, type_name: str) -> None:
        super().__init__(f"unknown {kind} type '{type_name}'")
        self.kind = kind
        self.type_name = type_name


class TypeRegistry(Generic[T]):
    """The types of one broker, each by what makes one of it.

    Args:
        kind: of what the types are: ``exchange`` or ``queue``.
        types: those that every broker has.
        find_more: finds those that packages bring; asked once, and only when it must be.
    """

    def __init__(
        self, kind: str, types: Mapping[str, T], find_more: Callable[[], Mapping[str, T]] | None = None
    ) -> None:
        self._kind = kind
        self._types = dict(types)
        self._find_more = find_more
        self.switched_off: frozenset[str] = frozenset()  # of those that packages bring: as if they were not there
        self._brought: frozenset[str] = frozenset()

    def register(self, name: str, makes_one: T) -> None:
        """Add a type.

        Raises:
            ValueError: there is one of that name.
        """
        if name in self._types:
            raise ValueError(f"{self._kind} type '{name}' is there already")
        self._types[name] = makes_one

    def _find(self) -> None:
        """Look once for what packages bring; what is there already is not replaced."""
        find_more, self._find_more = self._find_more, None
        if find_more is not None:
            found = find_more()
            self._brought = frozenset([name for name in found if name not in self._types])
            self._types = {**found, **self._types}

    def __contains__(self, name: object) -> bool:
        if name not in self._types:
            self._find()
        return name in self._types and not self._is_off(name)

    def _is_off(self, name: object) -> bool:
        return name in self.switched_off and name in self._brought

    def __getitem__(self, name: str) -> T:
        """Look up what makes one of this type.

        Raises:
            UnknownType: there is none of that name.
        """
        if name not in self:
            raise UnknownType(self._kind, name)
        return self._types[name]

    @property
    def names(self) -> tuple[str, ...]:
        """All there are, those that packages bring as well."""
        self._find()
        return tuple([name for name in self._types if not self._is_off(name)])

    @property
    def brought(self) -> list[str]:
        """Those that packages bring, as far as they are switched on."""
        self._find()
        return sorted([name for name in self._brought if name not in self.switched_off])
