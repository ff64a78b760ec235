"""CONNECT: the version that is spoken, who the client is, and its heart-beats (STOMP 1.2, "Connecting").

Who may log in is found out by ``session/login.py``; the header ``host`` names the virtual host. Holds nothing that
lasts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.access.client import Client
from amqp_broker.access.mechanisms import EXTERNAL
from amqp_broker.behaviour import BEHAVIOURS
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.errors import AmqpError
from amqp_broker.protocols.stomp.errors import StompError
from amqp_broker.protocols.stomp.frames import Frame, Headers
from amqp_broker.session.login import NOBODY, Login, Refusal, Refused

if TYPE_CHECKING:
    from amqp_broker.broker.broker import Broker
    from amqp_broker.settings import Settings

VERSIONS: Final = ("1.0", "1.1", "1.2")
BAD_CONNECT: Final = "Bad CONNECT"
INTERVAL_MS_MAX: Final = 4_294_967_295


class Admitted:
    """A client that may come in."""

    __slots__ = ("client", "virtual_host")

    def __init__(self, client: Client, virtual_host: VirtualHost) -> None:
        self.client = client
        self.virtual_host = virtual_host


def version_of(frame: Frame) -> str:
    """The best version that both speak; a client that names none speaks 1.0.

    Raises:
        StompError: there is none.
    """
    offered = frame.headers.get("accept-version", VERSIONS[0]).split(",")
    common = [version for version in VERSIONS if version in offered]
    if not common:
        raise StompError("Version mismatch", f"Supported versions are {','.join(VERSIONS)}\n", closes=True)
    return common[-1]


def admit(broker: Broker, login: Login, frame: Frame, *, has_certificate: bool, is_loopback: bool) -> Admitted:
    """Find out who a client is, and whether it may come in.

    Raises:
        StompError: it may not.
        NotVerifiedYet: to be asked again when the password is verified.
    """
    settings = broker.settings
    virtual_host_name = frame.headers.get("host", settings.default_virtual_host)
    try:
        if "login" not in frame.headers and has_certificate:
            login.authenticate(EXTERNAL, b"")
        else:
            user = frame.headers.get("login", settings.anonymous_login_user)
            password = frame.headers.get("passcode", settings.anonymous_login_password)
            login.claimed_name = user
            if "login" not in frame.headers and user == NOBODY:
                raise _refused("Access refused without a user name")
            if user in settings.loopback_users and not is_loopback:
                raise _refused("non-loopback access denied")
            login.authenticate_by_password(user, password.encode("utf-8", "surrogateescape"))
        client, virtual_host = login.enter(virtual_host_name)
    except Refused as refused:
        raise _refused(_words_for(refused, login, virtual_host_name)) from refused
    except AmqpError as error:
        raise _refused(f"Virtual host '{virtual_host_name}' access denied") from error
    return Admitted(client, virtual_host)


def _words_for(refused: Refused, login: Login, virtual_host_name: str) -> str:
    """What the client is told, in RabbitMQ's words."""
    if refused.reason is Refusal.UNKNOWN_VIRTUAL_HOST:
        return f"Virtual host '{virtual_host_name}' access denied"
    if refused.reason is Refusal.TOO_MANY_CONNECTIONS:
        return str(refused)
    return f"Access refused for user '{login.claimed_name}'"


def _refused(detail: str) -> StompError:
    return StompError(BAD_CONNECT, detail, closes=True)


def heart_beat_of(frame: Frame) -> tuple[int, int]:
    """How often something is to be heard of us, and of the client, in seconds; 0 for never.

    Whole seconds, one at least, as with RabbitMQ.

    Raises:
        StompError: the header is malformed.
    """
    text = frame.headers.get("heart-beat", "0,0")
    of_client, comma, of_us = text.partition(",")
    if not (comma and _is_interval(of_client) and _is_interval(of_us)):
        raise StompError(BAD_CONNECT, f"heart-beat takes two numbers of milliseconds, not '{text[:50]}'", closes=True)
    return _seconds(int(of_us)), _seconds(int(of_client))


def _is_interval(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= INTERVAL_MS_MAX


def _seconds(interval_ms: int) -> int:
    return max(interval_ms // 1000, 1) if interval_ms else 0


def connected_headers(settings: Settings, session_id: str, heart_beat: tuple[int, int], version: str) -> Headers:
    """The headers of CONNECTED, in RabbitMQ's order."""
    send_s, receive_s = heart_beat
    return {
        "server": f"{settings.product}/{settings.product_version or BEHAVIOURS[settings.behave_like].version}",
        "session": session_id,
        "heart-beat": f"{send_s * 1000},{receive_s * 1000}",
        "version": version,
    }
