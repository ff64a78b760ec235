"""Logins with tokens (OAuth 2): which are taken, what their scopes allow, and what happens when they run out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from pamqp import commands

from amqp_broker.access.client import Peer
from amqp_broker.server.logins.authority import Asked, BackendAuthority, make_authority
from amqp_broker.server.logins.backend import BackendFailed, Person
from amqp_broker.server.logins.failures import CannotAskBackend
from amqp_broker.server.logins.oauth2 import OAuth2Backend
from amqp_broker.settings import Settings
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker

jwt = pytest.importorskip("jwt")
pytest.importorskip("cryptography")

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402 - only where it is

PEER = Peer("10.0.0.1", 5, False)
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
FAR_S = 4_000_000_000  # seconds since 1970, long after any test


def key_set(**keys: Ed25519PrivateKey) -> dict[str, Any]:
    """The JWKS of some keys, by name."""
    to_jwk = jwt.algorithms.OKPAlgorithm.to_jwk
    return {
        "keys": [{**json.loads(to_jwk(key.public_key())), "kid": name, "alg": "EdDSA"} for name, key in keys.items()]
    }


def token(key: Ed25519PrivateKey = KEY, kid: str | None = "one", **claims: Any) -> str:
    """A token that would be taken, but for what is given."""
    said = {"aud": "broker", "sub": "ada", "exp": FAR_S, "scope": "broker.configure:*/* broker.write:*/*", **claims}
    said = {name: value for name, value in said.items() if value is not None}
    encoded: str = jwt.encode(said, key, algorithm="EdDSA", headers={} if kid is None else {"kid": kid})
    return encoded


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Those of a broker whose keys are in a file."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(key_set(one=KEY)))
    return Settings(auth_backends=("oauth2",), auth_oauth2_resource_server_id="broker", auth_oauth2_jwks=str(path))


def authenticated(settings: Settings, password: str | None) -> Person | None:
    """Who a new back end says that is."""
    return trio.run(OAuth2Backend(settings).authenticate, "somebody", password, PEER)


class TestTokens:
    def test_who_it_is_stands_in_the_token(self, settings: Settings) -> None:
        scope = "broker.tag:administrator broker.read:a/b other.write:*/* broker.tag:monitoring"
        found = authenticated(settings, token(scope=scope))
        tags = ("administrator", "monitoring")
        assert found == Person("ada", tags, "tag:administrator read:a/b tag:monitoring", FAR_S * 1000)
        by_client = authenticated(settings, token(sub=None, client_id="service", scope=["broker.read:a/b", 3]))
        assert by_client == Person("service", (), "read:a/b", FAR_S * 1000)
        assert authenticated(settings, token(kid=None)) is not None

    @pytest.mark.parametrize(
        ("password", "reason"),
        [
            (token(aud="another"), "Audience doesn't match"),
            (token(aud=None), 'missing the "aud" claim'),
            (token(exp=None), 'missing the "exp" claim'),
            (token(exp=1), "expired"),
            (token(OTHER), "Signature verification failed"),
            (token(kid="two"), "has no key 'two'"),
            ("guest", "Not enough segments"),
            (jwt.encode({"aud": "broker", "exp": FAR_S}, "x" * 32, algorithm="HS256", headers={"kid": "one"}), ""),
            (jwt.encode({"aud": "broker", "exp": FAR_S}, None, algorithm="none", headers={"kid": "one"}), ""),
        ],
    )
    def test_what_is_no_token_for_this_broker_is_nobodys(
        self, settings: Settings, password: str, reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        assert authenticated(settings, password) is None
        assert reason in caplog.records[0].__dict__["fields"]["reason"]
        assert password not in str(caplog.records[0].__dict__)

    def test_a_certificate_is_no_token(self, settings: Settings) -> None:
        assert authenticated(settings, None) is None

    def test_keys_that_came_later_are_read_and_not_too_often(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = OAuth2Backend(settings)
        assert trio.run(backend.authenticate, "", token(), PEER) is not None
        Path(settings.auth_oauth2_jwks).write_text(json.dumps(key_set(one=KEY, two=OTHER)))
        later = token(OTHER, "two")
        assert trio.run(backend.authenticate, "", later, PEER) is None
        monkeypatch.setattr("amqp_broker.server.logins.oauth2.KEYS_AGAIN_S", 0)
        assert trio.run(backend.authenticate, "", later, PEER) is not None

    @pytest.mark.parametrize(
        ("content", "problem"), [(None, "cannot be read: No such file"), ("[", "is no set of keys")]
    )
    def test_keys_that_cannot_be_read_are_named(self, settings: Settings, content: str | None, problem: str) -> None:
        path = Path(settings.auth_oauth2_jwks)
        path.unlink()
        if content is not None:
            path.write_text(content)
        with pytest.raises(BackendFailed, match=problem):
            authenticated(settings, token())

    def test_what_is_missing_is_told(self, broker: MemoryBroker) -> None:
        with pytest.raises(CannotAskBackend, match="auth_oauth2_resource_server_id is not set"):
            make_authority(broker, Settings(auth_backends=("oauth2",)), lambda *_: None)


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("read:v/q", True),
        ("read:v/*", True),
        ("read:*/q/k", True),
        ("read:*/*q*/*", True),
        ("read:v/q*x", False),
        ("read:v", False),
        ("write:v/q", False),
        ("read:V/q", False),
        ("read:v/q%2A", False),
        ("reads:v/q", False),
    ],
)
def test_scopes_of_names(settings: Settings, scope: str, allowed: bool) -> None:
    backend = OAuth2Backend(settings)
    person = Person("ada", (), f"tag:x {scope}")
    assert trio.run(backend.may_access, person, "v", "queue", "q", "read") is allowed


def test_scopes_of_virtual_hosts_and_keys(settings: Settings) -> None:
    backend = OAuth2Backend(settings)
    person = Person("ada", (), "write:%2F/x/a.* read:v/y")
    assert trio.run(backend.may_enter, person, "/", PEER)
    assert trio.run(backend.may_enter, person, "v", PEER)
    assert not trio.run(backend.may_enter, person, "w", PEER)
    assert trio.run(backend.may_use_topic, person, "/", "x", "a.b", "write")
    assert not trio.run(backend.may_use_topic, person, "/", "x", "b", "write")
    assert trio.run(backend.may_use_topic, person, "v", "y", "any", "read")


class AtOnce:
    """Runs tasks as soon as they are to be started, one after the other."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, ...]] = []
        self._is_running = False

    def start_soon(self, *task: Any) -> None:
        self._waiting.append(task)
        if not self._is_running:
            self._is_running = True
            while self._waiting:
                trio.run(*self._waiting.pop(0))
            self._is_running = False


