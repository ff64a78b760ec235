"""A directory (LDAP), as RabbitMQ's plugin rabbitmq_auth_backend_ldap asks one: who can log in there with the password
is that user, and queries say what they may do (``ldap_queries.py``).

Each question is asked in a thread, for the library waits: of threads that nothing else of the broker needs. Needs the
extra ``ldap``. Holds no connections (``ldap_directory.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from amqp_broker.access.client import Peer
from amqp_broker.server.logins.backend import BackendFailed, Person
from amqp_broker.server.logins.failures import CannotAskBackend
from amqp_broker.server.logins.ldap_directory import Answers, Directory, Login
from amqp_broker.server.logins.ldap_queries import (
    RESOURCE,
    TOPIC,
    USER,
    USER_DN,
    VHOST,
    BadQuery,
    Check,
    Question,
    check_variables,
    fill_name,
    read_query,
    read_tag_queries,
)
from amqp_broker.settings import Settings

Answer = TypeVar("Answer")

NO_LIBRARY: Final = "needs the library ldap3: install 'amqp-broker-server[ldap]'"
AS_USER: Final = "as_user"
ANONYMOUS: Final = "anon"
THREADS_MAX: Final = 32  # that wait for the directory, with those for whose answer nobody waits any more


@dataclass(frozen=True, slots=True)
class DirectoryUser(Person):
    """A user whom the directory knows.

    Args:
        dn: the distinguished name.
        password: with which they logged in, for queries that are asked in their name.
    """

    dn: str = ""
    password: bytes | None = field(default=None, repr=False)


class LdapBackend:
    """Asks a directory.

    Args:
        settings: which one, and what.
        directory: how it is reached; the settings say it.

    Raises:
        CannotAskBackend: the library is missing, no directory is named, or a query is none.
    """

    def __init__(self, settings: Settings, directory: Directory | None = None) -> None:
        try:
            import ldap3  # noqa: F401 - whether it is there
        except ImportError as error:
            raise CannotAskBackend(f"auth_backends names ldap, which {NO_LIBRARY}") from error
        if not settings.auth_ldap_servers:
            raise CannotAskBackend("auth_backends names ldap, and auth_ldap_servers is not set: name a directory")
        ca = settings.auth_ldap_tls_ca
        if ca and not Path(ca).is_file():
            raise CannotAskBackend(f"auth_ldap_tls_ca names {ca}, which is no file")
        self._settings = settings
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        self._directory = Directory(settings) if directory is None else directory
        self._pattern = settings.auth_ldap_user_dn_pattern
        _read("user_dn_pattern", settings, lambda text: check_variables(text, ("username",)))
        self._vhost: Check = _read("vhost_access_query", settings, lambda text: read_query(text, VHOST))
        self._resource: Check = _read("resource_access_query", settings, lambda text: read_query(text, RESOURCE))
        self._topic: Check = _read("topic_access_query", settings, lambda text: read_query(text, TOPIC))
        self._tags: Sequence[tuple[str, Check]] = _read("tag_queries", settings, read_tag_queries)
        self._looked_up_by = settings.auth_ldap_dn_lookup_attribute

    # --- who

    async def authenticate(self, name: str, password: str | None, peer: Peer) -> Person | None:
        if password == "":  # to a directory that is nobody's login, and succeeds (RFC 4513, section 5.1.2)
            return None
        if password is None:
            return await self._in_thread(self._without_password, name)
        return await self._in_thread(self._authenticate, name, password.encode("utf-8", "surrogateescape"))

    def _authenticate(self, name: str, password: bytes) -> Person | None:
        settings = self._settings
        dn = fill_name(self._pattern, {"username": name})
        if not dn:  # nobody's login, which succeeds, too
            return None
        is_looked_up_before = self._looked_up_by and settings.auth_ldap_dn_lookup_bind != AS_USER
        if is_looked_up_before:
            login = self._login(settings.auth_ldap_dn_lookup_bind, settings.auth_ldap_dn_lookup_password, None)
            with self._directory.as_somebody(login) as directory:
                found = self._look_up(directory, dn)
            if found is None:
                return None
            dn = found
        with self._directory.unless_refused(Login(dn, password)) as directory:
            if directory is None:
                return None
            if self._looked_up_by and not is_looked_up_before:
                found = self._look_up(directory, dn)
                if found is None:
                    raise BackendFailed(f"there is no user with {self._looked_up_by} {dn!r}, who has logged in")
                dn = found
            if settings.auth_ldap_other_bind == AS_USER:
                return DirectoryUser(name, self._tags_of(directory, name, dn), dn=dn, password=password)
        return self._with_tags(name, dn)

    def _without_password(self, name: str) -> Person | None:
        """Somebody whose name a certificate has proved: it must be in the directory."""
        dn = fill_name(self._pattern, {"username": name})
        with self._directory.as_somebody(self._other_login()) as it:
            if self._looked_up_by:
                found = self._look_up(it, dn)
            else:
                found = dn if it.exists(dn) else None
            return None if found is None else DirectoryUser(name, self._tags_of(it, name, found), dn=found)

    def _with_tags(self, name: str, dn: str) -> Person:
        with self._directory.as_somebody(self._other_login()) as it:
            return DirectoryUser(name, self._tags_of(it, name, dn), dn=dn)

    def _tags_of(self, directory: Answers, name: str, dn: str) -> tuple[str, ...]:
        question = Question(directory, dict(zip(USER, (name, dn), strict=True)))
        return tuple(tag for tag, check in self._tags if check(question))

    def _look_up(self, directory: Answers, value: str) -> str | None:
        found = directory.search(self._settings.auth_ldap_dn_lookup_base, self._looked_up_by, value, is_subtree=True)
        if len(found) > 1:
            raise BackendFailed(f"several have {self._looked_up_by} {value!r}: {', '.join(found[:3])}")
        return found[0] if found else None

    # --- what

    async def may_enter(self, person: Person, virtual_host: str, peer: Peer) -> bool:
        return await self._in_thread(self._ask, person, self._vhost, {"vhost": virtual_host})

    async def may_access(self, person: Person, virtual_host: str, kind: str, name: str, permission: str) -> bool:
        variables = {"vhost": virtual_host, "resource": kind, "name": name, "permission": permission}
        return await self._in_thread(self._ask, person, self._resource, variables)

    async def may_use_topic(
        self, person: Person, virtual_host: str, exchange: str, routing_key: str, permission: str
    ) -> bool:
        variables = {
            "vhost": virtual_host,
            "resource": "topic",
            "name": exchange,
            "permission": permission,
            "routing_key": routing_key,
        }
        return await self._in_thread(self._ask, person, self._topic, variables)

    def _ask(self, person: Person, check: Check, variables: Mapping[str, str]) -> bool:
        known = person if isinstance(person, DirectoryUser) else self._without_password(person.name)
        if not isinstance(known, DirectoryUser):
            return False  # another back end knows them, and the directory does not
        with self._directory.as_somebody(self._other_login(known)) as directory:
            said = {"username": known.name, USER_DN: known.dn, **variables}
            return check(Question(directory, said))

    async def _in_thread(self, work: Callable[..., Answer], *arguments: Any) -> Answer:
        """What a function answers; who cancels does not wait for it."""
        return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True, limiter=self._threads)

    # --- in whose name

    def _other_login(self, user: DirectoryUser | None = None) -> Login:
        settings = self._settings
        return self._login(settings.auth_ldap_other_bind, settings.auth_ldap_other_password, user)

    def _login(self, who: str, password: str, user: DirectoryUser | None) -> Login:
        if who == ANONYMOUS:
            return Login()
        if who != AS_USER:
            return Login(who, password.encode())
        if user is None or user.password is None:
            raise BackendFailed("there is no password to ask with: set auth_ldap_other_bind to anon or to a name")
        return Login(user.dn, user.password)


def _read(name: str, settings: Settings, read: Callable[[str], Answer]) -> Answer:
    """What a setting says.

    Raises:
        CannotAskBackend: it cannot be read.
    """
    setting = f"auth_ldap_{name}"
    try:
        return read(getattr(settings, setting))
    except BadQuery as error:
        raise CannotAskBackend(f"{setting} {error}") from error
