"""The headers by which brokers of a federation tell each other where a message or a binding has been (RabbitMQ docs,
"Federated Exchanges" and "Federated Queues"). Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from amqp_broker.client.conversation import Message
from amqp_broker.wire.content import encode_content_header
from amqp_broker.wire.table import FieldValue, Short, Table

RECEIVED_FROM: Final = "x-received-from"  # of a message: the newest place first
BOUND_FROM: Final = "x-bound-from"  # of a binding
VISITS: Final = "visit-count"
VISITS_MAX: Final = 0x7FFF_FFFF_FFFF_FFFF  # of a table


def may_go_on(headers: Table, max_hops: int, cluster_name: str, virtual_host: str) -> bool:
    """Whether a message may be forwarded to a virtual host: it has not come too far, and was not there before."""
    places = headers.get(RECEIVED_FROM)
    if not isinstance(places, list):
        return True
    return len(places) < max_hops and not _was_at(places, cluster_name, virtual_host)


def _was_at(places: list[FieldValue], cluster_name: str, virtual_host: str) -> bool:
    return any(
        isinstance(one, dict) and (one.get("cluster-name"), one.get("vhost")) == (cluster_name, virtual_host)
        for one in places
    )


def from_exchange(headers: Table, place: Table) -> Table:
    """The headers of a message that comes from an upstream exchange."""
    return {**headers, RECEIVED_FROM: [place, *_listed(headers, RECEIVED_FROM)]}


def from_queue(headers: Table, place: Table, exchange: str, routing_key: str) -> Table:
    """The headers of a message that comes from an upstream queue.

    Args:
        place: where it was, with how often it comes from there.
        exchange, routing_key: that it has there; told when it first comes along.
    """
    places = headers.get(RECEIVED_FROM)
    before = places if isinstance(places, list) else None
    told: Table = {("x-original-cc" if name == "CC" else name): value for name, value in headers.items()}
    if before is None:
        told |= {"x-original-exchange": exchange, "x-original-routing-key": routing_key}
    others = [one for one in before or [] if not _is_same(one, place)]
    visits = next(
        (_number(one.get(VISITS)) for one in before or [] if isinstance(one, dict) and _is_same(one, place)), 0
    )
    visits = min(visits, VISITS_MAX - 1) + 1  # any client may have made them up
    return {**told, RECEIVED_FROM: [{**place, VISITS: visits}, *others]}


def _is_same(place: FieldValue, other: Table) -> bool:
    return isinstance(place, dict) and all(place.get(key) == other.get(key) for key in ("uri", "virtual_host", "queue"))


def binding_arguments(
    arguments: Table, place: Table, max_hops: int, upstream_name: str | None, upstream_virtual_host: str
) -> Table | None:
    """The arguments of a binding that is mirrored upstream; None where it goes no further.

    Args:
        place: the exchange that it is mirrored for.
        max_hops: how far messages may come.
        upstream_name: of the cluster there; None where it tells none.
    """
    places = arguments.get(BOUND_FROM)
    if not isinstance(places, list):
        hops, before = max_hops, []
    else:
        first = places[0] if places and isinstance(places[0], dict) else {}
        hops, before = min(_number(first.get("hops")) - 1, max_hops), places
        if upstream_name is not None and _was_at(places, upstream_name, upstream_virtual_host):
            return None
    return {**arguments, BOUND_FROM: [{**place, "hops": Short(hops)}, *before]} if hops > 0 else None


def header_of(message: Message, headers: Table, *, keeps_user_id: bool) -> bytes:
    """A message's content header with other headers."""
    properties = message.properties
    user_id = properties.user_id if keeps_user_id else None
    return encode_content_header(len(message.body), replace(properties, headers=headers, user_id=user_id))


def _listed(headers: Table, name: str) -> list[FieldValue]:
    value = headers.get(name)
    return value if isinstance(value, list) else []


def _number(value: FieldValue) -> int:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else 0
