"""What these tests share: a broker for each, and stock clients that are closed afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError

from amqp_broker.testing import Broker

Connect = Callable[..., BlockingConnection]


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as running:
        yield running


@pytest.fixture
def connect(broker: Broker) -> Iterator[Connect]:
    """Opens connections of stock pika."""
    opened: list[BlockingConnection] = []

    def open_one(**parameters: object) -> BlockingConnection:
        url = pika.URLParameters(broker.url)
        for name, value in parameters.items():
            setattr(url, name, value)
        opened.append(pika.BlockingConnection(url))
        return opened[-1]

    yield open_one
    for connection in opened:
        with contextlib.suppress(AMQPError):
            connection.close()


@pytest.fixture
def channel(connect: Connect) -> BlockingChannel:
    """A channel with confirms."""
    opened = connect().channel()
    opened.confirm_delivery()
    return opened
