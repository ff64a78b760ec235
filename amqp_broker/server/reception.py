"""The reception of clients: listeners, how many there may be, and all that comes before the protocol, PROXY and TLS.

Whoever has come through is handed over as a stream and a peer. Knows no broker and no protocol.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import trio

from amqp_broker.access.client import Peer
from amqp_broker.logs import log_event, log_internal_error
from amqp_broker.network.listeners import (
    FOR_ADMINISTRATORS,
    HTTP,
    METRICS,
    WEB_SOCKETS,
    CannotListen,
    Endpoint,
    Listener,
    accept_forever,
    bind,
    listen,
)
from amqp_broker.network.proxy_protocol import BadProxyHeader, read_proxy_header
from amqp_broker.network.socket_stream import SentNothing, SocketStream, keep_alive
from amqp_broker.network.tls import NoTls, TlsContext, TlsHandshakes, TlsStream, name_in
from amqp_broker.network.turns import Turns
from amqp_broker.network.web_socket_error import NoWebSocket
from amqp_broker.server.descriptors import connections_that_fit
from amqp_broker.settings import DESCRIPTIONS, OTHER_PROTOCOLS, Settings, port_setting

WEB_SOCKET_HANDSHAKE_S = 0.0003  # the same for reading a request and answering it

Serve = Callable[[trio.abc.Stream, Peer, str], Awaitable[None]]  # the last is the protocol of the listener


class Reception:
    """The listeners of one server.

    Args:
        settings: where to listen, limits, TLS.
        turns: shared by all who take much of the event loop.
        serve: has the conversation of one client who has come through.
        clients: how many are being served, and how many of them have logged in.
    """

    is_http_served = False  # whether somebody speaks it: to be said before ``bind``

    def __init__(self, settings: Settings, turns: Turns, serve: Serve, clients: Callable[[], tuple[int, int]]) -> None:
        self._settings = settings
        self._turns = turns
        self._serve = serve
        self._clients = clients
        self._listeners: list[Listener] = []
        self._tls: TlsContext | None = None
        self._tls_handshakes = TlsHandshakes(settings.tls_handshakes_max, turns)
        self._is_refusing = False
        self._is_suspended = False
        self._accept_at: Callable[[Listener], None] | None = None  # begins to accept there, while clients are served
        self._arriving = 0  # clients whose task has not begun yet
        self._welcoming = 0  # clients whose PROXY header or TLS handshake is awaited

    # --- addresses

    @property
    def listeners(self) -> list[Listener]:
        """What was bound, or taken over."""
        return self._listeners

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where clients can connect."""
        return [one.endpoint for one in self._listeners if not (self._is_suspended and _is_for_clients(one))]

    async def bind(self) -> None:
        """Take the addresses, so that nobody else can; clients cannot connect yet.

        Raises:
            CannotListen: an address is not to be had.
            BadCertificate: the certificates for TLS cannot be used.
        """
        settings = self._settings
        self.take_over([])
        listeners = await bind(settings.host, settings.port)
        try:
            if self._tls is not None:
                listeners += await bind(settings.host, settings.tls_port, is_tls=True, setting="tls_port")
            if self.is_http_served:
                listeners += await self._bind_http(HTTP)
                listeners += await self._bind_http(METRICS)
                if self._tls is not None:
                    listeners += await self._bind_http(HTTP, is_tls=True)
            for protocol in OTHER_PROTOCOLS:
                listeners += await self._bind_other(protocol)
                if self._tls is not None:
                    listeners += await self._bind_other(protocol, is_tls=True)
            if settings.plugin_protocols:
                listeners += await self._bind_plugins()
        finally:
            self._listeners = listeners  # closed when the server ends, also when that is now

    def take_over(self, listeners: list[Listener]) -> None:
        """Have addresses that somebody else has bound, and others may accept clients of as well.

        Raises:
            BadCertificate: the certificates for TLS cannot be used.
        """
        self._tls = TlsContext(self._settings) if self._settings.tls_certificate else None
        self._listeners = listeners

    async def _bind_other(self, protocol: str, *, is_tls: bool = False) -> list[Listener]:
        """An address for a protocol beside AMQP, if there is to be one."""
        port = self._settings.port_of(protocol, is_tls=is_tls)
        if port is None:
            return []
        if protocol == WEB_SOCKETS:
            _check_library()
        setting = port_setting(protocol, is_tls=is_tls)
        return await bind(self._settings.host, port, is_tls=is_tls, protocol=protocol, setting=setting)

    async def _bind_plugins(self) -> list[Listener]:
        """The addresses of protocols that packages bring."""
        from amqp_broker.server.plugin_protocols import SETTING, plugin_connections, plugin_listeners

        plugin_connections(self._settings)  # raises where one of them is not to be had
        bound = []
        for protocol, port, is_tls in plugin_listeners(self._settings):
            bound += await bind(self._settings.host, port, is_tls=is_tls, protocol=protocol, setting=SETTING)
        return bound

    async def _bind_http(self, protocol: str, *, is_tls: bool = False) -> list[Listener]:
        """An address for administrators, if there is to be one. Where nobody chose it, the broker can do without it."""
        setting = _setting_of(protocol, is_tls)
        port: int = getattr(self._settings, setting)
        if port < 0:
            return []
        try:
            hosts = self._settings.management_host
            return await bind(hosts, port, is_tls=is_tls, protocol=protocol, setting=setting)
        except CannotListen as error:
            if port != DESCRIPTIONS[setting].default:
                raise
            _warn_of_missing_http(error)
            return []

    def listen(self) -> None:
        """Let clients connect; they are answered as soon as ``run`` runs.

        Raises:
            CannotListen: another process took an address in the meantime.
        """
        for listener in list(self._listeners):
            try:
                listen([listener])
            except CannotListen as error:
                endpoint = listener.endpoint
                if endpoint.protocol not in FOR_ADMINISTRATORS:
                    raise
                if endpoint.port != DESCRIPTIONS[_setting_of(endpoint.protocol, endpoint.is_tls)].default:
                    raise
                _warn_of_missing_http(error)
                listener.close()
                self._listeners.remove(listener)

    def stop_listening(self) -> None:
        """Give the addresses back."""
        for listener in self._listeners:
            listener.close()

    def suspend(self) -> None:
        """Close all addresses but those for administrators, until ``resume``; clients that are here stay."""
        if self._is_suspended:
            return
        self._is_suspended = True
        for listener in filter(_is_for_clients, self._listeners):
            trio.lowlevel.notify_closing(listener.socket)
            listener.close()

    def resume(self) -> None:
        """Let clients connect again where they could.

        Raises:
            CannotListen: another process took an address in the meantime; those before it are open again.
        """
        if not self._is_suspended:
            return
        for place, listener in enumerate(self._listeners):
            if _is_for_clients(listener) and listener.is_closed:
                again = self._listeners[place] = listener.reopened()
                try:
                    listen([again])
                except CannotListen:
                    again.close()  # so that it is tried again when this is
                    raise
                assert self._accept_at is not None, "who suspends, serves"
                self._accept_at(again)
        self._is_suspended = False

    def reload_certificates(self) -> None:
        """Read the certificates again, for connections to come; those that are open go on."""
        if self._tls is not None:
            self._tls.reload()

    # --- clients

    async def run(self, serving: trio.Nursery) -> None:
        """Accept clients until cancelled.

        Args:
            serving: for their conversations, which go on when no more are accepted.
        """
        async with trio.open_nursery() as accepting:

            def accept_at(listener: Listener) -> None:
                accepting.start_soon(accept_forever, listener, partial(self._accept, serving, listener))

            self._accept_at = accept_at
            for listener in self._listeners:
                accept_at(listener)
            await trio.sleep_forever()

    def _accept(self, serving: trio.Nursery, listener: Listener, accepted: socket.socket) -> None:
        if self.refuses_more():
            accepted.close()
            return
        try:
            peer = _peer_of(accepted)
            keep_alive(accepted)
            stream = SocketStream(accepted)
        except OSError:
            log_event(logging.DEBUG, "connection failed", reason="the client left before it was greeted")
            accepted.close()
            return
        self._arriving += 1
        serving.start_soon(self._receive, stream, peer, listener.endpoint)

    async def _receive(self, stream: SocketStream, peer: Peer, endpoint: Endpoint) -> None:
        self._arriving -= 1  # whatever comes now counts the client in its own way before it waits for anything
        try:
            if endpoint.is_tls or endpoint.protocol == WEB_SOCKETS or self._comes_by_proxy(endpoint):
                await self._welcome(stream, peer, endpoint)
            else:
                await self._serve(stream, peer, endpoint.protocol)
        except Exception as error:  # a defect ends one connection, and not all of them
            log_internal_error("connection", error, peer=str(peer))
            await trio.aclose_forcefully(stream)

    def _comes_by_proxy(self, endpoint: Endpoint) -> bool:
        """Whether a load balancer speaks first: it stands before the clients, not before the administrators."""
        return self._settings.proxy_protocol == "required" and endpoint.protocol not in FOR_ADMINISTRATORS

    async def _welcome(self, transport: SocketStream, peer: Peer, endpoint: Endpoint) -> None:
        """Have all that comes before the protocol: who the load balancer speaks for, TLS, the web socket."""
        stream: trio.abc.Stream = transport
        protocol = endpoint.protocol
        reason, severity = "handshake timeout", logging.WARNING
        self._welcoming += 1
        try:
            with trio.move_on_after(self._settings.handshake_timeout_ms / 1000):
                if self._comes_by_proxy(endpoint):
                    peer = await read_proxy_header(transport, peer)
                if endpoint.is_tls:
                    stream, peer = await self._begin_tls(transport, peer)
                if protocol == WEB_SOCKETS:
                    stream, protocol = await self._begin_web_socket(stream)
                reason = ""
        except SentNothing as error:
            reason, severity = str(error), logging.DEBUG
        except (NoTls, NoWebSocket, BadProxyHeader, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            reason = str(error)
        finally:
            self._welcoming -= 1
        if reason:
            log_event(severity, "connection failed", peer=str(peer), reason=reason)
            await trio.aclose_forcefully(stream)
        else:
            await self._serve(stream, peer, protocol)

    async def _begin_web_socket(self, transport: trio.abc.Stream) -> tuple[trio.abc.Stream, str]:
        """Have the handshake of a web socket; returns the bytes in its messages, and what is spoken in them."""
        from amqp_broker.network.web_sockets import WebSocketStream

        stream = WebSocketStream(transport)
        await self._turns.take(WEB_SOCKET_HANDSHAKE_S)
        return stream, await stream.do_handshake()

    async def _begin_tls(self, transport: SocketStream, peer: Peer) -> tuple[TlsStream, Peer]:
        assert self._tls is not None
        stream = TlsStream(transport, self._tls.context)
        await self._tls_handshakes.conduct(stream)
        peer = replace(peer, tls=stream.tls)
        if self._settings.tls_client_certificate != "none":
            peer = replace(peer, certificate_name=name_in(stream.certificate, self._settings.tls_login_from))
        return stream, peer

    def refuses_more(self) -> bool:
        """Whether one more client would be too many; said once, until it would not be again."""
        served, logged_in = self._clients()
        there = served + self._welcoming + self._arriving
        reason = ""
        if there >= connections_that_fit():
            reason = f"{there} are open: raise the limit on open files (ulimit -n)"
        elif there - logged_in >= self._settings.handshakes_max:
            reason = f"{there - logged_in} have not logged in yet: raise handshakes_max if they mean well"
        refuses = bool(reason)
        if refuses and not self._is_refusing:
            log_event(logging.ERROR, "refusing connections", reason=reason)
        self._is_refusing = refuses
        return refuses


def _is_for_clients(listener: Listener) -> bool:
    return listener.endpoint.protocol not in FOR_ADMINISTRATORS


def _check_library() -> None:
    """See that web sockets can be spoken.

    Raises:
        CannotListen: the library is not here.
    """
    try:
        import websockets  # noqa: F401
    except ImportError:
        raise CannotListen(
            "web sockets need the library websockets: pip install 'amqp-broker-server[web-sockets]'"
        ) from None


def _setting_of(protocol: str, is_tls: bool) -> str:
    """What chooses the port of an address for administrators."""
    if protocol == METRICS:
        return "metrics_port"
    return "management_tls_port" if is_tls else "management_port"


def _warn_of_missing_http(error: CannotListen) -> None:
    log_event(logging.WARNING, "no HTTP for administrators", reason=str(error))


def _peer_of(accepted: socket.socket) -> Peer:
    return Peer.at(*accepted.getpeername()[:2], *accepted.getsockname()[:2])
