"""TLS: certificates and what they say of a client, and the byte stream over a socket.

The certificates are read at the start and again when an administrator asks for it; connections that are open keep what
they began with. TLS 1.2 or 1.3, with Python's choice of ciphers. The stream is a small one of our own, because each
read should give all that has arrived, and the end should reach the client before the socket goes.
"""

from __future__ import annotations

import logging
import ssl
from typing import Any

import trio

from amqp_broker.access.client import Tls
from amqp_broker.explanations import HasPassword, no_password
from amqp_broker.logs import log_event
from amqp_broker.network.socket_stream import SocketStream, receive_first
from amqp_broker.settings import Settings, TlsLogin

CLIENT_CERTIFICATES = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
TLS_HANDSHAKE_RECORD = 22  # the first byte of every TLS connection
CIPHERTEXT_CHUNK_BYTES = 65_536


class BadCertificate(Exception):
    """The certificates cannot be used; the text names the file, the reason and the way out."""


class NoTls(Exception):
    """A client on the TLS port did not begin TLS; the text says what it did."""


class TlsContext:
    """The certificates of one broker.

    Raises:
        BadCertificate: they cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.context = _load(settings)

    def reload(self) -> None:
        """Read the files again, for connections to come; when they cannot be used, go on with what there is."""
        try:
            self.context = _load(self._settings)
        except BadCertificate as error:
            log_event(logging.ERROR, "certificates not reloaded", reason=str(error))
        else:
            log_event(logging.INFO, "certificates reloaded", certificate=self._settings.tls_certificate)


def _load(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = VERSIONS[settings.tls_version_min]
    context.options |= ssl.OP_NO_RENEGOTIATION
    names = ["tls_certificate", "tls_key"] if settings.tls_key else ["tls_certificate"]
    _check_readable(settings, *names)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key or None, password=no_password)
    except HasPassword as error:
        raise _refusal(settings, names, str(error)) from error
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = _KEY_OF_ANOTHER if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH" else _NOT_PEM
        raise _refusal(settings, names, reason) from error
    if settings.tls_client_certificate != "none":
        _check_readable(settings, "tls_ca")
        try:
            context.load_verify_locations(settings.tls_ca)
        except (OSError, ValueError) as error:
            raise _refusal(settings, ["tls_ca"], _NO_AUTHORITY) from error
        context.verify_mode = CLIENT_CERTIFICATES[settings.tls_client_certificate]
    return context


_NOT_PEM = (
    "there is not both a certificate and its key, in PEM format: name the file that has the key with tls_key, or put "
    "both into one"
)
_KEY_OF_ANOTHER = "the key belongs to another certificate: name the key that it was issued for with tls_key"
_NO_AUTHORITY = "there is no certificate of an authority in it, in PEM format: name a file that has one"


def _check_readable(settings: Settings, *names: str) -> None:
    for name in names:
        try:
            with open(getattr(settings, name), "rb"):
                pass
        except OSError as error:
            way_out = f"name a file that this user can read with {name}"
            raise _refusal(settings, [name], f"{error.strerror or 'it cannot be read'}: {way_out}") from error


def _refusal(settings: Settings, names: list[str], reason: str) -> BadCertificate:
    files = " and ".join(f"{getattr(settings, name) or 'nothing'!r} ({name})" for name in names)
    return BadCertificate(f"{files} cannot be used for TLS: {reason}")


def name_in(certificate: dict[str, Any], login: TlsLogin) -> str:
    """The name that a client's certificate gives it for mechanism EXTERNAL; empty where it gives none.

    Args:
        certificate: as ``ssl`` shows one that it has verified.
        login: which of its names counts.
    """
    if login == "common_name":
        names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    else:
        kind = {"san_dns": "DNS", "san_email": "email", "san_uri": "URI"}[login]
        names = [value for key, value in certificate.get("subjectAltName", ()) if key == kind]
    return str(names[0]) if len(names) == 1 or (names and login != "common_name") else ""


class TlsStream(trio.abc.HalfCloseableStream):
    """A TLS connection on a socket.

    Args:
        transport: the socket; from now on it belongs to the stream.
        context: the certificates.
    """

    def __init__(self, transport: SocketStream, context: ssl.SSLContext) -> None:
        self._transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._sending = trio.Lock()  # what is read can call for an answer, while the writer writes

    async def do_handshake(self) -> None:
        """Agree on keys, and check the client's certificate.

        Raises:
            NoTls: the client speaks something else.
            SentNothing: it says nothing at all.
            BrokenResourceError: it failed; the text says why.
        """
        is_first = True
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if is_first:
                    data = await receive_first(self._transport, CIPHERTEXT_CHUNK_BYTES)
                else:
                    data = await self._transport.receive_some(CIPHERTEXT_CHUNK_BYTES)
                if is_first and data[0] != TLS_HANDSHAKE_RECORD:
                    raise NoTls(f"a client without TLS on the TLS port: it began with {data[:8]!r}") from None
                is_first = False
                self._take_in(data)
            except ssl.SSLError as error:
                await self._flush()  # the alert that tells the client
                raise trio.BrokenResourceError(f"TLS handshake failed: {_reason(error)}") from error
            else:
                await self._flush()
                return

    @property
    def tls(self) -> Tls:
        """What was agreed on in the handshake."""
        cipher = self._tls.cipher()
        return Tls(self._tls.version() or "", cipher[0] if cipher is not None else "")

    @property
    def certificate(self) -> dict[str, Any]:
        """The client's certificate, verified; empty where it showed none, or one with a name that is no UTF-8."""
        try:
            return dict(self._tls.getpeercert() or {})
        except ValueError:  # Python reads all of it or nothing
            return {}

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """All that has arrived, up to a limit, waiting for it; ``b""`` when the peer sends no more."""
        size_bytes = CIPHERTEXT_CHUNK_BYTES if max_bytes is None else max_bytes
        while True:
            data = self._decrypted(size_bytes)
            if data is not None:
                await trio.lowlevel.checkpoint()
                return data
            # Who is sending sends this as well: a client that takes nothing while it speaks is read all the same.
            if not self._sending.locked() or self._outgoing.pending > CIPHERTEXT_CHUNK_BYTES:
                await self._flush()
            self._take_in(await self._transport.receive_some(CIPHERTEXT_CHUNK_BYTES))

    def _decrypted(self, size_bytes: int) -> bytes | None:
        """What can be read now; None when that is nothing yet."""
        parts: list[bytes] = []
        while size_bytes > 0:
            try:
                data = self._tls.read(size_bytes)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLEOFError:  # no goodbye; AMQP has its own
                data = b""
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(f"TLS failed: {_reason(error)}") from error
            if not data:
                return b"".join(parts)
            parts.append(data)
            size_bytes -= len(data)
        return b"".join(parts) or None

    def _take_in(self, ciphertext: bytes) -> None:
        if ciphertext:
            self._incoming.write(ciphertext)
        else:
            self._incoming.write_eof()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and hand over to the system all of the data."""
        if data:
            try:
                self._tls.write(data)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(f"TLS failed: {_reason(error)}") from error
        await self._flush()

    async def _flush(self) -> None:
        async with self._sending:
            while ciphertext := self._outgoing.read():
                await self._transport.send_all(ciphertext)

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the system's buffer takes more."""
        await self._transport.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Tell the peer that no more will be sent, in TLS and then in TCP."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # it wants to read the peer's goodbye as well, for which we do not wait
            pass
        await self._flush()
        await self._transport.send_eof()

    async def aclose(self) -> None:
        """Close the socket, without a word."""
        await self._transport.aclose()


