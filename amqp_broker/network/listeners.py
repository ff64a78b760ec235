"""Sockets that clients connect to: which addresses a host name stands for, binding them, accepting for ever."""

from __future__ import annotations

import errno
import logging
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import trio

from amqp_broker.explanations import system_reason
from amqp_broker.logs import log_event

_BACKLOG = 1024
_PORT_ATTEMPTS = 20
_PAUSE_AFTER_FAILURE_S = 0.1

# In each round of the event loop: with one, a crowd that comes and goes would make all others wait to be let in.
_ACCEPTED_AT_ONCE_MAX = 8

# What a name stands for beside what the resolver says: both families, whatever /etc/hosts holds.
_WELL_KNOWN_HOSTS = {"localhost": ("127.0.0.1", "::1"), "*": ("0.0.0.0", "::")}

# What stands for every address of a family: IPv4, IPv6.
_EVERY_ADDRESS = ("0.0.0.0", "::")

# What stands for every address is no address that a client could connect to.
_WITHIN_THIS_MACHINE = {"*": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}

# This machine has no such address or no such family: no reason to fail while another address serves the same name.
_NO_SUCH_ADDRESS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}

# The listening socket itself is no good any more. Everything else that accept reports concerns one client, or is a
# shortage (of descriptors, of memory) that passes.
_LISTENER_IS_GONE = {errno.EBADF, errno.ENOTSOCK, errno.EINVAL}


AMQP = "amqp"  # the protocol of a listener that says no other
HTTP = "http"
METRICS = "metrics"  # HTTP as well, for Prometheus
FORWARDED = "forwarded"  # HTTP as well, from another node of the same cluster, which names the user
FOR_ADMINISTRATORS = (HTTP, METRICS, FORWARDED)
USER_COUNTS = "user-counts"  # what the owners of a broker's shards tell each other (server/sharding/user_counts.py)
MQTT = "mqtt"
STOMP = "stomp"
STREAMS = "streams"
WEB_SOCKETS = "web-sockets"  # those of all protocols


class CannotListen(Exception):
    """An address cannot be listened on; the text names it, the reason and the way out."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address where clients can connect.

    Args:
        host: the name as it was asked for.
        address: the IP address that is bound.
        port: the TCP port.
        is_tls: whether TLS is spoken there.
        protocol: the name of the protocol that is spoken there.
    """

    host: str
    address: str
    port: int
    is_tls: bool = False
    protocol: str = AMQP

    @property
    def url(self) -> str:
        """A URL of its protocol that clients on this machine can use, by the name that was asked for."""
        host = _WITHIN_THIS_MACHINE.get(self.host, self.host)
        scheme = {METRICS: HTTP, WEB_SOCKETS: "ws"}.get(self.protocol, self.protocol)
        if self.protocol == STREAMS:  # as RabbitMQ's clients write it
            return f"rabbitmq-stream{'+tls' if self.is_tls else ''}://{bracketed(host)}:{self.port}"
        path = "/ws" if self.protocol == WEB_SOCKETS else ""
        return f"{scheme}{'s' if self.is_tls else ''}://{bracketed(host)}:{self.port}{path}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.address == "::1" or self.address.startswith("127.")

    def __str__(self) -> str:
        return f"{bracketed(self.address)}:{self.port}"


