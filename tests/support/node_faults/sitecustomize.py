"""Loaded by Python itself when it starts with this folder on its path, to have a node suffer what a test wants.

The wall clock is off by as many seconds as the file says that JUMPING_CLOCK names. SIGUSR2 has the event loop hang for
as many seconds as HANG_S says, while all other threads go on.
"""

import os
import signal
import time

_real = time.time_ns
_file = os.open(os.environ["JUMPING_CLOCK"], os.O_RDONLY | os.O_CLOEXEC)


def _time_ns() -> int:
    return _real() + int(os.pread(_file, 20, 0) or b"0") * 1_000_000_000


def _time() -> float:
    return _time_ns() / 1e9


def _hang(number: int, frame: object) -> None:
    time.sleep(float(os.environ["HANG_S"]))


time.time_ns, time.time = _time_ns, _time
signal.signal(signal.SIGUSR2, _hang)
