"""SASL and ``open``: who the client is, and whether it may come in (AMQP 1.0, part 5 and 2.4).

Who may log in is found out by ``session/login.py``. Holds nothing that lasts.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, Final

from amqp_broker import __version__
from amqp_broker.access.client import Client
from amqp_broker.behaviour import BEHAVIOURS
from amqp_broker.broker.names import node_of
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.amqp10.compound import Map
from amqp_broker.protocols.amqp10.encoding import symbols
from amqp_broker.protocols.amqp10.errors import (
    NOT_ALLOWED,
    NOT_FOUND,
    RESOURCE_LIMIT_EXCEEDED,
    UNAUTHORIZED_ACCESS,
    ProtocolError,
    Scope,
)
from amqp_broker.protocols.amqp10.performatives import Fields, open_performative
from amqp_broker.protocols.amqp10.typed import Symbol
from amqp_broker.session.login import ANONYMOUS, Login, Refusal, Refused

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.settings import Settings

VIRTUAL_HOST_PREFIX: Final = "vhost:"
IDLE_MS_MIN: Final = 1_000  # of a client that wants to hear something


def authenticate(login: Login, mechanism: str, response: bytes) -> None:
    """Find out who a client is.

    Raises:
        Refused: it is nobody that may log in from there.
        NotVerifiedYet: to be asked again when the password is verified.
    """
    if mechanism == ANONYMOUS:
        login.authenticate_anonymous()
    else:
        login.authenticate(mechanism, response)


def enter(broker: Broker, login: Login, fields: Fields) -> tuple[Client, VirtualHost]:
    """Enter the virtual host that ``open`` names.

    Raises:
        ProtocolError: there is no such virtual host, or the client may not be there.
    """
    hostname = fields.text(1) or ""
    name = broker.settings.default_virtual_host
    if hostname.startswith(VIRTUAL_HOST_PREFIX):
        name = hostname[len(VIRTUAL_HOST_PREFIX) :]
    try:
        return login.enter(name)
    except Refused as refused:
        condition = NOT_FOUND if refused.reason is Refusal.UNKNOWN_VIRTUAL_HOST else RESOURCE_LIMIT_EXCEEDED
        raise ProtocolError(condition, str(refused), Scope.CONNECTION) from refused
    except AmqpError as error:
        raise ProtocolError(UNAUTHORIZED_ACCESS, error.explanation, Scope.CONNECTION) from error


def idle_ms_of(fields: Fields) -> int:
    """After which time the client wants to have heard something, in milliseconds; 0 for never.

    Raises:
        ProtocolError: it is too short.
    """
    idle_ms = fields.number(4) or 0
    if 0 < idle_ms < IDLE_MS_MIN:
        text = f"idle-time-out ({idle_ms} ms) < minimum idle-time-out ({IDLE_MS_MIN} ms)"
        raise ProtocolError(NOT_ALLOWED, text, Scope.CONNECTION)
    return idle_ms


def open_answer(settings: Settings, channel_max: int, idle_ms: int) -> bytes:
    """Our ``open``."""
    pairs: list[tuple[Any, Any]] = [
        (Symbol("cluster_name"), settings.cluster_name),
        (Symbol("copyright"), "Copyright the amqp-broker authors."),
        (Symbol("information"), "Licensed under the Apache License, Version 2.0."),
        (Symbol("platform"), f"Python {platform.python_version()}"),
        (Symbol("product"), settings.product),
        (Symbol("version"), settings.product_version or BEHAVIOURS[settings.behave_like].version),
        (Symbol("node"), node_of(settings.node_name)),
        (Symbol("broker"), "amqp-broker"),
        (Symbol("broker_version"), __version__),
    ]
    capabilities = symbols("LINK_PAIR_V1_0", "ANONYMOUS-RELAY")
    return open_performative(
        settings.cluster_name, settings.frame_size_bytes_max, channel_max, idle_ms, capabilities, Map(pairs)
    )