class TestConnections:
    @pytest.fixture(autouse=True)
    def oauth2(self, broker: MemoryBroker, settings: Settings) -> None:
        """Tokens are taken; whatever the back end is asked, it answers at once."""
        asked = Asked("oauth2", OAuth2Backend(settings), broker, broker.settings, AtOnce().start_soon)
        broker.driver.authority = BackendAuthority(broker, [(asked, asked)])

    def test_a_connection_ends_with_its_token(self, broker: MemoryBroker) -> None:
        now_s = broker.clock.wall_ms() // 1000
        client = Client(broker).open(password=token(exp=FAR_S))
        client.channel().declare("q")
        assert broker.open_connections
        expiring = Client(broker)
        expiring.start(password=token(exp=FAR_S))
        expiring.connection.login.user.expires_wall_ms = (now_s + 60) * 1000
        expiring.tune_ok()
        expiring.send(commands.Connection.Open("/"))
        expiring.one(commands.Connection.OpenOk)
        broker.advance(59_000)
        assert not expiring.received()
        broker.advance(2_000)
        closed = expiring.closed_with()
        assert (closed.reply_code, "credential expired" in closed.reply_text) == (320, True)
        client.channel(2).declare("p")

    def test_a_new_token_takes_its_place(self, broker: MemoryBroker) -> None:
        client = Client(broker)
        client.start(password=token())
        client.connection.login.user.expires_wall_ms = broker.clock.wall_ms() + 60_000
        client.tune_ok()
        client.send(commands.Connection.Open("/"))
        client.one(commands.Connection.OpenOk)
        channel = client.channel()
        channel.declare("q")
        client.send(commands.Connection.UpdateSecret(new_secret=token(scope="broker.write:*/*"), reason="it is time"))
        client.one(commands.Connection.UpdateSecretOk)
        broker.advance(120_000)
        channel.publish("", "q", b"")
        channel.send(commands.Queue.Declare(queue="other"))
        assert "configure access to queue 'other'" in channel.closed_with().reply_text

    @pytest.mark.parametrize("secret", ["none", token(sub="bob"), token(aud="other")])
    def test_another_ones_token_ends_the_connection(self, broker: MemoryBroker, secret: str) -> None:
        client = Client(broker).open(password=token())
        client.send(commands.Connection.UpdateSecret(new_secret=secret, reason="it is time"))
        closed = client.closed_with()
        assert (closed.reply_code, closed.reply_text) == (
            530,
            "NOT_ALLOWED - New secret was refused by one of the backends",
        )
