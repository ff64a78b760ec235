"""The memory that this process occupies, asked of macOS's kernel: there is no /proc, and getrusage knows the peak only.

Does not hold what is done with it; that is ``resources.py``.
"""

from __future__ import annotations

import ctypes

_MACH_TASK_BASIC_INFO = 20
_RESIDENT_SIZE = 1  # the second of its numbers of 64 bits
_INFO_WORDS = 12  # of 32 bits each


def resident_bytes(library: ctypes.CDLL | None = None) -> int:
    """The memory that this process occupies; 0 where the kernel does not tell.

    Args:
        library: the system's own when left out.
    """
    system = library if library is not None else ctypes.CDLL(None)
    info = (ctypes.c_uint64 * (_INFO_WORDS // 2))()
    size_words = ctypes.c_uint32(_INFO_WORDS)
    this_task = ctypes.c_uint32.in_dll(system, "mach_task_self_") if library is None else ctypes.c_uint32(0)
    failure = system.task_info(this_task, _MACH_TASK_BASIC_INFO, ctypes.byref(info), ctypes.byref(size_words))
    return 0 if failure else int(info[_RESIDENT_SIZE])
