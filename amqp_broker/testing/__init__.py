"""A whole broker inside a test: behind a real socket, for unmodified clients, with time under the test's control.

::

    from amqp_broker.testing import Broker

    with Broker() as broker:
        connection = pika.BlockingConnection(pika.URLParameters(broker.url))
        ...
        broker.clock.advance(minutes=30)
        assert [message.body for message in broker.queue("late").messages] == [b"unpaid"]

``docs/testing.md`` tells it all. The names are loaded when they are first used, because pytest loads this package at
every start (the plugin's entry point) and must not pay for trio where nobody asks for a broker.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amqp_broker.testing.broker import AsyncBroker, AsyncVirtualHostView, Broker, VirtualHostView
    from amqp_broker.testing.engine import NotRunning
    from amqp_broker.testing.records import Message, Published
    from amqp_broker.testing.view import BindingSeen, ConnectionSeen, QueueView, View

__all__ = [
    "AsyncBroker",
    "AsyncVirtualHostView",
    "BindingSeen",
    "Broker",
    "ConnectionSeen",
    "Message",
    "NotRunning",
    "Published",
    "QueueView",
    "View",
    "VirtualHostView",
]

_HOMES = {
    "AsyncBroker": "broker",
    "AsyncVirtualHostView": "broker",
    "BindingSeen": "view",
    "Broker": "broker",
    "ConnectionSeen": "view",
    "Message": "records",
    "NotRunning": "engine",
    "Published": "records",
    "QueueView": "view",
    "View": "view",
    "VirtualHostView": "broker",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
