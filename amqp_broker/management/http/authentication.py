"""Authentication and access of who asks: HTTP's Basic authentication, RabbitMQ's tags, and the access of each endpoint.

Passwords are verified as for AMQP: the slow ones in threads, two at a time, whoever asks, and a wrong one ends the
connection. Holds no users.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

import trio

from amqp_broker.access.client import Peer
from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.access.passwords import NotVerifiedYet
from amqp_broker.access.users import NOTHING, Permission, User
from amqp_broker.management.http.messages import HttpError, not_authorised
from amqp_broker.management.http.router import Access
from amqp_broker.session.login import Login, Refused

if TYPE_CHECKING:
    from amqp_broker.management.managed_server import ManagedServer

CHALLENGE = 'Basic realm="RabbitMQ Management"'

# Which tags let somebody do what a tag lets one do.
MANAGEMENT = frozenset({"management", "policymaker", "monitoring", "administrator"})
POLICYMAKER = frozenset({"policymaker", "administrator"})
MONITORING = frozenset({"monitoring", "administrator"})
ADMINISTRATOR = frozenset({"administrator"})
NOTHING_BY_PATTERN = Permission(NOTHING, NOTHING, NOTHING)


async def user_of(management: ManagedServer, peer: Peer, authorization: str | None) -> User:
    """The user whose name and password a request carries.

    Raises:
        HttpError: 401.
    """
    if authorization is None:
        raise HttpError(401, www_authenticate=CHALLENGE)
    scheme, _, encoded = authorization.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        if not colon:
            raise ValueError
        user_name = name.decode()
    except (ValueError, binascii.Error) as error:
        raise _login_failed() from error
    return await log_in(management, peer, user_name, password)


async def log_in(management: ManagedServer, peer: Peer, name: str, password: bytes) -> User:
    """The user of this name, if the password is theirs and they may log in from there.

    Raises:
        HttpError: 401.
    """
    login = Login(management.broker, peer)
    while True:
        try:
            login.authenticate_by_password(name, password)
            break
        except Refused as refused:
            management.http_logins["failed"] += 1
            raise _login_failed() from refused
        except NotVerifiedYet as check:
            verified = trio.Event()
            management.server.driver.verify_password(check, verified.set, lambda: True)
            await verified.wait()
        except NotDecidedYet as undecided:
            await decided(undecided)
    management.http_logins["succeeded"] += 1
    user = login.user
    if user.judge is None:
        return user
    for virtual_host in list(management.broker.virtual_hosts):
        if await _may_enter(user, virtual_host):
            user.permissions[virtual_host] = NOTHING_BY_PATTERN  # they are there; what they may do is the judge's
    return user


async def decided(undecided: NotDecidedYet) -> None:
    """Wait until what was asked for elsewhere is known."""
    event = trio.Event()
    undecided.wait(event.set)
    await event.wait()


async def _may_enter(user: User, virtual_host: str) -> bool:
    while True:
        try:
            return bool(user.judge.may_enter(virtual_host))
        except NotDecidedYet as undecided:
            await decided(undecided)


def _login_failed() -> HttpError:
    """As on AMQP, a guess costs a connection."""
    return HttpError(401, "not_authorized", "Login failed", www_authenticate=CHALLENGE, connection="close")


def has_tag(user: User, tags: frozenset[str]) -> bool:
    """Whether a user has one of these tags."""
    return not tags.isdisjoint(user.tags)


def may_see(user: User, virtual_host: str) -> bool:
    """Whether a user sees that there is a virtual host, and its sums."""
    return virtual_host in user.permissions or has_tag(user, MONITORING)


def may_look_into(user: User, virtual_host: str) -> bool:
    """Whether a user sees what there is in a virtual host."""
    return virtual_host in user.permissions or has_tag(user, ADMINISTRATOR)


def check_access(management: ManagedServer, user: User, access: Access, variables: dict[str, str]) -> None:
    """See that a user may call an endpoint.

    Raises:
        HttpError: 401.
    """
    if not has_tag(user, MANAGEMENT):
        raise not_authorised("Not management user")
    virtual_host = variables.get("vhost")
    is_there = virtual_host in management.broker.virtual_hosts
    match access:
        case Access.ADMINISTRATOR if not has_tag(user, ADMINISTRATOR):
            raise not_authorised("Not administrator user")
        case Access.MONITORING if not has_tag(user, MONITORING):
            raise not_authorised("Not monitor user")
        case Access.GLOBAL_POLICYMAKER if not has_tag(user, POLICYMAKER):
            raise not_authorised("User not authorised to access object")
        case Access.POLICYMAKER:
            if not has_tag(user, POLICYMAKER) or (is_there and not may_look_into(user, str(virtual_host))):
                raise not_authorised("User not authorised to access object")
        case Access.VIRTUAL_HOST if is_there and not may_look_into(user, str(virtual_host)):
            raise not_authorised("User not authorised to access virtual host")
        case Access.VISIBLE_VIRTUAL_HOST if is_there and not may_see(user, str(virtual_host)):
            raise not_authorised("User not authorised to access virtual host")
