"""Records of TLS 1.3 as a client may make them with the secrets of its connection: Python's ssl renews no keys.

Only for TLS_AES_256_GCM_SHA384 (RFC 8446, sections 5.2, 7.1, 7.2 and 7.3).
"""

from __future__ import annotations

import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HANDSHAKE, DATA = 22, 23
NEW_KEYS = b"\x18\x00\x00\x01\x00"  # update_not_requested
SECRET_BYTES, KEY_BYTES, NONCE_BYTES, TAG_BYTES = 48, 32, 12, 16


class Records:
    """What a client that has said nothing yet behind its handshake sends.

    Args:
        key_log: where its ``ssl`` has written the secrets.
    """

    def __init__(self, key_log: Path) -> None:
        (line,) = [one for one in key_log.read_text().splitlines() if one.startswith("CLIENT_TRAFFIC_SECRET_0 ")]
        self._use(bytes.fromhex(line.split()[2]))

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(_expand(secret, b"key", KEY_BYTES))
        self._nonce = int.from_bytes(_expand(secret, b"iv", NONCE_BYTES), "big")
        self._number = 0

    def data(self, content: bytes) -> bytes:
        """A record with data."""
        return self._record(content, DATA)

    def new_keys(self) -> bytes:
        """The record that renews the keys; what follows is encrypted with the new ones."""
        record = self._record(NEW_KEYS, HANDSHAKE)
        self._use(_expand(self._secret, b"traffic upd", SECRET_BYTES))
        return record

    def _record(self, content: bytes, kind: int) -> bytes:
        head = struct.pack(">BHH", DATA, 0x0303, len(content) + 1 + TAG_BYTES)
        nonce = (self._nonce ^ self._number).to_bytes(NONCE_BYTES, "big")
        self._number += 1
        return head + self._key.encrypt(nonce, content + bytes([kind]), head)


def _expand(secret: bytes, label: bytes, size_bytes: int) -> bytes:
    full = b"tls13 " + label
    info = struct.pack(">HB", size_bytes, len(full)) + full + b"\x00"
    return HKDFExpand(SHA384(), size_bytes, info).derive(secret)
