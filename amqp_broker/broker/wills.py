"""The publishing of a client's will: as any message of its user, and retained where it wants that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.access.judge import NotDecidedYet
from amqp_broker.broker.message import digest_of
from amqp_broker.errors import AmqpError

if TYPE_CHECKING:
    from amqp_broker.broker.last_will import LastWill
    from amqp_broker.broker.publishing import Ingress
    from amqp_broker.broker.retained import Retained


def publish_will(ingress: Ingress, retained: Retained, will: LastWill) -> None:
    """Publish a will, if its user may: the client is not there any more to be told."""
    if will.who is None:
        return
    digest = digest_of(will.header)
    try:
        exchange = ingress.exchange_for(will.who, will.exchange, will.routing_key)
        ingress.publish_of(will.user_name, exchange, will.routing_key, will.header, will.body)
    except AmqpError:
        return
    except NotDecidedYet as undecided:
        undecided.wait(lambda: publish_will(ingress, retained, will))
        return
    if will.topic:
        retained.replace(will.topic, will.header, will.body, digest.expiration_ms)
