"""Deliveries that a test holds back: from when, until when, each hold on its own, also across a restart.

Holds what carries it out, in the broker's loop. The orders are in ``faults.py``, what is remembered in ``watch.py``.
"""

from __future__ import annotations

from functools import partial

from amqp_broker.testing.watch import Hold
from amqp_broker.testing.watched import WatchedBroker


def begin(broker: WatchedBroker, virtual_host: str, hold: Hold) -> None:
    """Give a virtual host's consumers nothing while this hold lasts."""
    broker.watch.of(virtual_host).holds.add(hold)
    _watch_end(broker, virtual_host, hold)
    _tell_consumers(broker, virtual_host)


def end(broker: WatchedBroker, virtual_host: str, hold: Hold) -> None:
    """One hold is over; harmless when it is already."""
    space = broker.watch.spaces.get(virtual_host)
    if space is not None and hold in space.holds:
        space.holds.discard(hold)
        _tell_consumers(broker, virtual_host)


def end_all(broker: WatchedBroker, virtual_host: str) -> None:
    """All of a virtual host's holds are over."""
    broker.watch.of(virtual_host).holds.clear()
    _tell_consumers(broker, virtual_host)


def watch_ends(broker: WatchedBroker) -> None:
    """A broker has come back: holds that have an end still end then."""
    for name, space in broker.watch.spaces.items():
        _obey(broker, name)
        for hold in space.holds:
            _watch_end(broker, name, hold)


def _watch_end(broker: WatchedBroker, virtual_host: str, hold: Hold) -> None:
    if hold.ends_ms is not None:
        broker.timers.at(hold.ends_ms, partial(end, broker, virtual_host, hold))


def _obey(broker: WatchedBroker, name: str) -> None:
    virtual_host = broker.virtual_hosts.get(name)
    if virtual_host is not None:
        virtual_host.are_deliveries_held = bool(broker.watch.of(name).holds)


def _tell_consumers(broker: WatchedBroker, virtual_host: str) -> None:
    _obey(broker, virtual_host)
    for connection in broker.open_connections.in_virtual_host(virtual_host):
        connection.update_room()
