"""TLS: certificates and what they say of a client, and the byte stream over a socket.

The certificates are read at the start and again when an administrator asks for it; connections that are open keep what
they began with. TLS 1.2 or 1.3, with Python's choice of ciphers. The stream is a small one of our own, because each
read should give all that has arrived, and the end should reach the client before the socket goes.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import trio

from amqp_broker.access.client import Tls
from amqp_broker.explanations import HasPassword, no_password
from amqp_broker.logs import log_event
from amqp_broker.network.direct_stream import DirectStream, Part
from amqp_broker.network.socket_stream import SocketStream, receive_first
from amqp_broker.network.turns import Turns
from amqp_broker.settings import Settings, TlsLogin

CLIENT_CERTIFICATES = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
TLS_HANDSHAKE_RECORD = 22  # the first byte of every TLS connection
TLS_HANDSHAKE_S = 0.001  # about what it takes to sign for one; a storm of them is spread over rounds of the loop
TLS_PLACE_WAIT_S_MAX = 1.0  # in a storm those who have begun finish first; but those who never do keep nobody out
CIPHERTEXT_CHUNK_BYTES = 65_536
PIECE_BYTES = 65_536  # encrypted at once
SEND_NOW_BYTES = 4 * PIECE_BYTES  # encrypted before the system is asked whether it takes any
SEND_BYTES_MAX = 2_097_152  # sent in one call, as a portion of the writer's; more is left to it
RECORD_BYTES_MAX = 16_384  # of what is encrypted (RFC 8446, section 5.1)
RECORD_HEADER_BYTES = 5  # the last two are how many follow
RECORDS_AT_ONCE_MAX = 32  # for OpenSSL: each may bring new keys of TLS 1.3, which take up to 50 microseconds
SILENT_BYTES_MAX = 65_536  # without data in them, from one client: more than the largest record has
READS_AT_ONCE_MAX = 128  # enough for 1 MiB; a record may hold a single byte, in which there is as much work
READ_S_MAX = 0.002  # at once: what holds no data takes time as well, and new keys of TLS 1.3 most of it
DECRYPTED_BYTE_S = 0.8e-9  # with the way to OpenSSL and from it


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
    show_certificate(context, settings, "tls_certificate", "tls_key")
    if settings.tls_client_certificate != "none":
        trust(context, settings, "tls_ca")
        context.verify_mode = CLIENT_CERTIFICATES[settings.tls_client_certificate]
    return context


_NOT_PEM = (
    "there is not both a certificate and its key, in PEM format: name the file that has the key with {}, or put both "
    "into one"
)
_KEY_OF_ANOTHER = "the key belongs to another certificate: name the key that it was issued for with {}"
_NO_AUTHORITY = "there is no certificate of an authority in it, in PEM format: name a file that has one"


def show_certificate(context: ssl.SSLContext, settings: Settings, certificate: str, key: str) -> None:
    """Have the other side shown a certificate.

    Args:
        certificate: the setting that names its file.
        key: the one that names the file of its key; where that is empty, it is in the same file.

    Raises:
        BadCertificate: it cannot be used.
    """
    key_file: str = getattr(settings, key)
    names = [certificate, key] if key_file else [certificate]
    _check_readable(settings, *names)
    try:
        context.load_cert_chain(getattr(settings, certificate), key_file or None, password=no_password)
    except HasPassword as error:
        raise _refusal(settings, names, str(error)) from error
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = _KEY_OF_ANOTHER if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH" else _NOT_PEM
        raise _refusal(settings, names, reason.format(key)) from error


def trust(context: ssl.SSLContext, settings: Settings, authorities: str) -> None:
    """Have the other side's certificate come from authorities.

    Args:
        authorities: the setting that names their file.

    Raises:
        BadCertificate: it cannot be used.
    """
    _check_readable(settings, authorities)
    try:
        context.load_verify_locations(getattr(settings, authorities))
    except (OSError, ValueError) as error:
        raise _refusal(settings, [authorities], _NO_AUTHORITY) from error


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


class TlsHandshakes:
    """The handshakes of those who come to a server, so many at once.

    Args:
        at_once_max: how many.
        turns: shared by all who take much of the event loop.
    """

    def __init__(self, at_once_max: int, turns: Turns) -> None:
        self._places = trio.CapacityLimiter(at_once_max)
        self._turns = turns

    async def conduct(self, stream: TlsStream) -> None:
        """Have one, which raises what ``TlsStream.do_handshake`` does."""
        with trio.move_on_after(TLS_PLACE_WAIT_S_MAX) as waiting:
            await self._places.acquire()
        try:
            await stream.do_handshake(partial(self._turns.take, TLS_HANDSHAKE_S))
        finally:
            if not waiting.cancelled_caught:
                self._places.release()


class TlsStream(DirectStream):
    """A TLS connection on a socket.

    What is read goes through OpenSSL in chunks, and what is sent in pieces, that stay in the processor's cache: memory
    that is new costs more than to encrypt it.

    Args:
        transport: the socket; from now on it belongs to the stream.
        context: the certificates.
        is_server: whether the other side begins.
        session: of an earlier connection to the same server, whose certificates need not be looked at again.
    """

    takes_stretches = False
    read_byte_s = DECRYPTED_BYTE_S

    def __init__(
        self,
        transport: SocketStream,
        context: ssl.SSLContext,
        *,
        is_server: bool = True,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._transport = transport
        self._is_server = is_server
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server, session=session)
        self._sending = trio.Lock()  # what is read can call for an answer, while the writer writes
        self._unsent: list[Part] = []  # encrypted, and not taken by the system
        self._untaken = b""  # of what has come: OpenSSL has yet to get it
        self._record_rest_bytes = 0  # of the record whose beginning it has
        self._silent_bytes = 0  # that it got since there was data in them
        self._has_said_all = False
        self._is_deaf = False  # what comes is passed over, for OpenSSL reads no more
        self._is_drained = True  # nothing can be read before OpenSSL gets more
        self._was_chunk_full = False  # so more may have come already
        self._reads = 0  # of OpenSSL, since the others had their turn
        self._began_s = 0.0  # when that was

    async def do_handshake(self, take_turn: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint) -> None:
        """Agree on keys, and check the other side's certificate.

        Args:
            take_turn: waits until what the other side has said may be handled, which can take a millisecond.

        Raises:
            NoTls: a client speaks something else.
            SentNothing: the other side says nothing at all.
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
                    if self._is_server and data[0] != TLS_HANDSHAKE_RECORD:
                        raise NoTls(f"a client without TLS on the TLS port: it began with {data[:8]!r}") from None
                    self._take_in(data)
                    is_first = False
                elif not self._hand_over():
                    self._take_in(await self._transport.receive_some(CIPHERTEXT_CHUNK_BYTES))
                self._silent_bytes = 0  # how much a handshake may be, OpenSSL knows
                await take_turn()
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
    def channel_binding(self) -> str:
        """What both ends know of this connection alone, in hexadecimal: a last message of the handshake.

        It depends on all that was said before, certificates included (RFC 5929, section 3, as Python has it for 1.3).
        """
        return (self._tls.get_channel_binding("tls-unique") or b"").hex()

    @property
    def context(self) -> ssl.SSLContext:
        """The certificates that it began with."""
        return self._tls.context

    @property
    def is_resumed(self) -> bool:
        """Whether it began with the session of an earlier one."""
        return bool(self._tls.session_reused)

    @property
    def session(self) -> ssl.SSLSession | None:
        """What a client can begin its next connection to this server with, once it has read something."""
        return self._tls.session

    @property
    def certificate(self) -> dict[str, Any]:
        """The other side's certificate, verified; empty where it showed none, or one with a name that is no UTF-8."""
        try:
            return dict(self._tls.getpeercert() or {})
        except ValueError:  # Python reads all of it or nothing
            return {}

    # --- in

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """All that has arrived, up to a limit, waiting for it; ``b""`` when the peer sends no more."""
        size_bytes = CIPHERTEXT_CHUNK_BYTES if max_bytes is None else max_bytes
        await self._wait_for_more()
        while (data := self._decrypted(size_bytes)) is None:
            await self._wait_for_more()
        return data

    async def receive_into(self, body_buffers: Callable[[], Sequence[memoryview]]) -> int:
        """Wait until something has arrived, and decrypt it to where it belongs."""
        while True:
            await self._wait_for_more()
            buffers = body_buffers()
            if not buffers:
                return -1
            size_bytes = self._decrypt_into(buffers)
            if size_bytes is not None:
                return size_bytes

    async def _wait_for_more(self) -> None:
        """Let the others have their turn, and take in what arrives where there is nothing left to read."""
        is_flood, self._reads = self._reads > 1, 0
        if is_flood or self._untaken or not self._is_drained:
            await trio.lowlevel.checkpoint()  # of a flood there is more when the others have had their turn
        if self._is_drained:
            # Who is sending sends this as well: a client that takes nothing while it speaks is read all the same.
            answer_bytes = self._outgoing.pending
            if answer_bytes and (answer_bytes > CIPHERTEXT_CHUNK_BYTES or not self._sending.locked()):
                await self._flush()
            if not self._hand_over():
                self._take_in(await self._receive_ciphertext())
        self._began_s = time.perf_counter()

    async def _receive_ciphertext(self) -> bytes:
        """What arrives, or only its end: a socket closed with something unread takes along what was said last."""
        ciphertext = await self._transport.receive_some(CIPHERTEXT_CHUNK_BYTES)
        while ciphertext and self._is_deaf:
            ciphertext = await self._transport.receive_some(CIPHERTEXT_CHUNK_BYTES)
        return ciphertext

    def _take_in(self, ciphertext: bytes) -> None:
        self._was_chunk_full = len(ciphertext) == CIPHERTEXT_CHUNK_BYTES
        if ciphertext:
            self._untaken += ciphertext
            self._hand_over()
        else:
            self._incoming.write_eof()
            self._is_drained = False

    def _hand_over(self) -> bool:
        """Let OpenSSL have some of what has come, and returns whether there was any.

        It does not stop between records that hold no data, so it gets so many at a time.

        Raises:
            BrokenResourceError: there have been too many of those.
        """
        data, end = self._untaken, self._record_rest_bytes
        for _ in range(RECORDS_AT_ONCE_MAX):
            if end + RECORD_HEADER_BYTES > len(data):
                break
            end += RECORD_HEADER_BYTES + (data[end + 3] << 8 | data[end + 4])
        some, self._untaken = data[:end], data[end:]
        self._record_rest_bytes = max(0, end - len(data))
        if not some:
            return False
        if self._silent_bytes > SILENT_BYTES_MAX:
            raise trio.BrokenResourceError("TLS failed: what the client sends has no data in it")
        self._silent_bytes += len(some)
        self._incoming.write(some)
        self._is_drained = False
        return True

    def _receive_now(self) -> bool:
        """Take in what else has arrived, where it may be much; returns whether anything has.

        OpenSSL is asked for more only where there is some: it is slow to say that there is none.
        """
        if not (self._untaken or self._was_chunk_full) or self._reads >= READS_AT_ONCE_MAX:
            return False
        if time.perf_counter() - self._began_s > READ_S_MAX:
            return False
        if self._hand_over():
            return True
        if not self._was_chunk_full:
            return False
        ciphertext = self._transport.receive_now(CIPHERTEXT_CHUNK_BYTES)
        self._was_chunk_full = False
        if ciphertext:
            self._take_in(ciphertext)
        return not self._is_drained

    def _decrypted(self, size_bytes: int) -> bytes | None:
        """What can be read now; None when that is nothing yet."""
        parts: list[bytes] = []
        incoming, read = self._incoming, self._tls.read
        while size_bytes > 0 and (not self._is_drained or self._receive_now()):
            self._reads += 1
            try:
                data = read(size_bytes if size_bytes < RECORD_BYTES_MAX else RECORD_BYTES_MAX)
            except ssl.SSLError as error:
                if not self._is_end(error):
                    continue
                data = b""
            if not data:
                return b"".join(parts)
            parts.append(data)
            self._silent_bytes = 0
            size_bytes -= len(data)
            if not incoming.pending:
                self._is_drained = not self._tls.pending()
        return b"".join(parts) or None

    def _decrypt_into(self, buffers: Sequence[memoryview]) -> int | None:
        """Read what can be read now into the buffers; returns how much it was, and None when it is nothing yet."""
        filled_bytes = 0
        for buffer in buffers:
            start, end = 0, len(buffer)
            while start < end:
                if self._is_drained and not self._receive_now():
                    return filled_bytes or None
                self._reads += 1
                with buffer[start:] as rest:  # no longer: who has lent the buffers makes bytes of them
                    try:
                        size_bytes: int = self._tls.read(end - start, rest)  # type: ignore[assignment]  # it is
                    except ssl.SSLError as error:
                        if not self._is_end(error):
                            continue
                        size_bytes = 0
                if not size_bytes:
                    return filled_bytes
                self._silent_bytes = 0
                start += size_bytes
                filled_bytes += size_bytes
                if not self._incoming.pending:
                    self._is_drained = not self._tls.pending()
        return filled_bytes

    def _is_end(self, error: ssl.SSLError) -> bool:
        """Whether the peer sends no more, as what reading has raised says; else more has to come.

        Raises:
            BrokenResourceError: it says something else.
        """
        if isinstance(error, ssl.SSLWantReadError) and not self._is_deaf:
            self._is_drained = True
            return False
        if self._has_said_all and not self._is_deaf:  # OpenSSL reads no more if our goodbye found something unread
            self._is_deaf = self._is_drained = True
            self._was_chunk_full, self._untaken = False, b""
            return False
        if self._is_deaf or isinstance(error, ssl.SSLZeroReturnError | ssl.SSLEOFError):
            return True  # without the peer's goodbye as well; AMQP has its own
        raise trio.BrokenResourceError(f"TLS failed: {_reason(error)}") from error

    # --- out

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and hand over to the system all of the data."""
        await self.send_parts([memoryview(data)])
        await trio.lowlevel.cancel_shielded_checkpoint()

    def send_now(self, parts: list[Part]) -> list[Part]:
        """Encrypt and hand over to the system as much as it takes at once; returns what is left."""
        if self._unsent or self._sending.locked() or sum(map(len, parts)) > SEND_BYTES_MAX:
            return parts
        pieces = _pieces(parts, SEND_NOW_BYTES)
        while pieces:
            try:
                self._encrypt(pieces[0])
            except trio.BrokenResourceError:
                return pieces
            pieces = pieces[1:]
            self._unsent = self._transport.send_now(self._unsent) if self._unsent else []
            if self._unsent:
                return pieces or [b""]
        return []

    async def send_parts(self, parts: list[Part]) -> None:
        """Encrypt and hand over to the system all parts."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._sending.locked():
            await self._sending.acquire()
        else:
            self._sending.acquire_nowait()  # without a turn of the event loop
        try:
            await self._flush_locked()
            for piece in _pieces(parts, SEND_BYTES_MAX):
                self._encrypt(piece)
                await self._flush_locked()
        finally:
            self._sending.release()

    async def _flush(self) -> None:
        """Send what is encrypted."""
        await self.send_parts([])

    async def _flush_locked(self) -> None:
        while self._unsent or self._outgoing.pending:
            unsent, self._unsent = self._unsent, []
            if self._outgoing.pending:
                unsent.append(self._outgoing.read())
            await self._transport.send_parts(unsent)

    def _encrypt(self, piece: Part) -> None:
        """Make of a piece what is to be sent."""
        data = memoryview(piece)  # type: ignore[arg-type]  # only sockets get stretches
        try:
            for start in range(0, len(data), PIECE_BYTES):
                self._tls.write(data[start : start + PIECE_BYTES])
                self._unsent.append(self._outgoing.read())
        except ssl.SSLError as error:
            raise trio.BrokenResourceError(f"TLS failed: {_reason(error)}") from error

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the system's buffer takes more."""
        await self._transport.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Tell the peer that no more will be sent, in TLS and then in TCP."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # it wants to read the peer's goodbye as well, for which we do not wait
            pass
        self._has_said_all = True
        await self._flush()
        await self._transport.send_eof()

    async def aclose(self) -> None:
        """Close the socket, without a word."""
        await self._transport.aclose()


def _pieces(parts: list[Part], size_bytes: int) -> list[Part]:
    """The same bytes in pieces of this size."""
    data = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))  # type: ignore[arg-type]  # as above
    return [data[start : start + size_bytes] for start in range(0, len(data), size_bytes)]


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
