"""Logging in to the page and out again: the session that a cookie stands for."""

from __future__ import annotations

from typing import Any

from amqp_broker import __version__
from amqp_broker.management.api.fields import need, text
from amqp_broker.management.http.authentication import MANAGEMENT, has_tag, log_in
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, HttpError, answer_json, not_authorised
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.management.http.sessions import CSRF_HEADER, Session, cookie_of, token_of


def _session(call: Call) -> tuple[str, Session] | None:
    token = token_of(call.request.headers.get("cookie"))
    if token is None:
        return None
    session = call.management.sessions.find(token, call.broker.users.get)
    return None if session is None else (token, session)


def _describe(call: Call, session: Session) -> dict[str, Any]:
    user = session.user
    return {
        "name": user.name,
        "tags": list(user.tags),
        "vhosts": sorted(user.permissions),
        "csrf": session.csrf,
        "version": __version__,
        "cluster_name": call.management.cluster_name,
    }


async def begin(call: Call) -> Answer:
    """Log in by name and password; the cookie comes with the answer."""
    body = call.body()
    need(body, "username", "password")
    name, password = text(body, "username"), text(body, "password").encode()
    try:
        user = await log_in(call.management, call.peer, name, password)
    except HttpError as error:
        error.headers.pop("www-authenticate", None)  # the page has a form
        raise
    if not has_tag(user, MANAGEMENT):
        raise not_authorised("Not management user")
    token, session = call.management.sessions.begin(user)
    answer = answer_json(_describe(call, session))
    answer.headers = {"set-cookie": cookie_of(token, call.peer), "cache-control": "no-store"}
    return answer


async def show(call: Call) -> Answer:
    """Who has logged in, and the secret that changes need; null where nobody has."""
    found = _session(call)
    answer = answer_json(None if found is None else _describe(call, found[1]))
    answer.headers = {"cache-control": "no-store"}
    return answer


async def end(call: Call) -> Answer:
    """Log out."""
    found = _session(call)
    if found is not None:
        token, session = found
        if not session.takes(call.request.headers.get(CSRF_HEADER, "")):
            raise HttpError(403, "not_authorised", f"With a session, a change needs the header {CSRF_HEADER}")
        call.management.sessions.end(token)
    return Answer(204, headers={"set-cookie": cookie_of("", call.peer)})


ENDPOINTS = (
    Endpoint(
        "/api/x/session",
        {"POST": (Access.ANYBODY, begin), "GET": (Access.ANYBODY, show), "DELETE": (Access.ANYBODY, end)},
    ),
)
