"""Having the system begin to write what it was given: else the disk does nothing until somebody syncs.

A hint, which changes nothing that is promised: that the disk has failed is told to whoever syncs. Linux alone has it,
and Python has no name for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Final

_WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE: begin, and do not wait for the end (man 2 sync_file_range)


def begin_writing(descriptor: int, offset: int, size: int) -> None:
    """Have some bytes of a file written that are in the page cache; returns while the disk is at it.

    Args:
        descriptor: of the file.
        offset: where they begin.
        size: how many there are.
    """
    function = _sync_file_range()
    if function is not None:
        function(descriptor, offset, size, _WRITE)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    import ctypes  # not before much is written

    function: Any = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]

    def begin(descriptor: int, offset: int, size: int, flags: int) -> int:
        return int(function(descriptor, offset, size, flags))

    return begin
