"""What all tests share: Hypothesis on machines that other things run on, where slowness is no failure and what failed
can be run again; the broker's log, which a test that sets it up leaves as it was; and what was loaded for them, which
the garbage collector does not look through; and Ctrl-C, which tests send.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from amqp_broker.logs import LOGGER

settings.register_profile("patient", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
gc.disable()  # nothing is garbage while the tests are collected
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Have what was loaded passed over from now on: looking through it takes some tenths of a second each time."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _restored_logger() -> Iterator[None]:
    before = LOGGER.handlers[:], LOGGER.propagate, LOGGER.level
    yield
    LOGGER.handlers[:], LOGGER.propagate = before[:2]
    LOGGER.setLevel(before[2])
