"""Sessions of the page: a cookie stands for the password from then on, and a second secret for each change.

The cookie is out of scripts' reach (HttpOnly) and is not sent from other sites (SameSite=Strict). A change that is
asked for with the cookie alone is refused: it needs the secret that the page was told at its login, in a header that no
form of another site can send. A session ends with the user, with their password, when it is not used for eight hours,
and with the broker. Holds no passwords and no endpoint.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from amqp_broker.access.client import Peer
from amqp_broker.access.users import User

COOKIE = "amqp_broker_session"
CSRF_HEADER = "x-csrf-token"
UNUSED_S = 8 * 3600
JUDGED_S = 3600  # of a user whom others know: then they are asked again
SESSIONS_MAX = 1_000
TOKEN_BYTES = 32


@dataclass(slots=True)
class Session:
    """One login."""

    user: User
    password: object  # the hash that it was when they logged in
    csrf: str
    used_s: float
    begun_s: float

    def takes(self, csrf: str) -> bool:
        """Whether this is the secret that a change needs."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode("utf-8", "replace"))


class Sessions:
    """The logins of one server.

    Args:
        now_s: tells the time, in seconds since whenever.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._by_digest: dict[bytes, Session] = {}  # by use, the last used last

    def begin(self, user: User) -> tuple[str, Session]:
        """A user has logged in; returns the cookie's value."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        while len(self._by_digest) >= SESSIONS_MAX:
            del self._by_digest[next(iter(self._by_digest))]
        now_s = self._now_s()
        session = Session(user, user.password_hash, secrets.token_urlsafe(TOKEN_BYTES), now_s, now_s)
        self._by_digest[_digest(token)] = session
        return token, session

    def find(self, token: str, current: Callable[[str], User | None]) -> Session | None:
        """The session of a cookie, which is used by that; None when it has ended.

        Args:
            current: the user of a name, as they are now.
        """
        session = self.peek(token, current)
        digest = _digest(token)
        self._by_digest.pop(digest, None)
        if session is not None:
            session.used_s = self._now_s()
            self._by_digest[digest] = session
        return session

    def peek(self, token: str, current: Callable[[str], User | None]) -> Session | None:
        """The same, and nobody uses it by that.

        Args:
            current: the user of a name, as they are now.
        """
        session = self._by_digest.get(_digest(token))
        if session is None:
            return None
        is_over = self._now_s() - session.used_s > UNUSED_S
        if session.user.judge is None:
            user = current(session.user.name)
        else:  # nobody tells what becomes of a user of others
            user = session.user
            is_over = is_over or self._now_s() - session.begun_s > JUDGED_S
        if is_over or user is not session.user or user.password_hash != session.password:
            return None
        return session

    def end(self, token: str) -> None:
        """The user has logged out."""
        self._by_digest.pop(_digest(token), None)


def token_of(cookies: str | None) -> str | None:
    """Our cookie among those of a request."""
    if cookies is None or COOKIE not in cookies:
        return None
    try:
        morsel = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


def cookie_of(token: str, peer: Peer) -> str:
    """The header that gives a browser the cookie; an empty token takes it away."""
    secure = "; Secure" if peer.tls is not None else ""
    age = "" if token else "; Max-Age=0"
    return f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{secure}{age}"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
