"""The properties of a virtual host: its description, and how much there may be in it. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of a virtual host.

    Args:
        description: for people.
        tags: for people, too.
        default_queue_type: of queues that are declared without one; None for classic.
    """

    description: str = ""
    tags: tuple[str, ...] = ()
    default_queue_type: str | None = None


@dataclass(frozen=True, slots=True)
class VirtualHostLimits:
    """The limits of a virtual host; None is no limit (RabbitMQ docs, "Per-Virtual-Host Limits")."""

    connections_max: int | None = None
    queues_max: int | None = None
