"""Who may call which endpoint, as RabbitMQ 4.0.5 answered each user (``interop/test_management_rights.py`` asks).

What a handler refuses is not asked here: who may not see other users' connections, and what permissions let one do.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from amqp_broker.access.passwords import SHA256, PasswordHash
from amqp_broker.access.users import User
from amqp_broker.management.api.endpoints import ENDPOINTS
from amqp_broker.management.http.authentication import NOTHING_BY_PATTERN, check_access
from amqp_broker.management.http.messages import HttpError
from amqp_broker.management.http.router import Access, Router
from interop.management_rights import (
    HERE,
    LETTERS,
    PLACES,
    THERE,
    USERS,
    is_of_no_endpoint,
    refusals,
    table,
)

BY_HANDLERS = "R"  # with permissions in the virtual host, where others decide as well
OF_HANDLERS = ("MINE", "THEIRS", "username")
MANAGEMENT: Any = SimpleNamespace(broker=SimpleNamespace(virtual_hosts={HERE: None, THERE: None}))


def user_of(tag: str) -> User:
    tags = () if tag == "none" else (tag,)
    return User(tag, PasswordHash(SHA256, b""), tags, permissions={HERE: NOTHING_BY_PATTERN})


def letter_of(user: User, access: Access, variables: dict[str, str]) -> str:
    """Why a user is refused; empty where they are not."""
    try:
        if access is not Access.ANYBODY:
            check_access(MANAGEMENT, user, access, variables)
    except HttpError as refused:
        return LETTERS[str(refused.reason)]
    return ""


def test_endpoints_are_for_whom_rabbitmq_has_them() -> None:
    router, different, asked = Router(ENDPOINTS), [], 0
    for request, wanted in (refusals(line) for line in table("4.0") if not is_of_no_endpoint(line)):
        method, path = request.split(" ")
        places = PLACES if "VHOST" in path else ("",)
        if any(name in path for name in OF_HANDLERS):
            continue
        for tag, cells in zip(USERS, wanted, strict=True):
            for place, cell in zip(places, cells, strict=True):
                found = router.find(segments(path.replace("VHOST", place)))
                assert found is not None
                endpoint, variables = found
                letter = cell if cell in LETTERS.values() and cell != BY_HANDLERS else ""
                ours = letter_of(user_of(tag), endpoint.methods[method][0], variables)
                asked += 1
                if ours != letter:
                    different.append((request, tag, place, ours, letter))
    assert not different
    assert asked > 1_000


def segments(path: str) -> tuple[str, ...]:
    return tuple(path[1:].split("/"))
