"""What the tests in memory share: a broker, and clients whose bytes come in every possible way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.client import Client, Cut, byte_by_byte, random_pieces, whole
from tests.support.memory_broker import MemoryBroker

Connect = Callable[[], Client]


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    """A new broker in memory; it must be in good order at the end of the test."""
    memory_broker = MemoryBroker()
    yield memory_broker
    memory_broker.check_invariants()


@pytest.fixture(params=["whole", "byte by byte", "in pieces"])
def cut(request: pytest.FixtureRequest) -> Cut:
    """How a client's bytes are delivered."""
    ways: dict[str, Cut] = {"whole": whole, "byte by byte": byte_by_byte, "in pieces": random_pieces(7)}
    return ways[request.param]


@pytest.fixture
def connect(broker: MemoryBroker, cut: Cut) -> Connect:
    """Opens connections to the broker."""
    return lambda: Client(broker, cut=cut).open()


@pytest.fixture
def client(connect: Connect) -> Client:
    """A connection that is open."""
    return connect()