def bracketed(host: str) -> str:
    """A host as it stands before a colon and a port."""
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket and what it is bound to."""

    socket: socket.socket
    endpoint: Endpoint

    @property
    def is_listening(self) -> bool:
        """Whether clients can connect, whichever process has let them."""
        is_open = self.socket.fileno() >= 0
        return is_open and self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0

    @property
    def is_closed(self) -> bool:
        """Whether nobody is listened to."""
        return self.socket.fileno() < 0

    def close(self) -> None:
        """Stop listening."""
        if not self.is_closed:
            self.socket.close()

    def reopened(self) -> Listener:
        """Another one, bound to the same address; nobody can connect before ``listen``.

        Raises:
            CannotListen: the port is taken by now.
        """
        endpoint = self.endpoint
        try:
            return replace(_bind_one(endpoint.host, endpoint.address, endpoint.port), endpoint=endpoint)
        except OSError as error:
            raise CannotListen(f"cannot listen on {endpoint} again: {system_reason(error)}") from error


async def bind(
    hosts: Iterable[str], port: int, *, is_tls: bool = False, protocol: str = AMQP, setting: str = "port"
) -> list[Listener]:
    """Bind every address of every host once, all on the same port. Nobody can connect before ``listen``.

    Args:
        hosts: names or addresses, those of IPv6 with brackets or without; ``localhost`` is both loopbacks, ``*`` is
            every address.
        port: the TCP port; 0 takes one that is free on all of them.
        is_tls: whether TLS is to be spoken there.
        protocol: the name of the protocol that is to be spoken there.
        setting: which one chooses the port.

    Raises:
        CannotListen: a host has no address here, or its port is taken.
    """
    addresses = _each_once({host: await _addresses_of(host) for host in map(_unbracketed, hosts)})
    for attempt in range(_PORT_ATTEMPTS):
        try:
            bound = _bind_all(addresses, port)
            return [Listener(one.socket, replace(one.endpoint, is_tls=is_tls, protocol=protocol)) for one in bound]
        except _PortTaken as taken:
            if port or attempt == _PORT_ATTEMPTS - 1:
                raise CannotListen(
                    f"port {taken.port} on {taken.address} is in use by another process: stop it, or choose another "
                    f"one with the setting {setting}"
                ) from taken
    raise AssertionError("unreachable")


def listen(listeners: Iterable[Listener]) -> None:
    """Let clients connect.

    Raises:
        CannotListen: another process took the port in the meantime.
    """
    for listener in listeners:
        try:
            listener.socket.listen(_BACKLOG)
        except OSError as error:
            raise CannotListen(
                f"cannot listen on {listener.endpoint}: {error.strerror}: choose another one with the setting port"
            ) from error


async def accept_forever(listener: Listener, on_accepted: Callable[[socket.socket], None]) -> None:
    """Hand on every client that connects; ends by cancellation, or when the listener is closed.

    Whoever closes it tells trio first (``trio.lowlevel.notify_closing``).

    Args:
        listener: accepts clients.
        on_accepted: takes each client's socket and must not raise.
    """
    is_short = False
    while not listener.is_closed:
        try:
            await trio.lowlevel.wait_readable(listener.socket)
            for _ in range(_ACCEPTED_AT_ONCE_MAX):
                accepted, _ = listener.socket.accept()
                is_short = False
                on_accepted(accepted)
        except (BlockingIOError, InterruptedError, ConnectionAbortedError, trio.ClosedResourceError):
            continue
        except OSError as error:
            if listener.socket.fileno() < 0:  # closed while a client was let in
                return
            if error.errno in _LISTENER_IS_GONE:
                raise
            if not is_short:
                log_event(logging.ERROR, "cannot accept", listener=str(listener.endpoint), reason=system_reason(error))
            is_short = True
            await trio.sleep(_PAUSE_AFTER_FAILURE_S)


class _PortTaken(Exception):
    def __init__(self, address: str, port: int) -> None:
        super().__init__(address, port)
        self.address = address
        self.port = port


def _unbracketed(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") and ":" in host else host


def _each_once(addresses: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Leave out what an earlier host, or one that stands for every address, has already."""
    everything = {address for found in addresses.values() for address in found}
    seen: set[str] = set()
    kept = {}
    for host, found in addresses.items():
        kept[host] = tuple(one for one in found if one not in seen and not _is_within_another(one, everything))
        seen.update(found)
    return kept


def _is_within_another(address: str, others: set[str]) -> bool:
    every = _EVERY_ADDRESS[":" in address]
    return address != every and every in others


async def _addresses_of(host: str) -> tuple[str, ...]:
    if host in _WELL_KNOWN_HOSTS:
        return _WELL_KNOWN_HOSTS[host]
    try:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # ValueError for what can be no name at all: the codec of names refuses it
        reason = error.strerror if isinstance(error, OSError) else "not a name"
        raise CannotListen(
            f"host {host!r} is not known here ({reason}): name one of this machine with the setting host"
        ) from error
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def _bind_all(addresses: dict[str, tuple[str, ...]], port: int) -> list[Listener]:
    bound: list[Listener] = []
    try:
        for host, candidates in addresses.items():
            before, missing = len(bound), None
            for address in candidates:
                try:
                    listener = _bind_one(host, address, port)
                except OSError as error:
                    if error.errno not in _NO_SUCH_ADDRESS:
                        raise _refusal(address, port, error) from error
                    missing = error
                    continue
                bound.append(listener)
                port = listener.endpoint.port
            if missing is not None and len(bound) == before:
                raise CannotListen(
                    f"{host} has no address on this machine ({missing.strerror}): choose another with the setting host"
                )
    except BaseException:
        for listener in bound:
            listener.close()
        raise
    return bound


def _refusal(address: str, port: int, error: OSError) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return _PortTaken(address, port)
    if error.errno == errno.EACCES:
        way_out = "choose a port above 1023 with the setting port"
    else:
        way_out = "choose another with the setting host"
    return CannotListen(f"cannot listen on {bracketed(address)}:{port}: {error.strerror}: {way_out}")


def _bind_one(host: str, address: str, port: int) -> Listener:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        if sys.platform == "win32":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address, port))
    except BaseException:
        one.close()
        raise
    return Listener(one, Endpoint(host, address, one.getsockname()[1]))