# What OpenSSL calls it, and what it means for somebody who runs a broker.
_CLIENT_DISTRUSTS = "the client does not trust the broker's certificate"
_TOO_OLD = "the client speaks only versions of TLS that are not spoken here (tls_version_min)"
_MEANINGS = {
    "TLSV1_ALERT_UNKNOWN_CA": _CLIENT_DISTRUSTS,
    "SSLV3_ALERT_BAD_CERTIFICATE": _CLIENT_DISTRUSTS,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _CLIENT_DISTRUSTS,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": f"{_CLIENT_DISTRUSTS}: it has expired",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": f"{_CLIENT_DISTRUSTS}: it is not of a kind that it takes",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the client has broken it off",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the client wants another version of TLS",
    "UNSUPPORTED_PROTOCOL": _TOO_OLD,
    "VERSION_TOO_LOW": _TOO_OLD,
    "NO_PROTOCOLS_AVAILABLE": _TOO_OLD,
    "NO_SHARED_CIPHER": "the client offers no cipher that is used here",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client shows no certificate, and tls_client_certificate is required",
    "UNEXPECTED_EOF_WHILE_READING": "the client closed the TCP connection in the middle of it",
    "EOF_OCCURRED_IN_VIOLATION_OF_PROTOCOL": "the client closed the TCP connection in the middle of it",
    "WRONG_VERSION_NUMBER": "what the client sent is no TLS",
    "RECORD_LAYER_FAILURE": "what the client sent is no TLS, or was changed on its way",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "what the client sent was changed on its way",
}


def _reason(error: ssl.SSLError) -> str:
    """Why TLS ended, in words; with OpenSSL's own only where it is something rare."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is not accepted ({error.verify_message})"
    reason = error.reason or type(error).__name__
    return _MEANINGS.get(reason) or f"OpenSSL calls it {reason}"
