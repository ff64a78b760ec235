"""Stand-ins for a connection and its channel, to those who look on, where somebody publishes or gets by HTTP."""

from __future__ import annotations

from collections.abc import Iterator

from amqp_broker.access.client import Peer
from amqp_broker.broker.counters import AMQP091, ChannelCounts
from amqp_broker.broker.descriptions import ChannelInfo, ConnectionInfo
from amqp_broker.broker.queues.unacknowledged import Unacknowledged


class HttpConnection:
    """A request, seen as a connection: nobody can end it, and nothing stays open.

    Args:
        peer: where it comes from.
        user_name: in whose name.
        virtual_host_name: where.
    """

    channel_count = 1
    counted_as = AMQP091  # as in RabbitMQ, whose API is a client of AMQP 0-9-1 within

    def __init__(self, peer: Peer, user_name: str, virtual_host_name: str) -> None:
        self._peer = peer
        self._user_name = user_name
        self._virtual_host_name = virtual_host_name

    @property
    def user_name(self) -> str:
        """Who asks."""
        return self._user_name

    @property
    def virtual_host_name(self) -> str:
        """Where."""
        return self._virtual_host_name

    def close_forcibly(self, explanation: str) -> None:
        """It is over with the answer."""

    def update_room(self) -> None:
        """There are no consumers."""

    def channel_counts(self) -> Iterator[ChannelCounts]:
        """None: the virtual host counts what comes by HTTP."""
        return iter(())

    def inspect(self) -> ConnectionInfo:
        """Describe it."""
        peer = self._peer
        return ConnectionInfo(
            type="network",
            name=peer.connection_name,
            user_provided_name=None,
            user=self._user_name,
            vhost=self._virtual_host_name,
            host=peer.our_host,
            port=peer.our_port,
            peer_host=peer.host,
            peer_port=peer.port,
            protocol="HTTP",
            auth_mechanism="",
            ssl=peer.tls is not None,
            ssl_protocol=None if peer.tls is None else peer.tls.version,
            ssl_cipher=None if peer.tls is None else peer.tls.cipher,
            state="running",
            timeout=0,
            frame_max=0,
            channel_max=1,
            channels=1,
            connected_at=0,
            client_properties={},
            recv_oct=0,
            send_oct=0,
            send_pend=0,
        )

    def inspect_channels(self) -> Iterator[ChannelInfo]:
        """Describe what stands for its channel."""
        yield HttpChannel(self).inspect()

    def unacknowledged(self) -> Iterator[tuple[str, list[Unacknowledged]]]:
        """None that outlasts the request."""
        return iter(())


class HttpChannel:
    """The channel of such a connection."""

    number = 1

    def __init__(self, connection: HttpConnection) -> None:
        self.connection = connection

    def inspect(self) -> ChannelInfo:
        """Describe it."""
        info = self.connection.inspect()
        return ChannelInfo(
            name=f"{info['name']} (1)",
            number=self.number,
            user=info["user"],
            vhost=info["vhost"],
            connection_name=info["name"],
            peer_host=info["peer_host"],
            peer_port=info["peer_port"],
            confirm=True,
            transactional=False,
            prefetch_count=0,
            global_prefetch_count=0,
            consumer_count=0,
            messages_unacknowledged=0,
            messages_unconfirmed=0,
            messages_uncommitted=0,
            acks_uncommitted=0,
            state="running",
            message_stats=ChannelCounts().stats(),
        )
