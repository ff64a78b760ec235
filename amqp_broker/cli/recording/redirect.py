"""Runs a script so that pika, wherever the script tells it to connect, connects to the recording proxy.

It runs in the script's own Python, which need not have this package: only the standard library is used, and pika if it
is there. ``AMQP_URL`` names the proxy, for scripts that take their address from it and for other clients.

    python redirect.py script.py [argument ...]
"""

from __future__ import annotations

import os
import runpy
import sys
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def redirect_pika(url: str) -> None:
    """Let every set of connection parameters name this address, and its user and virtual host if it has them."""
    try:
        from pika import PlainCredentials
        from pika.connection import Parameters
    except ImportError:
        return
    parts = urlsplit(url)
    forced: dict[str, Any] = {"host": parts.hostname, "port": parts.port, "ssl_options": None}
    if parts.username is not None:
        forced["credentials"] = PlainCredentials(unquote(parts.username), unquote(parts.password or ""))
    if parts.path[1:]:
        forced["virtual_host"] = unquote(parts.path[1:])
    for name, value in forced.items():
        setter = getattr(Parameters, name).fset
        setattr(Parameters, name, property(partial(_forced, value), setter))


def _forced(value: object, _: object) -> object:
    return value


def main() -> None:
    """Run the script that is named on the command line, with its own arguments."""
    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(script).resolve().parent)
    redirect_pika(os.environ["AMQP_URL"])
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
