"""Asks back ends who somebody is and what they may do, in their order, and remembers what they have said.

Theory of operation. The broker asks synchronously. What is known is answered; for what is not, a task asks the back
end, and whoever wants to know waits (``access/judge.py``), alone: others are heard meanwhile. Who asks the same waits
for the same answer. A back end that takes too long, or fails, is named in the log, and the answer is no. What it has
allowed is remembered for a while, what it has refused for a second: long enough to be told to who waits.

Holds no back end (``http_backend.py``), and not the broker's own users (``access/users.py``).
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import trio

from amqp_broker.access.client import Peer
from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.access.users import NO_PASSWORD, User
from amqp_broker.broker.broker import Broker
from amqp_broker.errors import AmqpError
from amqp_broker.logs import log_event, log_internal_error
from amqp_broker.server.logins.backend import Backend, BackendFailed, Person
from amqp_broker.server.logins.failures import CannotAskBackend
from amqp_broker.settings import Settings

INTERNAL: Final = "internal"
REFUSED_MS: Final = 1000
ANSWERS_MAX: Final = 10_000
NAME_CHARACTERS_MAX: Final = 255  # of one who is not known yet: a longer one is remembered as a digest
AT_ONCE_MAX: Final = 32  # questions to one back end

Key = tuple[str, ...]
Question = Callable[[], Awaitable[Any]]
StartSoon = Callable[..., None]


class Asked:
    """One back end and what it has said.

    Args:
        name: for the log.
        backend: the back end.
        broker: in which whoever waits goes on.
        settings: how long it may take, and is remembered.
        start_soon: starts a task, as a nursery does.
    """

    def __init__(self, name: str, backend: Backend, broker: Broker, settings: Settings, start_soon: StartSoon) -> None:
        self.name = name
        self.backend = backend
        self._broker = broker
        self._ttl_ms = settings.auth_cache_ttl_ms
        self._timeout_s = settings.auth_timeout_ms / 1000
        self._start_soon = start_soon
        self._answers: OrderedDict[Key, tuple[Any, int]] = OrderedDict()  # with when each is forgotten
        self._waiting: dict[Key, list[Callable[[], None]]] = {}
        self._limiter = trio.CapacityLimiter(AT_ONCE_MAX)

    def answer(self, key: Key, question: Question) -> Any:
        """What the back end says.

        Args:
            key: the same for the same question.
            question: asks it.

        Raises:
            NotDecidedYet: it has not said yet.
        """
        known = self._answers.get(key)
        if known is not None and known[1] > self._broker.clock.monotonic_ms():
            return known[0]
        raise NotDecidedYet(partial(self._wait, key, question))

    def _wait(self, key: Key, question: Question, go_on: Callable[[], None]) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(go_on)
            return
        self._waiting[key] = [go_on]
        self._start_soon(self._find_out, key, question)

    async def _find_out(self, key: Key, question: Question) -> None:
        answer: Any = None
        try:
            with trio.fail_after(self._timeout_s):
                async with self._limiter:
                    answer = await question()
        except trio.TooSlowError:
            self._failed(key, f"no answer within {self._timeout_s:g} s")
        except BackendFailed as error:
            self._failed(key, str(error))
        except (Exception, SystemExit) as error:
            self._failed(key, f"{type(error).__name__}: {error}")
        ttl_ms = self._ttl_ms if answer else REFUSED_MS
        self._answers[key] = answer, self._broker.clock.monotonic_ms() + ttl_ms
        self._answers.move_to_end(key)
        while len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)
        for go_on in self._waiting.pop(key):
            try:
                self._broker.handle(go_on)
            except (Exception, SystemExit) as error:
                log_internal_error("login", error)

    def _failed(self, key: Key, reason: str) -> None:
        log_event(
            logging.ERROR, "login back end failed", backend=self.name, question=key[0], user=key[1], reason=reason
        )


class BackendJudge:
    """Decides what one person may do, as ``access/judge.py`` has it."""

    def __init__(self, asked: Asked, person: Person, peer: Peer) -> None:
        self._asked = asked
        self._person = person
        self._peer = peer

    def may_enter(self, virtual_host: str) -> bool:
        person, peer = self._person, self._peer
        key = ("vhost", person.name, person.token, virtual_host, peer.host)
        return bool(self._asked.answer(key, lambda: self._asked.backend.may_enter(person, virtual_host, peer)))

    def may_access(self, virtual_host: str, kind: str, name: str, permission: str) -> bool:
        person, backend = self._person, self._asked.backend
        key = ("resource", person.name, person.token, virtual_host, kind, name, permission)
        return bool(self._asked.answer(key, lambda: backend.may_access(person, virtual_host, kind, name, permission)))

    def may_use_topic(
        self, virtual_host: str, exchange: str, routing_key: str, permission: str, client_id: str | None
    ) -> bool:
        person, backend = self._person, self._asked.backend
        key: Key = ("topic", person.name, person.token, virtual_host, exchange, routing_key, permission)
        if client_id is not None:
            person, key = replace(person, client_id=client_id), (*key, client_id)
        return bool(
            self._asked.answer(
                key, lambda: backend.may_use_topic(person, virtual_host, exchange, routing_key, permission)
            )
        )


class BackendAuthority:
    """All that the setting ``auth_backends`` names, in its order.

    Args:
        broker: whose users are the internal ones.
        order: who says who somebody is, and who says what they may do; None is the broker itself.
    """

    def __init__(self, broker: Broker, order: list[tuple[Asked | None, Asked | None]]) -> None:
        self._broker = broker
        self._order = order
        self._key = secrets.token_bytes(32)  # passwords are remembered as digests with it

    def authenticate(self, name: str, password: bytes | None, peer: Peer) -> User | None:
        """The user whom the first back end that knows them has; None where nobody does.

        Raises:
            NotDecidedYet, NotVerifiedYet: one must be asked first.
        """
        for authenticating, judging in self._order:
            if authenticating is None:
                person = self._own(name, password)
            else:
                person = self._ask(authenticating, name, password, peer)
            if person is not None:
                return self._user_of(person, judging, peer)
        return None

    def _own(self, name: str, password: bytes | None) -> Person | None:
        users = self._broker.users
        user = users.get(name) if password is None else users.authenticate(name, password)
        return None if user is None else Person(user.name, user.tags)

    def _ask(self, asked: Asked, name: str, password: bytes | None, peer: Peer) -> Person | None:
        if password is None:
            text, digest = None, ""
        else:
            text = password.decode("utf-8", "surrogateescape")
            digest = self._digest(password)
        short = name if len(name) <= NAME_CHARACTERS_MAX else self._digest(name.encode("utf-8", "surrogateescape"))
        found: Person | None = asked.answer(
            ("user", short, digest, peer.host), lambda: asked.backend.authenticate(name, text, peer)
        )
        if found is not None and found.expires_wall_ms is not None:
            is_expired = found.expires_wall_ms <= self._broker.clock.wall_ms()  # while it was remembered
            return None if is_expired else found
        return found

    def _digest(self, data: bytes) -> str:
        return hashlib.blake2b(data, key=self._key, digest_size=32).hexdigest()

    def _user_of(self, person: Person, judging: Asked | None, peer: Peer) -> User:
        own = self._broker.users.get(person.name)
        if judging is not None:
            judge = BackendJudge(judging, person, peer)
            user = User(person.name, NO_PASSWORD, person.tags, judge=judge, expires_wall_ms=person.expires_wall_ms)
            if own is not None:
                user.limits = own.limits
            return user
        # What the broker's own user of this name may do; one who is not there may do nothing.
        return own if own is not None else User(person.name, NO_PASSWORD, person.tags)


def make_authority(broker: Broker, settings: Settings, start_soon: StartSoon) -> BackendAuthority:
    """What asks the back ends that the settings name.

    Args:
        start_soon: starts a task, as a nursery does.

    Raises:
        CannotAskBackend: one of them cannot be used.
    """
    made: dict[str, Asked | None] = {INTERNAL: None}

    def asked(name: str) -> Asked | None:
        if name not in made:
            made[name] = Asked(name, _make_backend(name, settings), broker, settings, start_soon)
        return made[name]

    order = []
    for one in settings.auth_backends:
        authenticating, _, judging = one.partition("/")
        order.append((asked(authenticating), asked(judging or authenticating)))
    return BackendAuthority(broker, order)


def _make_backend(name: str, settings: Settings) -> Backend:
    if name == "http":
        from amqp_broker.server.logins.http_backend import HttpBackend

        return HttpBackend(settings)
    if name == "oauth2":
        from amqp_broker.server.logins.oauth2 import OAuth2Backend

        return OAuth2Backend(settings)
    if name == "ldap":
        from amqp_broker.server.logins.ldap import LdapBackend

        return LdapBackend(settings)
    from amqp_broker.broker.plugin_types import AUTH_BACKEND, find_plugin_types

    found = find_plugin_types(AUTH_BACKEND)
    if name not in found:
        import difflib

        known = [INTERNAL, "http", "oauth2", "ldap", *found]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        way_out = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise CannotAskBackend(f"auth_backends names {name!r}, which no installed package brings: {way_out}")
    plugin = found[name]
    try:
        made: Backend = plugin.load()(settings)
    except AmqpError as error:
        raise CannotAskBackend(error.explanation) from error
    except CannotAskBackend:
        raise
    except (Exception, SystemExit) as error:
        raise CannotAskBackend(plugin.failed("could not be made", error).explanation) from error
    return made
