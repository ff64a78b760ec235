"""Connections to a directory (LDAP), and what is read there. Synchronous, and waits: its callers have threads.

Each question has a connection of its own. It follows no referral: what a directory names is not told a password. Who is
asked what, and what it means, is not here (``ldap.py``, ``ldap_queries.py``).
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from amqp_broker.server.logins.backend import BackendFailed
from amqp_broker.settings import Settings

FOUND_MAX: Final = 1000  # objects of one search

SUCCESS: Final = 0  # result codes of RFC 4511
NO_SUCH_OBJECT: Final = 32
NO_NAME: Final = 34
INVALID_CREDENTIALS: Final = 49


@dataclass(frozen=True, slots=True)
class Login:
    """In whose name a directory is asked.

    Args:
        dn: empty for nobody's.
        password: that name's.
    """

    dn: str = ""
    password: bytes = field(default=b"", repr=False)


class Directory:
    """The directory that the settings name.

    Args:
        settings: which, and how long it may take.
        make: makes a connection to one host of it, ``make_connection``.
    """

    def __init__(self, settings: Settings, make: Callable[[Settings, str], Any] | None = None) -> None:
        self._settings = settings
        self._make = make_connection if make is None else make

    @contextmanager
    def as_somebody(self, login: Login) -> Iterator[Answers]:
        """What it says to one who can log in.

        Raises:
            BackendFailed: they cannot, or it cannot be asked.
        """
        with self.unless_refused(login) as answers:
            if answers is None:
                raise BackendFailed(f"{login.dn!r} cannot log in: wrong name or password")
            yield answers

    @contextmanager
    def unless_refused(self, login: Login) -> Iterator[Answers | None]:
        """What it says to one who may log in; None where name or password are wrong.

        Raises:
            BackendFailed: it cannot be asked.
        """
        with self._connected() as connection:
            yield Answers(connection, self._settings) if _is_bound(connection, login) else None

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """A connection to the first directory that can be reached, over TLS where that is wanted."""
        from ldap3.core.exceptions import LDAPException, LDAPSocketOpenError

        connection = None
        failures = []
        try:
            for host in self._settings.auth_ldap_servers:
                connection = self._make(self._settings, host)
                try:
                    connection.open(read_server_info=False)
                    break
                except LDAPSocketOpenError as error:
                    failures.append(f"{host}: {error}")
                    if connection.socket is not None:  # the library leaves it open
                        connection.socket.close()
            else:
                raise BackendFailed(f"no directory can be reached: {'; '.join(failures)}")
            if self._settings.auth_ldap_tls == "starttls":
                connection.start_tls(read_server_info=False)
            yield connection
        except LDAPException as error:
            raise BackendFailed(f"{type(error).__name__}: {error}") from error
        finally:
            if connection is not None and not connection.closed:
                connection.unbind()


class Answers:
    """The answers of a directory, over a connection that is logged in (``ldap_queries.Directory``)."""

    def __init__(self, connection: Any, settings: Settings) -> None:
        self._connection = connection
        self._groups_base = settings.auth_ldap_group_lookup_base or settings.auth_ldap_dn_lookup_base

    def exists(self, dn: str, attribute: str = "", value: str = "") -> bool:
        """Whether there is an object; with an attribute, whether it has that value there."""
        return bool(self._entries(dn, _filter(attribute, value), "BASE"))

    def values(self, dn: str, attribute: str) -> list[str]:
        """What an object's attribute has; nothing where there is no such object."""
        found = []
        for entry in self._entries(dn, _filter(), "BASE", attribute):
            for name, values in entry["raw_attributes"].items():
                if name.casefold() == attribute.casefold():
                    found += [value.decode("utf-8", "replace") for value in values]
        return found

    def groups(self, attribute: str, value: str, *, is_subtree: bool) -> list[str]:
        """The distinguished names of all groups whose attribute has a value."""
        if not self._groups_base:
            raise BackendFailed("in_group_nested needs auth_ldap_group_lookup_base: set it")
        return self.search(self._groups_base, attribute, value, is_subtree=is_subtree)

    def search(self, base: str, attribute: str, value: str, *, is_subtree: bool) -> list[str]:
        """The distinguished names of what has a value in an attribute, below another name."""
        entries = self._entries(base, _filter(attribute, value), "SUBTREE" if is_subtree else "LEVEL")
        return [entry["dn"] for entry in entries]

    def _entries(self, base: str, what: str, scope: str, attribute: str = "1.1") -> list[Any]:
        connection = self._connection
        connection.search(base, what, scope, attributes=[attribute], size_limit=FOUND_MAX)
        result = connection.result
        if result["result"] in (NO_SUCH_OBJECT, NO_NAME):
            return []
        if result["result"] != SUCCESS:
            raise BackendFailed(f"a search at {base!r} fails: {_reason(result)}")
        return [entry for entry in connection.response or () if entry["type"] == "searchResEntry"]


def make_connection(settings: Settings, host: str) -> Any:
    """A connection of ldap3 that is not open."""
    import ldap3

    patience_s = max(1, math.ceil(settings.auth_timeout_ms / 1000))
    tls = None
    if settings.auth_ldap_tls != "off":
        tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=settings.auth_ldap_tls_ca or None)
    server = ldap3.Server(
        host,
        settings.auth_ldap_port,
        use_ssl=settings.auth_ldap_tls == "on",
        tls=tls,
        get_info=ldap3.NONE,
        connect_timeout=patience_s,
    )
    return ldap3.Connection(
        server,
        auto_bind=ldap3.AUTO_BIND_NONE,
        auto_referrals=False,
        check_names=False,
        receive_timeout=patience_s,
    )


def _is_bound(connection: Any, login: Login) -> bool:
    """Whether a name and a password are right."""
    import ldap3

    if not login.dn:
        connection.authentication = ldap3.ANONYMOUS
    else:
        connection.authentication = ldap3.SIMPLE
        connection.user, connection.password = login.dn, login.password
    if connection.bind(read_server_info=False):
        return True
    if connection.result["result"] in (INVALID_CREDENTIALS, NO_SUCH_OBJECT):
        return False
    raise BackendFailed(f"a login as {login.dn!r} fails: {_reason(connection.result)}")


def _reason(result: Mapping[str, Any]) -> str:
    text = result.get("message")
    return f"{result['description']} ({text})" if text else str(result["description"])


def _filter(attribute: str = "", value: str = "") -> str:
    from ldap3.utils.conv import escape_filter_chars

    return f"({attribute}={escape_filter_chars(value)})" if attribute else "(objectClass=*)"
