"""Users: listed, looked at, added, changed and deleted; and how often somebody has logged in."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs

import trio

from amqp_broker.access.passwords import SCRYPT, SHA256, PasswordHash, UnknownAlgorithm, hash_password
from amqp_broker.access.users import NO_PASSWORD, User
from amqp_broker.broker.problems import AdministrationError
from amqp_broker.broker.user_administration import password_bytes
from amqp_broker.management.api.fields import names, need
from amqp_broker.management.api.lists import Listing, answer_one
from amqp_broker.management.http.authentication import MANAGEMENT, has_tag, log_in
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json, bad_request, no_such_object, not_authorised
from amqp_broker.management.http.router import Access, Endpoint


def describe(user: User) -> dict[str, Any]:
    """A row of the list."""
    limits = {"max-connections": user.limits.connections_max, "max-channels": user.limits.channels_max}
    return {
        "name": user.name,
        "password_hash": base64.b64encode(user.password_hash.value).decode(),
        "hashing_algorithm": user.password_hash.algorithm,
        "tags": list(user.tags),
        "limits": {name: limit for name, limit in limits.items() if limit is not None},
    }


def _find(call: Call) -> User:
    user = call.broker.users.get(call.variables["user"])
    if user is None:
        raise no_such_object()
    return user


async def _listed(call: Call, users: list[User]) -> Answer:
    users.sort(key=lambda user: user.name)
    return await Listing(call, users, describe, lambda one: one.name, has_pages=False).answer()


async def list_users(call: Call) -> Answer:
    """The users, by name."""
    return await _listed(call, list(call.broker.users))


async def list_users_without_permissions(call: Call) -> Answer:
    """The users who may do nothing anywhere."""
    return await _listed(call, [user for user in call.broker.users if not user.permissions])


async def show_user(call: Call) -> Answer:
    """A user."""
    return await answer_one(call, describe(_find(call)))


async def put_user(call: Call) -> Answer:
    """Add a user, or change password and tags."""
    name, body = call.variables["user"], call.body()
    if "tags" not in body and "administrator" not in body:
        raise bad_request("tags_not_present")
    tags = names(body.get("tags", "administrator" if body.get("administrator") else ""))
    stored = await _password(body)
    exists = call.broker.users.get(name) is not None

    def put() -> None:
        if call.broker.users.get(name) is None:
            call.administration.add_user(name, stored, tags)
        else:
            call.administration.change_password(name, stored)
            call.administration.set_tags(name, tags)

    await call.change(put)
    return Answer(204 if exists else 201)


async def _password(body: dict[str, Any]) -> PasswordHash:
    """The hash that a user is to have; that of nobody's password where none is given."""
    if "password" in body and "password_hash" in body:
        raise bad_request("both_password_and_password_hash_are_provided")
    if "password_hash" in body:
        return _hash_of(body["password_hash"], body.get("hashing_algorithm", SHA256))
    password = body.get("password")
    if password is None or password == "":
        return NO_PASSWORD
    if not isinstance(password, str):
        raise bad_request(["not_string", "password"])
    try:
        encoded = password_bytes(password)
    except AdministrationError as error:
        raise bad_request(str(error)) from error
    return await trio.to_thread.run_sync(hash_password, encoded, SCRYPT)


def _hash_of(encoded: object, algorithm: object) -> PasswordHash:
    try:
        if not isinstance(encoded, str) or not isinstance(algorithm, str):
            raise bad_request("a hash and its algorithm are texts")
        return PasswordHash(algorithm, base64.b64decode(encoded, validate=True))
    except UnknownAlgorithm as error:
        raise bad_request(str(error)) from error
    except ValueError as error:
        raise bad_request(["not_base64", encoded]) from error


async def delete_user(call: Call) -> Answer:
    """Delete a user, and close their connections."""
    name = _find(call).name
    await call.change(lambda: call.administration.delete_user(name))
    return Answer(204)


async def delete_users(call: Call) -> Answer:
    """Delete several: all, or none when one is not there."""
    body = call.body()
    need(body, "users")
    names = body["users"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise bad_request("users must be a list of names")
    for name in names:
        if call.broker.users.get(name) is None:
            raise bad_request(["no_such_user", name])

    def delete() -> None:
        for name in dict.fromkeys(names):
            call.administration.delete_user(name)

    await call.change(delete)
    return Answer(204)


# --- logins


async def log_in_by_form(call: Call) -> Answer:
    """Whether a user name and a password are right."""
    form = parse_qs(call.raw_body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=10)
    name, password = (form.get(field, [""])[0] for field in ("username", "password"))
    user = await log_in(call.management, call.peer, name, password.encode())
    if not has_tag(user, MANAGEMENT):
        raise not_authorised("Not management user")
    return answer_json("ok")


async def show_authentication(call: Call) -> Answer:
    """How to authenticate: not by OAuth."""
    return answer_json({"enable_uaa": False, "oauth_enabled": False, "uaa_client_id": "", "uaa_location": ""})


async def list_attempts(call: Call) -> Answer:
    """How often somebody has tried to log in here."""
    succeeded, failed = call.management.http_logins["succeeded"], call.management.http_logins["failed"]
    attempts = {
        "protocol": "http",
        "auth_attempts": succeeded + failed,
        "auth_attempts_failed": failed,
        "auth_attempts_succeeded": succeeded,
    }
    return answer_json([attempts])


async def list_attempts_by_source(call: Call) -> Answer:
    """The same by user and address, which is not counted."""
    return answer_json([])


async def forget_attempts(call: Call) -> Answer:
    """Count anew."""
    call.management.http_logins.update(succeeded=0, failed=0)
    return Answer(204)


async def show_hash(call: Call) -> Answer:
    """The hash of a password, as RabbitMQ keeps it."""
    stored = await trio.to_thread.run_sync(hash_password, call.variables["password"].encode(), SHA256)
    return answer_json({"ok": base64.b64encode(stored.value).decode()})


ENDPOINTS = (
    Endpoint("/api/users", {"GET": (Access.ADMINISTRATOR, list_users)}),
    Endpoint(
        "/api/users/{user}",
        {
            "GET": (Access.ADMINISTRATOR, show_user),
            "PUT": (Access.ADMINISTRATOR, put_user),
            "DELETE": (Access.ADMINISTRATOR, delete_user),
        },
    ),
    Endpoint("/api/users/without-permissions", {"GET": (Access.ADMINISTRATOR, list_users_without_permissions)}),
    Endpoint("/api/users/bulk-delete", {"POST": (Access.ADMINISTRATOR, delete_users)}),
    Endpoint("/api/login", {"POST": (Access.ANYBODY, log_in_by_form)}),
    Endpoint("/api/auth", {"GET": (Access.ANYBODY, show_authentication)}),
    Endpoint("/api/auth/hash_password/{password}", {"GET": (Access.ADMINISTRATOR, show_hash)}),
    Endpoint(
        "/api/auth/attempts/{node}",
        {"GET": (Access.MONITORING, list_attempts), "DELETE": (Access.MONITORING, forget_attempts)},
    ),
    Endpoint(
        "/api/auth/attempts/{node}/source",
        {"GET": (Access.MONITORING, list_attempts_by_source), "DELETE": (Access.MONITORING, forget_attempts)},
    ),
)
