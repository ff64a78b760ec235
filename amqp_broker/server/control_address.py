"""The address of the control socket, and how a long path fits into a socket's address. Both of its ends ask here.

Also how a socket is bound that is for the broker's own user only.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET_NAME = "control"
ADDRESS_BYTES_MAX = 100  # what fits into a socket's address on every system


@contextmanager
def reachable_address(path: Path) -> Iterator[str]:
    """A socket's path, in a form that is short enough for an address.

    Raises:
        OSError: it is too long, and this system knows no way around that.
    """
    if len(os.fsencode(path)) <= ADDRESS_BYTES_MAX:
        yield str(path)
        return
    if sys.platform == "linux":
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{folder}/{path.name}"
        finally:
            os.close(folder)
    else:
        way_out = "choose a data folder with a shorter name"
        raise OSError(f"its path is longer than the {ADDRESS_BYTES_MAX} bytes of a socket's address: {way_out}")


def bind_for_owner(listening: socket.socket, path: Path, backlog: int) -> None:
    """Bind a Unix socket that only this process's user can connect to, in place of what is left of an earlier one.

    Raises:
        OSError: the system refuses it.
    """
    path.unlink(missing_ok=True)
    umask = os.umask(0o177)
    try:
        with reachable_address(path) as address:
            listening.bind(address)
    finally:
        os.umask(umask)
    listening.listen(backlog)
