"""The handshake of a door and the owner, before a client's bytes flow between them. No socket.

    door                                   owner
     | ---- hello: who calls, for whom ----> |
     | <--- challenge ---------------------- |
     | ---- proof --------------------------> |
     | <- accept, not-owner, itself, refused |
     | <=== the client's bytes, both ways ==> |

Both prove that they know the cluster's secret, by an HMAC over what the two of them have said; so nobody who reaches
the port can speak as a client, and nobody who poses as the owner is handed a password. With TLS beneath
(``link_tls.py``) what is proved holds for that TLS connection alone, so nobody stands between either. Frames are a
length in four bytes and JSON. A door of a later release may say more, which is passed over, and proved with the rest.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import struct
from dataclasses import asdict, dataclass
from typing import Any, Final

from amqp_broker.access.client import Peer, Tls

VERSION: Final = 1
FRAME_BYTES_MAX: Final = 65_536
NO_CLIENT: Final = (
    ""  # in place of a protocol: the caller only wants to know whether it has called the owner, and until when
)
HELLO: Final = "hello"
BINDING: Final = "channel_binding"  # in what is proved: the TLS connection beneath, where there is one
TLS_AT_ALL_OR_NONE: Final = "set link_certificate and link_ca at all nodes or at none"
_LENGTH: Final = struct.Struct(">I")
_TLS_BEGINNING: Final = b"\x16\x03"


class LinkError(Exception):
    """The other side is no node of this cluster, or of no use now."""


class NotTheOwner(LinkError):
    """The node that was called does not own the shard."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of a door: who calls, and for which client.

    Args:
        cluster: its name.
        node_id: the calling node's.
        nonce: random, in hexadecimal.
        shard: whose owner is wanted.
        protocol: of the listener that the client came to; ``NO_CLIENT`` where there is none.
        peer: the client, as the door sees it.
        version: of this conversation.
    """

    cluster: str
    node_id: str
    nonce: str
    shard: int
    protocol: str
    peer: Peer
    version: int = VERSION


def new_nonce() -> str:
    """128 random bits, in hexadecimal."""
    return secrets.token_hex(16)


def encode(kind: str, **fields: Any) -> bytes:
    """A frame."""
    body = json.dumps({"kind": kind, **fields}).encode()
    return _LENGTH.pack(len(body)) + body


def encode_hello(hello: Hello) -> bytes:
    """The frame that a door begins with."""
    return encode(HELLO, **said_in(hello))


def said_in(hello: Hello | dict[str, Any]) -> dict[str, Any]:
    """All that a door has said: in a hello that it sends, or in a frame that came. A binding is nobody's to say."""
    fields = asdict(hello) if isinstance(hello, Hello) else hello
    return {name: value for name, value in fields.items() if name not in ("kind", BINDING)}


class FrameReader:
    """Takes frames off a stream's beginning; what comes behind the last one is the client's."""

    def __init__(self) -> None:
        self._received = bytearray()

    def add(self, data: bytes) -> None:
        """Take what was read."""
        self._received += data

    def next(self) -> dict[str, Any] | None:
        """The next frame; None while it is not here in full.

        Raises:
            LinkError: it is none.
        """
        if len(self._received) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._received)
        if size > FRAME_BYTES_MAX and self._received.startswith(_TLS_BEGINNING):
            raise LinkError(f"the other node speaks TLS, and this one does not: {TLS_AT_ALL_OR_NONE}")
        if size > FRAME_BYTES_MAX:
            raise LinkError("what came is no frame of a link")
        if len(self._received) < _LENGTH.size + size:
            return None
        body = bytes(self._received[_LENGTH.size : _LENGTH.size + size])
        del self._received[: _LENGTH.size + size]
        try:
            frame = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise LinkError("what came is no frame of a link") from error
        if not isinstance(frame, dict) or not isinstance(frame.get("kind"), str):
            raise LinkError("what came is no frame of a link")
        return frame

    def rest(self) -> bytes:
        """What has come behind the frames."""
        rest = bytes(self._received)
        self._received.clear()
        return rest


def read_hello(frame: dict[str, Any]) -> Hello:
    """The hello in a frame.

    Raises:
        LinkError: it is none, or of a version that is not spoken here.
    """
    if frame.get("kind") != HELLO:
        raise LinkError("the caller does not say who it is")
    version = frame.get("version")
    if version != VERSION:
        spoken = f"version {version}" if isinstance(version, int) else "no version"
        raise LinkError(f"the caller speaks {spoken} of the link, this node speaks {VERSION}")
    try:
        return Hello(
            _text(frame["cluster"]),
            _text(frame["node_id"]),
            _text(frame["nonce"]),
            _number(frame["shard"]),
            _text(frame["protocol"]),
            _read_peer(frame["peer"]),
        )
    except (TypeError, KeyError) as error:
        raise LinkError("the caller's hello cannot be read") from error


def _read_peer(fields: Any) -> Peer:
    name, tls = fields["certificate_name"], fields["tls"]
    return Peer(
        _text(fields["host"]),
        _number(fields["port"]),
        fields["is_loopback"] is True,
        None if name is None else _text(name),
        _text(fields["our_host"]),
        _number(fields["our_port"]),
        None if tls is None else Tls(_text(tls["version"]), _text(tls["cipher"])),
        _text(fields.get("direct_name", "")),  # nodes of earlier releases do not say it
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError
    return value


def door_proof(secret: str, said: dict[str, Any], nonce: str) -> str:
    """What shows the owner that the door, which has said that, knows the secret."""
    return _proof(secret, "door", said, nonce)


def owner_proof(secret: str, said: dict[str, Any], nonce: str) -> str:
    """What shows the door, which has said that, that the owner knows the secret."""
    return _proof(secret, "owner", said, nonce)


def _proof(secret: str, side: str, said: dict[str, Any], nonce: str) -> str:
    try:
        proved = json.dumps([side, nonce, said], sort_keys=True).encode()
    except RecursionError as error:
        raise LinkError("what came is no frame of a link") from error
    return hmac.new(secret.encode(), proved, hashlib.sha256).hexdigest()


def is_same(proof: object, expected: str) -> bool:
    """Whether a proof is right, compared in a time that tells nothing."""
    if not isinstance(proof, str) or not proof.isascii():  # half of a surrogate pair cannot be encoded
        return False
    return hmac.compare_digest(proof, expected)
