"""TLS beneath a link: the certificates of a node, and how both ends begin.

Each end shows a certificate and checks that the other's comes from ``link_ca``. What names it has is not looked at: who
is a node is for the secret to say, and its proofs are of this TLS connection and no other (``link.py``). So a
certificate alone lets nobody in, nor does the secret alone. Holds no frames.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from amqp_broker.cluster.link import TLS_AT_ALL_OR_NONE, LinkError, encode
from amqp_broker.explanations import system_reason
from amqp_broker.logs import log_event
from amqp_broker.network.socket_stream import SentNothing, SocketStream
from amqp_broker.network.tls import BadCertificate, NoTls, TlsHandshakes, TlsStream, show_certificate, trust
from amqp_broker.network.turns import Turns
from amqp_broker.settings import Settings

FAREWELL_S: Final = 1.0  # so long a caller may take to hear why it is refused
CALLED: Final = "the node that was called"
CALLER: Final = "a caller"
_NOT_ACCEPTED: Final = (  # in OpenSSL's words, what the other end says of this node's certificate
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
    "TLSV1_ALERT_DECRYPT_ERROR",
    "TLSV1_ALERT_UNKNOWN_CA",
)


class LinkTls:
    """The certificates of a node, for links that it makes and for those that others make to it.

    Args:
        settings: which files, and how many handshakes with callers there may be at once.
        turns: shared by all who take much of the event loop.

    Raises:
        BadCertificate: they cannot be used.
    """

    def __init__(self, settings: Settings, turns: Turns) -> None:
        self._settings = settings
        self._handshakes = TlsHandshakes(settings.tls_handshakes_max, turns)
        self._calling, self._called = _contexts(settings)
        self._sessions: dict[tuple[str, int], ssl.SSLSession] = {}  # with the nodes at these addresses

    def reload(self) -> None:
        """Read the files again, for links to come; when they cannot be used, go on with what there is."""
        try:
            self._calling, self._called = _contexts(self._settings)
            self._sessions.clear()
        except BadCertificate as error:
            log_event(logging.ERROR, "certificates not reloaded", reason=str(error))
        else:
            log_event(logging.INFO, "certificates reloaded", certificate=self._settings.link_certificate)

    async def call(self, stream: trio.SocketStream, place: tuple[str, int]) -> TlsStream:
        """Begin TLS with a node that was called; the connection belongs to what is returned.

        Args:
            place: where the node was called, host and port.

        Raises:
            LinkError: it came to nothing, and the connection is closed.
        """
        session = self._sessions.get(place)
        secured = TlsStream(_transport(stream), self._calling, is_server=False, session=session)
        async with _closed_on_failure(secured):
            try:
                await secured.do_handshake()
            except SentNothing as error:
                text = f"{CALLED} closes the link where TLS begins: it ends, or is without ({TLS_AT_ALL_OR_NONE})"
                raise LinkError(text) from error
            except trio.BrokenResourceError as error:
                raise LinkError(explained(error, CALLED)) from error
        return secured

    def remember(self, place: tuple[str, int], secured: TlsStream) -> None:
        """Begin the next link to a node as the one on which it has just answered, without certificates.

        When an owner is lost all clients come at once, each with a link of its own. A session that was resumed is not
        remembered anew: it would be without end, and a certificate that has expired would be good as long.
        """
        if secured.is_resumed or secured.context is not self._calling:
            return
        session = secured.session
        if session is not None and session.has_ticket:
            self._sessions[place] = session

    async def answer(self, stream: trio.SocketStream) -> TlsStream:
        """Begin TLS with a caller; the connection belongs to what is returned.

        Raises:
            LinkError: it came to nothing, the caller was told, and the connection is closed.
        """
        transport = _transport(stream)
        secured = TlsStream(transport, self._called)
        async with _closed_on_failure(secured):
            try:
                await self._handshakes.conduct(secured)
            except SentNothing as error:
                raise LinkError(f"{CALLER} has gone without a word") from error
            except NoTls as error:
                with suppress(trio.BrokenResourceError):
                    await transport.send_all(encode("refused", text=f"it wants TLS: {TLS_AT_ALL_OR_NONE}"))
                raise LinkError(f"{CALLER} does not begin TLS: {TLS_AT_ALL_OR_NONE}") from error
            except trio.BrokenResourceError as error:
                await _wait_for_the_end(transport)
                raise LinkError(explained(error, CALLER)) from error
        return secured


def _contexts(settings: Settings) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For links that this node makes, and for those that others make to it."""
    called = _context(settings, ssl.PROTOCOL_TLS_SERVER)
    called.num_tickets = 1  # which may be used again and again
    return _context(settings, ssl.PROTOCOL_TLS_CLIENT), called


def _context(settings: Settings, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    show_certificate(context, settings, "link_certificate", "link_key")
    trust(context, settings, "link_ca")
    return context


def _transport(stream: trio.SocketStream) -> SocketStream:
    """The same connection, as TLS wants it; what had it before has none any more."""
    try:
        return SocketStream(socket.socket(fileno=stream.socket.detach()))
    except OSError as error:
        raise LinkError(f"the link has ended: {system_reason(error)}") from error


@asynccontextmanager
async def _closed_on_failure(secured: TlsStream) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await trio.aclose_forcefully(secured)
        raise


async def _wait_for_the_end(transport: SocketStream) -> None:
    """Until the caller has heard why: a connection that is closed before all is read may take that along."""
    with trio.move_on_after(FAREWELL_S), suppress(trio.BrokenResourceError):
        while await transport.receive_some():
            pass


def explained(error: BaseException, who: str) -> str:
    """Why a link has ended, in words; where TLS has ended it, what that means.

    Args:
        error: as a stream raises it.
        who: is at its other end.
    """
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate of {who} is not accepted ({cause.verify_message}): link_ca names who may sign it"
    if isinstance(cause, ssl.SSLEOFError):
        return f"{who} closes the link while TLS begins"
    if not isinstance(cause, ssl.SSLError):
        return str(error)
    if cause.reason in _NOT_ACCEPTED:
        return f"{who} does not accept this node's certificate: the link_ca there names who may sign it"
    if cause.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return f"{who} shows no certificate"
    return f"TLS with {who} has failed: OpenSSL calls it {cause.reason}"
