"""What all tests share: Hypothesis on machines that other things run on, where slowness is no failure and what failed
can be run again; and the broker's log, which a test that sets it up leaves as it was.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from amqp_broker.logs import LOGGER

settings.register_profile("patient", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _restored_logger() -> Iterator[None]:
    before = LOGGER.handlers[:], LOGGER.propagate, LOGGER.level
    yield
    LOGGER.handlers[:], LOGGER.propagate = before[:2]
    LOGGER.setLevel(before[2])
