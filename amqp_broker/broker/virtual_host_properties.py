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
        is_protected: whether it cannot be deleted until somebody says otherwise (RabbitMQ docs, "Virtual Hosts").
    """

    description: str = ""
    tags: tuple[str, ...] = ()
    default_queue_type: str | None = None
    is_protected: bool = False


@dataclass(frozen=True, slots=True)
class VirtualHostLimits:
    """The limits of a virtual host; None is no limit (RabbitMQ docs, "Per-Virtual-Host Limits")."""

    connections_max: int | None = None
    queues_max: int | None = None
