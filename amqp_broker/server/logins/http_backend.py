"""RabbitMQ's HTTP back end (rabbitmq_auth_backend_http): a service of one's own is asked, by GET or POST, and answers
``allow``, with tags behind it where it was asked who somebody is, or ``deny``.

What is asked, and with which parameters, is that plugin's: ``user``, ``vhost``, ``resource`` and ``topic``, each with a
URL of its own. Whatever is no such answer with status 200 is no answer: the log says what came.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode, urlsplit

from amqp_broker.access.client import Peer
from amqp_broker.server.logins.backend import BackendFailed, Person
from amqp_broker.server.logins.failures import CannotAskBackend
from amqp_broker.server.logins.http_client import check_url, fetch
from amqp_broker.settings import Settings

PATHS: Final = ("auth_http_user_path", "auth_http_vhost_path", "auth_http_resource_path", "auth_http_topic_path")
SHOWN_BYTES: Final = 80


class HttpBackend:
    """Asks a service over HTTP.

    Args:
        settings: where, and how.

    Raises:
        CannotAskBackend: a URL is missing, or is none.
    """

    def __init__(self, settings: Settings) -> None:
        self._method = settings.auth_http_method.upper()
        for setting in PATHS:
            url: str = getattr(settings, setting)
            if not url:
                raise CannotAskBackend(f"auth_backends names http, and {setting} is not set: set it to a URL")
            problem = check_url(url, setting)
            if problem:
                raise CannotAskBackend(problem)
        self._user = settings.auth_http_user_path
        self._vhost = settings.auth_http_vhost_path
        self._resource = settings.auth_http_resource_path
        self._topic = settings.auth_http_topic_path

    async def authenticate(self, name: str, password: str | None, peer: Peer) -> Person | None:
        fields = {"username": name} if password is None else {"username": name, "password": password}
        answer = await self._ask(self._user, fields)
        if answer == "deny":
            return None
        word, *tags = answer.split()
        if word != "allow":
            raise _no_answer(self._user, answer)
        return Person(name, tuple(tags))

    async def may_enter(self, person: Person, virtual_host: str, peer: Peer) -> bool:
        fields = {"username": person.name, "vhost": virtual_host, "ip": _ip_of(peer), "tags": " ".join(person.tags)}
        return await self._is_allowed(self._vhost, fields)

    async def may_access(self, person: Person, virtual_host: str, kind: str, name: str, permission: str) -> bool:
        fields = {
            "username": person.name,
            "vhost": virtual_host,
            "resource": kind,
            "name": name,
            "permission": permission,
            "tags": " ".join(person.tags),
        }
        return await self._is_allowed(self._resource, fields)

    async def may_use_topic(
        self, person: Person, virtual_host: str, exchange: str, routing_key: str, permission: str
    ) -> bool:
        fields = {
            "username": person.name,
            "vhost": virtual_host,
            "resource": "topic",
            "name": exchange,
            "permission": permission,
            "routing_key": routing_key,
            "tags": " ".join(person.tags),
            "variable_map.username": person.name,
            "variable_map.vhost": virtual_host,
        }
        if person.client_id is not None:
            fields["variable_map.client_id"] = person.client_id
        return await self._is_allowed(self._topic, fields)

    async def _is_allowed(self, url: str, fields: dict[str, str]) -> bool:
        answer = await self._ask(url, fields)
        if answer not in ("allow", "deny"):
            raise _no_answer(url, answer)
        return answer == "allow"

    async def _ask(self, url: str, fields: dict[str, str]) -> str:
        form = urlencode(fields, errors="surrogateescape")
        if self._method == "GET":
            status, body = await fetch(f"{url}{'&' if urlsplit(url).query else '?'}{form}")
        else:
            status, body = await fetch(url, "POST", form)
        if status not in (200, 201):
            raise BackendFailed(f"{url} answers with status {status}")
        return body.decode("utf-8", "replace").strip().lower()


def _ip_of(peer: Peer) -> str:
    """The address of who logs in; a service may read no other words."""
    return "127.0.0.1" if peer.direct_name else peer.host


def _no_answer(url: str, answer: str) -> BackendFailed:
    return BackendFailed(f"{url} answers neither allow nor deny: {answer[:SHOWN_BYTES]!r}")
