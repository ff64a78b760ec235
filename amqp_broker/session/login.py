"""Login: who a client is, and whether it may enter a virtual host, for every protocol that has users.

``Login`` is asked in two steps, as most protocols have them: who is it (``authenticate``), and may it be there
(``enter``). A refusal is a ``Refused`` with a reason, which each protocol says in its own codes.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from amqp_broker.access.client import Client, Peer, check_access
from amqp_broker.access.mechanisms import EXTERNAL, MECHANISMS, BadResponse, read_response
from amqp_broker.access.users import User
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.virtual_host import VirtualHost

ANONYMOUS: Final = "ANONYMOUS"  # SASL's mechanism of who does not say who it is
NOBODY: Final = "none"  # as ``anonymous_login_user``; RabbitMQ's


class Refusal(Enum):
    """The reason why a client is refused."""

    UNKNOWN_MECHANISM = auto()
    MALFORMED_RESPONSE = auto()
    LOGIN = auto()  # neither who it is nor from where it comes is good enough; the client is not told which
    UNKNOWN_VIRTUAL_HOST = auto()
    TOO_MANY_CONNECTIONS = auto()


class Refused(Exception):
    """A client is refused.

    Args:
        reason: why, for the protocol.
        text: why, in words that the client may read; for ``Refusal.LOGIN`` they are for the log only.
    """

    def __init__(self, reason: Refusal, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Login:
    """The login of one client.

    Args:
        broker: where it wants to be.
        peer: what its socket knows of it: address, certificate.
    """

    def __init__(self, broker: Broker, peer: Peer) -> None:
        self._broker = broker
        self._peer = peer
        self._user: User | None = None
        self.claimed_name = ""  # who it says it is, true or not: for the log

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The names of the SASL mechanisms that this client may use."""
        return MECHANISMS if self._peer.certificate_name is None else (*MECHANISMS, EXTERNAL)

    @property
    def user(self) -> User:
        """Who has authenticated."""
        assert self._user is not None
        return self._user

    @property
    def user_name(self) -> str:
        """Who has authenticated, empty before."""
        return self._user.name if self._user is not None else ""

    def authenticate(self, mechanism: str, response: bytes) -> None:
        """Find out who the client is, by a SASL mechanism.

        Args:
            mechanism: one of ``mechanisms``.
            response: what the client sent for it.

        Raises:
            Refused: it is nobody that may log in from there.
            NotVerifiedYet: to be asked again when the password is verified (``Driver.verify_password``).
            NotDecidedYet: the same when somebody else has said.
        """
        if mechanism not in self.mechanisms:
            raise Refused(Refusal.UNKNOWN_MECHANISM, f"unknown authentication mechanism '{mechanism}'")
        if mechanism == EXTERNAL:
            self._authenticate_by_certificate()
            return
        try:
            name, password = read_response(mechanism, response)
        except BadResponse as error:
            raise Refused(Refusal.MALFORMED_RESPONSE, str(error)) from error
        self.authenticate_by_password(name, password)

    @property
    def mechanisms_with_anonymous(self) -> tuple[str, ...]:
        """The names of all SASL mechanisms, in protocols that have one for clients that do not say who they are."""
        return (*self.mechanisms, ANONYMOUS) if self.lets_anonymous_in else self.mechanisms

    @property
    def lets_anonymous_in(self) -> bool:
        """Whether somebody may come in who does not say who it is."""
        return self._broker.settings.anonymous_login_user != NOBODY

    def authenticate_anonymous(self) -> None:
        """The same for a client that does not say who it is, which is ``anonymous_login_user``, as in RabbitMQ.

        It is not ``default_user``, who is an administrator, and whose password nobody else is to log in with.

        Raises:
            Refused: there is none, it may not log in from there, or has another password than that of the settings.
            NotVerifiedYet, NotDecidedYet: to be asked again when that is known.
        """
        settings = self._broker.settings
        if not self.lets_anonymous_in:
            raise Refused(Refusal.UNKNOWN_MECHANISM, "nobody may log in without a user name")
        self.authenticate_by_password(
            settings.anonymous_login_user, settings.anonymous_login_password.encode("utf-8", "surrogateescape")
        )

    def authenticate_by_password(self, name: str, password: bytes) -> None:
        """The same, for protocols that have a user name and a password in fields of their own.

        Raises:
            Refused: name or password is wrong, or the user may not log in from there.
            NotVerifiedYet, NotDecidedYet: to be asked again when that is known.
        """
        self.claimed_name = name
        authority = self._broker.driver.authority
        if authority is None:
            self._admit(name, self._broker.users.authenticate(name, password))
        else:
            self._admit(name, authority.authenticate(name, password, self._peer))

    def _authenticate_by_certificate(self) -> None:
        name = self._peer.certificate_name or ""
        if not name:
            raise Refused(Refusal.LOGIN, "the client showed no certificate that names a user")
        self.claimed_name = name
        authority = self._broker.driver.authority
        if authority is None:
            self._admit(name, self._broker.users.get(name))
        else:
            self._admit(name, authority.authenticate(name, None, self._peer))

    def _admit(self, name: str, user: User | None) -> None:
        if user is None:
            raise Refused(Refusal.LOGIN, f"user '{name}' - invalid credentials")
        name = user.name
        if name in self._broker.settings.loopback_users and not self._peer.is_loopback:
            raise Refused(Refusal.LOGIN, f"user '{name}' can only connect via localhost")
        self._user = user

    def adopt(self, user: User) -> None:
        """Be this user, who has authenticated anew."""
        self._user = user

    def renewed(self, secret: bytes) -> User:
        """The user that a new secret proves, where they have authenticated with one that expires.

        Raises:
            Refused: it proves none, or another user.
            NotDecidedYet: to be asked again when somebody else has said.
        """
        authority, before = self._broker.driver.authority, self.user
        user = authority.authenticate(before.name, secret, self._peer) if authority is not None else None
        if user is None or user.name != before.name:
            raise Refused(Refusal.LOGIN, f"user '{before.name}' - invalid credentials")
        self._user = user
        return user

    def tell(self, mechanism: str, protocol: str, error: str = "") -> None:
        """Tell those who look on how a login went that a protocol asked for.

        Args:
            error: why it was refused; empty where it was not.
        """
        observers, peer = self._broker.observers, self._peer
        if not observers.present_for_changes:
            return
        details: dict[str, object] = {"name": self.claimed_name, "connection_type": "network"}
        if peer.direct_name:
            details["connection_type"] = "direct"  # and no more is told, as in RabbitMQ
        else:
            details |= {
                "host": peer.our_host,
                "connection_name": peer.connection_name,
                "peer_host": peer.host,
                "peer_port": peer.port,
                "protocol": protocol,
                "auth_mechanism": mechanism,
                "ssl": peer.tls is not None,
            }
        if error:
            details["error"] = error
        observers.happened(f"user.authentication.{'failure' if error else 'success'}", details, "")

    def enter(self, name: str, client_id: str | None = None) -> tuple[Client, VirtualHost]:
        """Enter a virtual host, by its name, after ``authenticate``.

        Args:
            client_id: the identifier of a client of MQTT.

        Raises:
            Refused: there is no such virtual host, or there are too many connections already.
            AmqpError: the user may not be there.
            NotDecidedYet: to be asked again when somebody else has said.
        """
        user = self._user
        assert user is not None
        virtual_host = self._broker.virtual_hosts.get(name)
        if virtual_host is None:
            raise Refused(Refusal.UNKNOWN_VIRTUAL_HOST, f"vhost {name} not found")
        self._check_limits(user, virtual_host)
        check_access(user, name)
        names_permission = virtual_host.behaviour.refusals_name_the_permission
        client = Client(user, name, refusals_name_the_permission=names_permission, client_id=client_id)
        return client, virtual_host

    def _check_limits(self, user: User, virtual_host: VirtualHost) -> None:
        """Refuse one connection more than there may be."""
        connections, limit = self._broker.open_connections, self._broker.settings.connections_max
        if limit and connections.count_in_whole_broker() >= limit:
            raise _too_many(f"connection refused: node connection limit ({limit}) is reached")
        of_virtual_host = virtual_host.limits.connections_max
        if of_virtual_host is not None and len(connections.in_virtual_host(virtual_host.name)) >= of_virtual_host:
            refused = f"access to vhost '{virtual_host.name}' refused for user '{user.name}'"
            raise _too_many(f"{refused}: connection limit ({of_virtual_host}) is reached")
        of_user = user.limits.connections_max
        if of_user is not None and connections.connection_count_of_user(user.name) >= of_user:
            refused = f"connection refused for user '{user.name}'"
            raise _too_many(f"{refused}: user connection limit ({of_user}) is reached")


def _too_many(text: str) -> Refused:
    return Refused(Refusal.TOO_MANY_CONNECTIONS, text)
