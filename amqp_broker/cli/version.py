"""``amqp-broker version``."""

from __future__ import annotations

from amqp_broker import __version__


def version() -> None:
    """Print the version."""
    print(__version__)
