"""Differences between one RabbitMQ and another that clients can see, with a name for each (setting ``behave_like``).

Everything that goes by a version asks for a field here; nothing else compares versions. Which rows were asked of a
RabbitMQ, and which were read in its source, stands in docs/compatibility.md. Does not hold the ways in which the broker
is unlike every RabbitMQ on purpose: they are listed in interop/differences.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One RabbitMQ, as far as it differs from others."""

    version: str
    """What server-properties say, unless ``product_version`` is set."""

    unknown_exchange_type_ends_connection: bool
    """exchange.declare of a type that is not there: 503 for the connection in place of 406 for the channel."""

    refusals_name_the_permission: bool
    """``configure access to queue 'q' ...`` in place of ``access to queue 'q' ...``."""

    topic_permission_is_asked_for_copies: bool
    """The topic permission is asked for the keys in CC and BCC, as well as for the routing key."""

    queue_type_is_filled_in: bool
    """A queue without ``x-queue-type`` has the argument all the same, as texts about other types show."""

    message_size_bytes_max: int
    """The largest body, unless the setting of this name is set."""

    deaths_have_last_headers: bool
    """``x-last-death-*``, the fields of ``x-death`` in a fixed order, CC kept beside a dead-letter routing key."""

    reads_deaths_of_clients: bool
    """An ``x-death`` that a client published is the beginning of the history of its message."""

    delivery_limit: int | None
    """Of a quorum queue without ``x-delivery-limit``."""

    negative_delivery_limit_is_none: bool
    """In place of a limit that the first return goes beyond."""

    quorum_priorities: Literal[1, 2, 32]
    """How many priorities quorum queues tell apart: 2 with two turns of three for those above 4, 32 strictly."""

    highest_consumer_takes_over: bool
    """A quorum queue's single active consumer goes by the consumers' priorities, and makes way for a higher one."""

    first_delivery_is_counted: bool
    """basic.get of a quorum queue shows ``x-delivery-count`` 0 the first time."""

    texts_name_streams: bool
    """``stream queue 'q'`` in what a consumer of a stream is refused, in place of ``stream queues queue 'q'``."""

    streams_take_refusals: bool
    """basic.nack and basic.reject of a stream's entry are as basic.ack; without it they end the connection."""

    readers_store_offsets: bool
    """Who may read a stream stores offsets in it (StoreOffset); without it, who may write to it."""

    streams_have_anonymous: bool
    """The stream protocol has SASL's mechanism ANONYMOUS, as AMQP 1.0 has."""

    classic_queues_have_leader_locators: bool
    """Classic queues know ``x-queue-leader-locator``; a policy with ``queue-leader-locator`` is for them as well."""

    has_global_prefetch: bool
    """basic.qos with global set limits the channel; without it global is taken as not set."""

    has_transient_queues: bool
    """Queues may be neither durable nor exclusive."""

    passive_declarations_need_a_permission: bool
    """Whatever one, for the queue or the exchange (4.2.6 and 4.3.0 alone: the one to configure)."""


_LIKE_3_10 = Behaviour(
    version="3.10.8",
    unknown_exchange_type_ends_connection=True,
    refusals_name_the_permission=False,
    topic_permission_is_asked_for_copies=False,
    queue_type_is_filled_in=False,
    message_size_bytes_max=134_217_728,
    deaths_have_last_headers=False,
    reads_deaths_of_clients=True,
    delivery_limit=None,
    negative_delivery_limit_is_none=False,
    quorum_priorities=1,
    highest_consumer_takes_over=False,
    first_delivery_is_counted=True,
    texts_name_streams=False,
    streams_take_refusals=False,
    readers_store_offsets=False,
    streams_have_anonymous=False,
    classic_queues_have_leader_locators=False,
    has_global_prefetch=True,
    has_transient_queues=True,
    passive_declarations_need_a_permission=False,
)
_LIKE_3_13 = replace(
    _LIKE_3_10,
    readers_store_offsets=True,
    version="3.13.7",
    unknown_exchange_type_ends_connection=False,
    refusals_name_the_permission=True,
    deaths_have_last_headers=True,
    first_delivery_is_counted=False,
)
_LIKE_4_0 = replace(
    _LIKE_3_13,
    version="4.0.5",
    topic_permission_is_asked_for_copies=True,
    queue_type_is_filled_in=True,
    message_size_bytes_max=16_777_216,
    reads_deaths_of_clients=False,
    delivery_limit=20,
    negative_delivery_limit_is_none=True,
    quorum_priorities=2,
    highest_consumer_takes_over=True,
    texts_name_streams=True,
    streams_take_refusals=True,
    streams_have_anonymous=True,
    classic_queues_have_leader_locators=True,
)
_LIKE_4_3 = replace(
    _LIKE_4_0,
    version="4.3.0",
    quorum_priorities=32,
    has_global_prefetch=False,
    has_transient_queues=False,
    passive_declarations_need_a_permission=True,
)

BEHAVIOURS: dict[str, Behaviour] = {"3.10": _LIKE_3_10, "3.13": _LIKE_3_13, "4.0": _LIKE_4_0, "4.3": _LIKE_4_3}
