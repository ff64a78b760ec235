"""The command line. One file a noun; ``application.py`` gathers them.

Nothing is imported here before it is needed, and each command imports what it runs in its own body: ``--help`` must not
wait for the broker to load.
"""

from __future__ import annotations

import gc
import os
import signal
import sys


def main() -> None:
    """Run the command that the process was called with."""
    gc.disable()  # nothing is garbage while modules load; ``serve`` turns it on again, no other command lives that long
    if sys.argv[1:2] == ["serve"]:
        _end_well_on_signals()
        if sys.platform != "win32" and _serve_at_once(sys.argv[2:]):
            return

    try:
        from amqp_broker.cli.application import run

        run()
    except KeyboardInterrupt:  # before the library of the command line sees to it
        sys.exit(128 + signal.SIGINT)


def _serve_at_once(arguments: list[str]) -> bool:
    """Run the broker without the library of the command line, which takes a sixth of a start; False where it must."""
    from amqp_broker.cli.serve_options import read_plain

    given = read_plain(arguments)
    if given is None:
        return False
    from amqp_broker.cli.serving import serve

    serve(given)
    return True


def _end_well_on_signals() -> None:
    """Have Ctrl-C and SIGTERM end the process with 0 while it loads: nothing is begun yet that would have to be ended.

    SIGHUP does nothing: there is nothing yet to be read again. ``serve`` takes them over when it begins.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
