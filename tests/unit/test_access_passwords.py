"""Passwords: the three ways of hashing, what is remembered of a comparison, and who is let in."""

from __future__ import annotations

import base64
import hashlib

import pytest
import trio

from amqp_broker.access import passwords
from amqp_broker.access.passwords import (
    SCRYPT,
    SHA256,
    SHA512,
    NotVerifiedYet,
    PasswordHash,
    UnknownAlgorithm,
    Verifier,
    hash_password,
)
from amqp_broker.access.users import NO_PASSWORD, User, Users
from amqp_broker.server.password_checks import PasswordChecks
from tests.support.memory_broker import MemoryBroker

CHEAP = "scrypt:n=2,r=1,p=1"


@pytest.mark.parametrize("algorithm", [SHA256, SHA512, SCRYPT, CHEAP])
def test_only_the_password_matches(algorithm: str) -> None:
    stored = hash_password(b"secret", algorithm)
    assert stored.matches(b"secret")
    assert not stored.matches(b"Secret")
    assert not stored.matches(b"")
    assert stored.value != hash_password(b"secret", algorithm).value


def test_hash_from_rabbitmqs_documentation() -> None:
    """RabbitMQ docs, "Credentials and Passwords": the hash of test12 with the salt 908DC60A."""
    stored = PasswordHash(SHA256, base64.b64decode("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"))
    assert stored.matches(b"test12")


@pytest.mark.parametrize(
    "algorithm",
    ["", "rabbit_password_hashing_md5", "scrypt", "scrypt:n=3,r=8,p=1", "scrypt:n=1073741824,r=8,p=1", "scrypt:n=a"],
)
def test_unknown_ways_of_hashing(algorithm: str) -> None:
    with pytest.raises(UnknownAlgorithm):
        PasswordHash(algorithm, b"")


def test_a_slow_comparison_is_made_once() -> None:
    verifier, stored = Verifier(), hash_password(b"secret", CHEAP)
    for password, verdict in ((b"secret", True), (b"wrong", False)):
        with pytest.raises(NotVerifiedYet) as raised:
            verifier.verdict(stored, password)
        assert not raised.value.is_known()
        raised.value.remember(raised.value.verify())
        assert raised.value.is_known()
        assert verifier.verdict(stored, password) is verdict
    with pytest.raises(NotVerifiedYet):
        verifier.verdict(hash_password(b"secret", CHEAP), b"secret")  # the password was set anew


def test_a_password_that_was_set_here_is_known() -> None:
    verifier = Verifier()
    stored = verifier.hash(b"secret", CHEAP)
    assert verifier.verdict(stored, b"secret")


def test_what_is_remembered_is_bounded_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "VERDICTS_REMEMBERED_MAX", 3)
    verifier = Verifier()
    for number in range(10):
        verifier.hash(b"secret%d" % number, CHEAP)
    assert len(verifier._verdicts) == 3
    assert all(len(key) == 32 and hashlib.sha256(b"secret9").digest() != key for key in verifier._verdicts)


def test_nobody_without_a_password_logs_in() -> None:
    users = Users()
    users.put(User("device", NO_PASSWORD))
    users.add("ada", "secret")
    assert users.authenticate("device", b"") is None
    assert users.authenticate("device", b"x") is None
    assert users.authenticate("ada", b"") is None
    assert users.authenticate("ada", b"secret") is users.get("ada")


def test_an_unknown_name_costs_what_the_slowest_hash_costs() -> None:
    users = Users()
    assert users.authenticate("nobody", b"secret") is None
    users.add("ada", "secret", algorithm=CHEAP)
    with pytest.raises(NotVerifiedYet) as raised:
        users.authenticate("nobody", b"secret")
    raised.value.remember(raised.value.verify())
    assert users.authenticate("nobody", b"secret") is None


def test_a_hash_that_cannot_be_computed_is_nobodys(caplog: pytest.LogCaptureFixture) -> None:
    stored, verifier = PasswordHash("scrypt:n=65536,r=1,p=1", b"x" * 48), Verifier()  # OpenSSL wants more of r

    async def check() -> None:
        async with trio.open_nursery() as nursery:
            told = trio.Event()
            with pytest.raises(NotVerifiedYet) as asked:
                verifier.verdict(stored, b"secret")
            PasswordChecks(MemoryBroker(), nursery).begin(asked.value, told.set, lambda: True)
            await told.wait()

    trio.run(check)
    assert not verifier.verdict(stored, b"secret")
    assert [record.getMessage() for record in caplog.records] == ["internal error"]
