"""OAuth 2: the password is a token, a JWT that one of the keys of a JWKS has signed (RabbitMQ docs, "OAuth 2").

Who somebody is, until when, and what they may do all stand in the token: ``read:VHOST/NAME/KEY``, ``write:`` and
``configure:``, with ``*`` for anything, and ``tag:administrator``, each behind a prefix. The audience must be this
broker's. Keys are read when the first token comes, and again when one names a key that is not there.

Needs the extra ``oauth2``. Symmetric keys are not taken: who can check them could sign.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import trio

from amqp_broker.access.client import Peer
from amqp_broker.explanations import system_reason
from amqp_broker.logs import log_event
from amqp_broker.server.logins.backend import BackendFailed, Person
from amqp_broker.server.logins.failures import CannotAskBackend
from amqp_broker.server.logins.http_client import fetch
from amqp_broker.settings import Settings

if TYPE_CHECKING:
    from jwt import PyJWK

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
KEYS_AGAIN_S: Final = 10.0  # tokens of unknown keys make the keys be read so often, and no more
PERMISSIONS: Final = frozenset({"configure", "write", "read"})
NO_LIBRARY: Final = "needs the library PyJWT: install 'amqp-broker-server[oauth2]'"


class OAuth2Backend:
    """Reads tokens.

    Args:
        settings: whose tokens, and where the keys are.

    Raises:
        CannotAskBackend: the library is missing, or a setting is.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            import cryptography  # noqa: F401 - the algorithms need it
            import jwt
        except ImportError as error:
            raise CannotAskBackend(f"auth_backends names oauth2, which {NO_LIBRARY}") from error
        for name in ("auth_oauth2_resource_server_id", "auth_oauth2_jwks"):
            if not getattr(settings, name):
                raise CannotAskBackend(f"auth_backends names oauth2, and {name} is not set: set it")
        self._jwt = jwt
        self._audience = settings.auth_oauth2_resource_server_id
        self._issuer = settings.auth_oauth2_issuer or None
        self._prefix = settings.auth_oauth2_scope_prefix or f"{self._audience}."
        self._name_claims = settings.auth_oauth2_username_claims
        self._jwks = settings.auth_oauth2_jwks
        self._keys: dict[str | None, PyJWK] = {}
        self._read_s: float | None = None

    # --- who

    async def authenticate(self, name: str, password: str | None, peer: Peer) -> Person | None:
        """The name that a client gives means nothing: who it is says the token."""
        if password is None:
            return None
        jwt = self._jwt
        try:
            key = await self._key_of(password)
            claims = jwt.decode(
                password,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._audience,
                issuer=self._issuer,
                options={"require": ["exp", "aud"]},
            )
        except jwt.InvalidTokenError as error:
            log_event(logging.INFO, "token refused", user=name, reason=str(error))
            return None
        scopes = self._scopes(claims)
        tags = [scope.removeprefix("tag:") for scope in scopes if scope.startswith("tag:")]
        user_name = next((claims[claim] for claim in self._name_claims if isinstance(claims.get(claim), str)), name)
        return Person(user_name, tuple(tags), " ".join(scopes), int(claims["exp"]) * 1000)

    async def _key_of(self, token: str) -> PyJWK:
        """The key that a token names, or the only one.

        Raises:
            BackendFailed: the keys cannot be read.
            InvalidTokenError: there is no such key, or it is no token at all.
        """
        name = self._jwt.get_unverified_header(token).get("kid")
        if self._find(name) is None and self._may_read_again():
            await self._read_keys()
        key = self._find(name)
        if key is None:
            raise self._jwt.InvalidTokenError(f"{self._jwks} has no key {name!r}")
        return key

    def _find(self, name: str | None) -> PyJWK | None:
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(name)

    def _may_read_again(self) -> bool:
        return self._read_s is None or time.monotonic() - self._read_s >= KEYS_AGAIN_S

    async def _read_keys(self) -> None:
        jwt = self._jwt
        try:
            if self._jwks.startswith(("http://", "https://")):
                status, body = await fetch(self._jwks)
                if status != 200:
                    raise BackendFailed(f"{self._jwks} answers with status {status}")
            else:
                body = await trio.to_thread.run_sync(Path(self._jwks).read_bytes)
            keys = jwt.PyJWKSet.from_dict(json.loads(body)).keys
        except OSError as error:
            raise BackendFailed(f"{self._jwks} cannot be read: {system_reason(error)}") from error
        except (ValueError, AttributeError, jwt.PyJWTError) as error:
            raise BackendFailed(f"{self._jwks} is no set of keys: {error}") from error
        self._read_s = time.monotonic()
        self._keys = {key.key_id: key for key in keys if key.key_type != "oct"}

    def _scopes(self, claims: Mapping[str, Any]) -> list[str]:
        """What the token says about this broker, without the prefix."""
        scope = claims.get("scope", ())
        scopes = scope.split() if isinstance(scope, str) else scope if isinstance(scope, list) else ()
        return [
            one.removeprefix(self._prefix) for one in scopes if isinstance(one, str) and one.startswith(self._prefix)
        ]

    # --- what

    async def may_enter(self, person: Person, virtual_host: str, peer: Peer) -> bool:
        return any(_matches(parts[0], virtual_host) for _, parts in _permissions(person))

    async def may_access(self, person: Person, virtual_host: str, kind: str, name: str, permission: str) -> bool:
        return any(
            granted == permission and _matches(parts[0], virtual_host) and _matches(parts[1], name)
            for granted, parts in _permissions(person)
        )

    async def may_use_topic(
        self, person: Person, virtual_host: str, exchange: str, routing_key: str, permission: str
    ) -> bool:
        wanted = (virtual_host, exchange, routing_key)
        return any(
            granted == permission and all(_matches(*pair) for pair in zip(parts, wanted, strict=True))
            for granted, parts in _permissions(person)
        )


def _permissions(person: Person) -> list[tuple[str, Sequence[str]]]:
    """Each permission that a token gives, with its patterns of virtual host, name and routing key."""
    found: list[tuple[str, Sequence[str]]] = []
    for scope in person.token.split():
        permission, colon, rest = scope.partition(":")
        parts = rest.split("/")
        if permission in PERMISSIONS and colon and 2 <= len(parts) <= 3:
            found.append((permission, (*parts, "*")[:3]))
    return found


def _matches(pattern: str, text: str) -> bool:
    """Whether a text is as a pattern says: ``*`` is anything, ``%2F`` a slash."""
    first, *others = [unquote(part) for part in pattern.split("*")]
    if not others:
        return text == first
    if not text.startswith(first):
        return False
    position = len(first)
    for part in others[:-1]:
        position = text.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return len(text) - len(others[-1]) >= position and text.endswith(others[-1])
