"""Passwords: how they are kept, how they are compared, and how logging in again and again stays cheap.

Three ways of hashing. RabbitMQ's two, four bytes of salt and one round of SHA-256 or SHA-512, so that its definitions
can be carried over; and scrypt (RFC 7914), slow on purpose and costly in memory, for passwords that are set here. The
names of the first two are RabbitMQ's, the third says its own parameters, so that they can be raised later.

A slow hash takes tens of milliseconds, so it is nothing for the event loop: ``Verifier.verdict`` answers only what is
known at once, and ``NotVerifiedYet`` carries the work that somebody does elsewhere. What came out is remembered under a
digest with a key of this process's own, never the password itself: a client that opens a hundred connections pays once.

Holds no users.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

SHA256 = "rabbit_password_hashing_sha256"
SHA512 = "rabbit_password_hashing_sha512"
SCRYPT = "scrypt:n=8192,r=8,p=1"  # 8 MiB and about 30 ms
SHORT_SALT_BYTES = 4  # RabbitMQ's
SCRYPT_SALT_BYTES = 16
SCRYPT_HASH_BYTES = 32
SCRYPT_MEMORY_BYTES_MAX = 256 * 1024 * 1024
VERDICTS_REMEMBERED_MAX = 4096

_SIMPLE_HASHES: dict[str, Callable[[bytes], bytes]] = {
    SHA256: lambda data: hashlib.sha256(data).digest(),
    SHA512: lambda data: hashlib.sha512(data).digest(),
}


class UnknownAlgorithm(ValueError):
    """No password can be checked against a hash of this kind; the text names it."""


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A salted hash and how it was made.

    Args:
        algorithm: ``SHA256``, ``SHA512`` or ``scrypt:n=…,r=…,p=…``.
        value: the salt and then the hash. Empty: there is no password, and nobody logs in with one.

    Raises:
        UnknownAlgorithm: it is none of these.
    """

    algorithm: str
    value: bytes

    def __post_init__(self) -> None:
        if self.algorithm not in _SIMPLE_HASHES:
            _scrypt_parameters(self.algorithm)

    @property
    def is_slow(self) -> bool:
        """Whether a comparison takes so long that the event loop must not wait for it."""
        return self.algorithm not in _SIMPLE_HASHES

    def matches(self, password: bytes) -> bool:
        """Whether this is the password, in a time that does not tell how near it was."""
        if not self.value:
            return False
        salt_bytes = SCRYPT_SALT_BYTES if self.is_slow else SHORT_SALT_BYTES
        return hmac.compare_digest(self.value, _hash(self.algorithm, password, self.value[:salt_bytes]))


def hash_password(password: bytes, algorithm: str = SCRYPT) -> PasswordHash:
    """A new hash of a password, with a salt of its own.

    Raises:
        UnknownAlgorithm: there is no such way of hashing.
    """
    salt = secrets.token_bytes(SHORT_SALT_BYTES if algorithm in _SIMPLE_HASHES else SCRYPT_SALT_BYTES)
    return PasswordHash(algorithm, _hash(algorithm, password, salt))


def _hash(algorithm: str, password: bytes, salt: bytes) -> bytes:
    simple = _SIMPLE_HASHES.get(algorithm)
    if simple is not None:
        return salt + simple(salt + password)
    n, r, p = _scrypt_parameters(algorithm)
    memory_bytes_max = SCRYPT_MEMORY_BYTES_MAX + 1024 * 1024
    return salt + hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=memory_bytes_max, dklen=SCRYPT_HASH_BYTES)


def _scrypt_parameters(algorithm: str) -> tuple[int, int, int]:
    name, _, text = algorithm.partition(":")
    parameters = dict(part.partition("=")[::2] for part in text.split(","))
    try:
        n, r, p = (int(parameters[letter]) for letter in "nrp")
    except (KeyError, ValueError):
        n = r = p = 0
    is_possible = n > 1 and n & (n - 1) == 0 and 0 < r <= 64 and 0 < p <= 16 and 128 * n * r <= SCRYPT_MEMORY_BYTES_MAX
    if name != "scrypt" or not is_possible:
        raise UnknownAlgorithm(f"{algorithm!r} is none of {SHA256}, {SHA512} and scrypt with parameters, as {SCRYPT}")
    return n, r, p


class NotVerifiedYet(Exception):
    """The verdict on a password takes a while to find out: let ``verify`` be called in a thread, then ask again.

    Args:
        verify: finds it out. Slow; touches nothing that is shared.
        is_known: whether it has been found out in the meantime, for another connection.
        remember: to be told what came out, in the broker's thread.
    """

    def __init__(
        self, verify: Callable[[], bool], is_known: Callable[[], bool], remember: Callable[[bool], None]
    ) -> None:
        super().__init__()
        self.verify = verify
        self.is_known = is_known
        self.remember = remember


class Verifier:
    """Tells whether passwords are right, and remembers what it has found out."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._verdicts: OrderedDict[bytes, bool] = OrderedDict()

    def verdict(self, stored: PasswordHash, password: bytes) -> bool:
        """Whether this is the password of the hash.

        Raises:
            NotVerifiedYet: that is not known, and takes long to find out.
        """
        if not stored.is_slow:
            return stored.matches(password)
        key = self._digest(stored, password)
        verdict = self._verdicts.get(key)
        if verdict is None:
            raise NotVerifiedYet(
                lambda: stored.matches(password),
                lambda: key in self._verdicts,
                lambda matches: self._remember(key, matches),
            )
        self._verdicts.move_to_end(key)
        return verdict

    def hash(self, password: bytes, algorithm: str = SCRYPT) -> PasswordHash:
        """Hash a password that is set, and remember that it is right."""
        stored = hash_password(password, algorithm)
        if stored.is_slow:
            self._remember(self._digest(stored, password), True)
        return stored

    def _remember(self, key: bytes, matches: bool) -> None:
        self._verdicts[key] = matches
        if len(self._verdicts) > VERDICTS_REMEMBERED_MAX:
            self._verdicts.popitem(last=False)

    def _digest(self, stored: PasswordHash, password: bytes) -> bytes:
        # The stored hash has a length of its own before it, so that no two pairs give the same bytes.
        value = len(stored.value).to_bytes(4, "big") + stored.value + stored.algorithm.encode() + b"\0" + password
        return hashlib.blake2b(value, key=self._key, digest_size=32).digest()
