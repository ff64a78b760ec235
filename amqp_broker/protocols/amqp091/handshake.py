"""From the protocol header to connection.open-ok: authentication, negotiation, the virtual host.

    protocol header -> start -> start-ok -> tune -> tune-ok -> open -> open-ok

Each step expects one method; any other is an error. Who may log in is found out by ``session/login.py``; here it gets
the codes and texts of AMQP 0-9-1. Holds no channels.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, cast

from amqp_broker.errors import NO_METHOD, AmqpError, ReplyCode, not_allowed
from amqp_broker.protocols.amqp091.server_properties import server_properties
from amqp_broker.session.login import Refusal, Refused
from amqp_broker.wire import methods
from amqp_broker.wire.methods import Method, build, class_and_method_id
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.protocols.amqp091.link import Link

FRAME_SIZE_BYTES_MIN = 4096
CHANNELS_MIN = 1


class Step(Enum):
    """The steps of the handshake, by what it waits for; the names are RabbitMQ's, they stand in texts."""

    HEADER = "pre_init"
    START_OK = "starting"
    TUNE_OK = "tuning"
    OPEN = "opening"


class Handshake:
    """The handshake of one connection."""

    def __init__(self, connection: Link) -> None:
        self._connection = connection
        self._step = Step.HEADER

    def start(self, minor_version: int) -> None:
        """The protocol header was right: begin."""
        broker = self._connection.broker
        start = build(
            methods.Connection.Start,
            version_major=0,
            version_minor=minor_version or 9,
            server_properties=server_properties(broker.settings, broker.cluster_name),
            mechanisms=" ".join(self._connection.login.mechanisms),
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
        if mechanism in connection.login.mechanisms:
            connection.auth_mechanism = mechanism
        try:
            connection.login.authenticate(mechanism, method.response.encode("utf-8", "surrogateescape"))
        except Refused as refused:
            connection.login.tell(mechanism, "AMQP 0-9-1", str(refused))
            raise _error_of(refused, mechanism) from None
        connection.login.tell(mechanism, "AMQP 0-9-1")
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
        try:
            client, virtual_host = self._connection.login.enter(method.virtual_host)
        except Refused as refused:
            raise not_allowed(str(refused)) from None
        self._connection.opened(client, virtual_host)
        self._connection.send_method(0, build(methods.Connection.OpenOk))


def _error_of(refused: Refused, mechanism: str) -> AmqpError:
    """What is said of a refused login. Why stands in the log only: the client may be anybody."""
    if refused.reason is Refusal.UNKNOWN_MECHANISM:
        return AmqpError(ReplyCode.COMMAND_INVALID, str(refused))
    if refused.reason is Refusal.MALFORMED_RESPONSE:
        return AmqpError(ReplyCode.SYNTAX_ERROR, str(refused))
    text = f"Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    return AmqpError(ReplyCode.ACCESS_REFUSED, text, blamed=NO_METHOD, detail=str(refused))


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
