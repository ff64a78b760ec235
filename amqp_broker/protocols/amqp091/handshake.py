"""From the protocol header to connection.open-ok: authentication, negotiation, the virtual host.

    protocol header -> start -> start-ok -> tune -> tune-ok -> open -> open-ok

Each step expects one method; any other is an error. Holds no channels.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, cast

from amqp_broker.access.client import Client, check_access
from amqp_broker.access.mechanisms import EXTERNAL, MECHANISMS, BadResponse, read_response
from amqp_broker.access.users import User
from amqp_broker.errors import NO_METHOD, AmqpError, ReplyCode, not_allowed
from amqp_broker.protocols.amqp091.server_properties import server_properties
from amqp_broker.wire import methods
from amqp_broker.wire.methods import Method, build, class_and_method_id
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.virtual_host import VirtualHost
    from amqp_broker.protocols.amqp091.connection import Connection

FRAME_SIZE_BYTES_MIN = 4096
CHANNELS_MIN = 1


class Step(Enum):
    """What the handshake waits for; the names are RabbitMQ's, they stand in texts."""

    HEADER = "pre_init"
    START_OK = "starting"
    TUNE_OK = "tuning"
    OPEN = "opening"


class Handshake:
    """The handshake of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._step = Step.HEADER
        self._user: User | None = None

    @property
    def user_name(self) -> str:
        """Who has authenticated, empty before."""
        return self._user.name if self._user is not None else ""

    @property
    def _mechanisms(self) -> tuple[str, ...]:
        return MECHANISMS if self._connection.peer.certificate_name is None else (*MECHANISMS, EXTERNAL)

    def start(self, minor_version: int) -> None:
        """The protocol header was right: begin."""
        start = build(
            methods.Connection.Start,
            version_major=0,
            version_minor=minor_version or 9,
            server_properties=server_properties(self._connection.broker.settings),
            mechanisms=" ".join(self._mechanisms),
            locales="en_US",
        )
        self._connection.send_method(0, start)
        self._step = Step.START_OK

    def handle(self, method: Method) -> None:
        """Take the next step.

        Raises:
            AmqpError: the client may not, or sent what does not belong here.
        """
        match self._step, method:
            case Step.START_OK, methods.Connection.StartOk():
                self._authenticate(method)
            case Step.TUNE_OK, methods.Connection.TuneOk():
                self._tune(method)
            case Step.OPEN, methods.Connection.Open():
                self._open(method)
            case _:
                text = f"unexpected method in connection state {self._step.value}"
                raise AmqpError(ReplyCode.CHANNEL_ERROR, text)

    def tells(self, error: AmqpError) -> bool:
        """Whether the client is told of an error now; else its connection ends in silence."""
        if self._step is Step.START_OK:
            is_able = "authentication_failure_close" in self._connection.client_capabilities
            return is_able and error.code is ReplyCode.ACCESS_REFUSED
        if self._step is Step.TUNE_OK:
            return error.code is ReplyCode.NOT_ALLOWED
        return self._step is Step.OPEN

    def _authenticate(self, method: methods.Connection.StartOk) -> None:
        connection = self._connection
        connection.client_properties = cast(Table, method.client_properties or {})  # pamqp declares its own values
        capabilities = connection.client_properties.get("capabilities")
        if isinstance(capabilities, dict):
            connection.client_capabilities = frozenset(name for name, value in capabilities.items() if value is True)
        mechanism = method.mechanism
        if mechanism not in self._mechanisms:
            raise AmqpError(ReplyCode.COMMAND_INVALID, f"unknown authentication mechanism '{mechanism}'")
        connection.auth_mechanism = mechanism
        if mechanism == EXTERNAL:
            name = connection.peer.certificate_name or ""
            if not name:
                raise _login_refused(mechanism, "the client showed no certificate that names a user")
            user = connection.broker.users.get(name)
        else:
            try:
                name, password = read_response(mechanism, method.response.encode("utf-8", "surrogateescape"))
            except BadResponse as error:
                raise AmqpError(ReplyCode.SYNTAX_ERROR, str(error)) from error
            user = connection.broker.users.authenticate(name, password)
        if user is None:
            raise _login_refused(mechanism, f"user '{name}' - invalid credentials")
        if name in connection.broker.settings.loopback_users and not connection.peer.is_loopback:
            raise _login_refused(mechanism, f"user '{name}' can only connect via localhost")
        self._user = user
        settings = connection.broker.settings
        tune = build(
            methods.Connection.Tune,
            channel_max=settings.channels_per_connection_max,
            frame_max=settings.frame_size_bytes_max,
            heartbeat=settings.heartbeat_s,
        )
        connection.send_method(0, tune)
        self._step = Step.TUNE_OK

    def _tune(self, method: methods.Connection.TuneOk) -> None:
        settings = self._connection.broker.settings
        _check_negotiated("frame_max", method.frame_max, FRAME_SIZE_BYTES_MIN, settings.frame_size_bytes_max)
        _check_negotiated("channel_max", method.channel_max, CHANNELS_MIN, settings.channels_per_connection_max)
        self._connection.tuned(method.frame_max, method.channel_max, method.heartbeat)
        self._step = Step.OPEN

    def _open(self, method: methods.Connection.Open) -> None:
        user = self._user
        assert user is not None
        name = method.virtual_host
        virtual_host = self._connection.broker.virtual_hosts.get(name)
        if virtual_host is None:
            raise not_allowed(f"vhost {name} not found")
        self._check_limits(user, virtual_host)
        check_access(user, name)
        self._connection.opened(Client(user, name), virtual_host)
        self._connection.send_method(0, build(methods.Connection.OpenOk))

    def _check_limits(self, user: User, virtual_host: VirtualHost) -> None:
        """Refuse one connection more than there may be."""
        broker = self._connection.broker
        connections, limit = broker.open_connections, broker.settings.connections_max
        if limit and len(connections) >= limit:
            raise not_allowed(f"connection refused: node connection limit ({limit}) is reached")
        of_virtual_host = virtual_host.limits.connections_max
        if of_virtual_host is not None and len(connections.in_virtual_host(virtual_host.name)) >= of_virtual_host:
            refused = f"access to vhost '{virtual_host.name}' refused for user '{user.name}'"
            raise not_allowed(f"{refused}: connection limit ({of_virtual_host}) is reached")
        of_user = user.limits.connections_max
        if of_user is not None and len(connections.of_user(user.name)) >= of_user:
            refused = f"connection refused for user '{user.name}'"
            raise not_allowed(f"{refused}: user connection limit ({of_user}) is reached")


def _login_refused(mechanism: str, detail: str) -> AmqpError:
    """The 403 of a login; why stands in the log only, a stranger is not told."""
    text = f"Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    return AmqpError(ReplyCode.ACCESS_REFUSED, text, blamed=NO_METHOD, detail=detail)


def _check_negotiated(name: str, value: int, minimum: int, maximum: int) -> None:
    """Refuse what lies outside of the bounds; 0 means no limit, on either side."""
    if value and value < minimum:
        raise _refuse(f"negotiated {name} = {value} is lower than the minimum allowed value ({minimum})")
    if maximum and (value == 0 or value > maximum):
        shown = "0 (no limit)" if value == 0 else str(value)
        raise _refuse(f"negotiated {name} = {shown} is higher than the maximum allowed value ({maximum})")


def _refuse(explanation: str) -> AmqpError:
    """The 530 of a negotiation that failed; RabbitMQ blames its own connection.tune for it."""
    return AmqpError(ReplyCode.NOT_ALLOWED, explanation, blamed=class_and_method_id(methods.Connection.Tune))
