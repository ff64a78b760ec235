"""Client connections that a test leaves behind because their broker was killed, or closed them in the middle.

pika keeps the socket of a connection that broke until the garbage collector finds it, and the warning about that would
hit whichever test runs then. Holds the cleaning up after such a test; not for tests of our own sockets.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def abandoned_connections() -> Iterator[None]:
    """Collect them at the end of the test that left them, without the warnings about their sockets."""
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed", ResourceWarning)
        gc.collect()
