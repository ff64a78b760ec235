"""The command line. One file a noun; ``application.py`` gathers them.

Nothing is imported here before it is needed, and each command imports what it runs in its own body: ``--help`` must not
wait for the broker to load.
"""

from __future__ import annotations


def main() -> None:
    """Run the command that the process was called with."""
    from amqp_broker.cli.application import application

    application()
