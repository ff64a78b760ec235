"""The login: PeerProperties, SaslHandshake, SaslAuthenticate, Tune, Open, in this order.

Who may log in is found out by ``session/login.py``. Holds nothing that lasts.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from amqp_broker import __version__
from amqp_broker.access.client import Client
from amqp_broker.behaviour import BEHAVIOURS
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.stream import codes
from amqp_broker.protocols.stream.errors import RequestRefused
from amqp_broker.session.login import ANONYMOUS, Login, Refusal, Refused

if TYPE_CHECKING:
    from amqp_broker.access.client import Peer
    from amqp_broker.settings import Settings


def server_properties(settings: Settings) -> dict[str, str]:
    """What the broker says of itself, with RabbitMQ's keys and two of our own."""
    return {
        "cluster_name": settings.cluster_name,
        "copyright": "Copyright the amqp-broker authors.",
        "information": "Licensed under the Apache License, Version 2.0.",
        "platform": f"Python {platform.python_version()}",
        "product": settings.product,
        "version": settings.product_version or BEHAVIOURS[settings.behave_like].version,
        "broker": "amqp-broker",
        "broker_version": __version__,
    }


def mechanisms(login: Login, settings: Settings) -> tuple[str, ...]:
    """The names of the SASL mechanisms that a client may use."""
    has_anonymous = BEHAVIOURS[settings.behave_like].streams_have_anonymous
    return login.mechanisms_with_anonymous if has_anonymous else login.mechanisms


def authenticate(login: Login, mechanism: str, response: bytes, *, is_loopback: bool, settings: Settings) -> None:
    """Find out who a client is.

    Raises:
        RequestRefused: it is nobody that may log in from there.
        NotVerifiedYet, NotDecidedYet: to be asked again when that is known.
    """
    try:
        if mechanism == ANONYMOUS and ANONYMOUS in mechanisms(login, settings):
            login.authenticate_anonymous()
        else:
            login.authenticate(mechanism, response)
    except Refused as refused:
        if refused.reason is Refusal.UNKNOWN_MECHANISM:
            raise RequestRefused(codes.SASL_MECHANISM_NOT_SUPPORTED, reason=str(refused)) from refused
        if refused.reason is Refusal.MALFORMED_RESPONSE:
            raise RequestRefused(codes.SASL_ERROR, reason=str(refused)) from refused
        if not is_loopback and login.claimed_name in settings.loopback_users:
            raise RequestRefused(codes.SASL_AUTHENTICATION_FAILURE_LOOPBACK, reason=str(refused)) from refused
        raise RequestRefused(codes.AUTHENTICATION_FAILURE, reason=str(refused)) from refused


def enter(login: Login, name: str) -> tuple[Client, VirtualHost]:
    """Enter a virtual host.

    Raises:
        RequestRefused: the client may not.
    """
    try:
        return login.enter(name)
    except (Refused, AmqpError) as refused:
        raise RequestRefused(codes.VIRTUAL_HOST_ACCESS_FAILURE, reason=str(refused)) from refused


def advertised_address(settings: Settings, peer: Peer) -> tuple[str, int]:
    """Under which address clients are told to connect: where this one came to, unless it was chosen."""
    host = settings.stream_advertised_host or peer.our_host or "localhost"
    return host, settings.stream_advertised_port or peer.our_port
