"""Alarms: what the broker is running out of, and who must hear of it.

While an alarm is raised, publishers are held back (RabbitMQ docs, "Memory and Disk Alarms"). Holds no measuring: the
server floor watches the machine and raises and clears.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Resource(StrEnum):
    """A resource that can run out; the names stand in the text that clients read."""

    MEMORY = "memory"
    DISK = "disk"


class Alarms:
    """The alarms of one broker."""

    def __init__(self) -> None:
        self._raised: dict[Resource, None] = {}
        self._listeners: dict[Callable[[], None], None] = {}

    @property
    def are_raised(self) -> bool:
        """Whether anything is running out."""
        return bool(self._raised)

    @property
    def raised(self) -> list[str]:
        """The resources that are running out: ``memory``, ``disk``."""
        return [resource.value for resource in self._raised]

    @property
    def reason(self) -> str:
        """What a blocked client is told: ``low on memory & disk``."""
        return "low on " + " & ".join(self._raised)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a listener whenever an alarm was raised or cleared."""
        self._listeners[listener] = None

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call it no longer."""
        self._listeners.pop(listener, None)

    def set(self, resource: Resource, is_low: bool) -> bool:
        """Say how it stands with a resource; returns whether that was news."""
        if is_low == (resource in self._raised):
            return False
        if is_low:
            self._raised[resource] = None
        else:
            del self._raised[resource]
        for listener in list(self._listeners):
            listener()
        return True
