"""The components that parameters of virtual hosts concern: each checks what it is told, and hears of changes.

Holds no component. Those that whoever serves a broker brings are known by name, so that definitions can be taken where
nobody serves it, too; what they are told is kept then, and has no effect.
"""

from __future__ import annotations

from typing import Final, Protocol

from amqp_broker.broker.problems import NotValid

WITHOUT_EFFECT: Final = ("federation-upstream", "federation-upstream-set", "shovel")


class Component(Protocol):
    """The part of the broker that parameters of one name concern."""

    def check(self, name: str, value: object) -> None:
        """Refuse what it can make nothing of.

        Args:
            name: of the parameter.
            value: as JSON has it.

        Raises:
            NotValid: it says what is wrong.
        """

    def changed(self) -> None:
        """Some of its parameters were set or cleared, in whichever virtual host."""


class Components:
    """The components of one broker."""

    def __init__(self) -> None:
        self._components: dict[str, Component] = {}

    def register(self, name: str, component: Component) -> None:
        """Let parameters of this name concern somebody; in place of whom they did before."""
        self._components[name] = component

    def get(self, name: str) -> Component | None:
        """Whom parameters of this name concern."""
        return self._components.get(name)

    def check(self, component: str, name: str, value: object) -> None:
        """Refuse a parameter that concerns nobody, or that the component can make nothing of.

        Raises:
            NotValid: it says why.
        """
        concerned = self._components.get(component)
        if concerned is not None:
            concerned.check(name, value)
        elif component not in WITHOUT_EFFECT:
            raise NotValid([f"component {component} not found"])

    def changed(self, component: str) -> None:
        """Tell the component that some of its parameters have changed."""
        concerned = self._components.get(component)
        if concerned is not None:
            concerned.changed()

    def all_changed(self) -> None:
        """The same for all of them, because a virtual host has gone."""
        for component in self._components.values():
            component.changed()
