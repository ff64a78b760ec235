"""Protocols that installed packages bring, where the setting ``plugin_protocols`` names them.

Loaded only there. What such a protocol derives from is ``plain_connection.py``; where it listens is asked of here by
``reception.py``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from amqp_broker.access.client import Peer
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.plugin_types import PROTOCOL, PluginType, find_plugin_types
from amqp_broker.errors import AmqpError
from amqp_broker.network.listeners import AMQP, FOR_ADMINISTRATORS, CannotListen
from amqp_broker.server.protocols import ClientConnection, MakeConnection
from amqp_broker.settings import OTHER_PROTOCOLS, Settings

SETTING: Final = "plugin_protocols"
TLS: Final = "tls"
RESERVED: Final = frozenset({AMQP, *FOR_ADMINISTRATORS, *OTHER_PROTOCOLS})
PORT_MAX: Final = 65_535


class PluginListener(NamedTuple):
    """A port on which a package's protocol is to be spoken."""

    protocol: str
    port: int
    is_tls: bool


def plugin_listeners(settings: Settings) -> list[PluginListener]:
    """All that the setting names.

    Raises:
        CannotListen: one of them is not to be had; the text names it and the way out.
    """
    return [_read(text, has_certificate=bool(settings.tls_certificate)) for text in settings.plugin_protocols]


def _read(text: str, *, has_certificate: bool) -> PluginListener:
    name, *rest = text.split(":")
    if not name or not rest or rest[1:] not in ([], [TLS]) or not _is_port(rest[0]):
        raise CannotListen(f"{SETTING} has {text!r}: write NAME:PORT, or NAME:PORT:tls")
    if name in RESERVED:
        raise CannotListen(f"{SETTING} names {name!r}, which is no package's: it has settings of its own")
    is_tls = len(rest) > 1
    if is_tls and not has_certificate:
        raise CannotListen(f"{SETTING} has {text!r}, and TLS is off: name a certificate with tls_certificate")
    return PluginListener(name, int(rest[0]), is_tls)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= PORT_MAX


def plugin_connections(settings: Settings) -> dict[str, MakeConnection]:
    """How the connection of a new client is made, for each protocol that the setting names.

    Raises:
        CannotListen: no package brings one of them, or it cannot be loaded.
    """
    installed = find_plugin_types(PROTOCOL)
    made: dict[str, MakeConnection] = {}
    for name, _, _ in plugin_listeners(settings):
        if name not in installed:
            near = difflib.get_close_matches(name, installed, n=1, cutoff=0.6)
            way_out = f"did you mean {near[0]}?" if near else f"there are {', '.join(installed) or 'none'}"
            raise CannotListen(f"{SETTING} names {name!r}, which no installed package brings: {way_out}")
        plugin = installed[name]
        try:
            plugin.load()
        except AmqpError as error:
            raise CannotListen(error.explanation) from error
        made[name] = partial(_make, plugin)
    return made


def _make(plugin: PluginType, broker: Broker, peer: Peer, on_output: Callable[[], None]) -> ClientConnection:
    """A connection of a package's protocol; raises what its code raises, which is logged with its name."""
    broker.driver.plugin_is_used(plugin)
    try:
        made: ClientConnection = plugin.load()(broker, peer, on_output)
    except (Exception, SystemExit) as error:
        raise plugin.failed("could not be made", error) from error
    return made
