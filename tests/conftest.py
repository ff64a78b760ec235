"""What all tests share: Hypothesis on machines that other things run on, where slowness is no failure and what failed
can be run again; the broker's log, which a test that sets it up leaves as it was; and what was loaded for them, which
the garbage collector does not look through; Ctrl-C, which tests send; and how many processes ``-n auto`` is.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from amqp_broker.logs import LOGGER
from tests.support.examples import examples

settings.register_profile(
    "patient",
    max_examples=examples(100),
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("patient")
gc.disable()  # nothing is garbage while the tests are collected
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three processes for two cores: a third of the time tests wait, for brokers that start and for clocks."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores * 3 // 2)


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
