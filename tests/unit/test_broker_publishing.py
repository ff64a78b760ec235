"""The way in that every protocol has (``broker/publishing.py``): what came of a publish."""

from __future__ import annotations

import pytest

from amqp_broker.broker.message import digest_of
from amqp_broker.broker.publishing import REFUSED, TAKEN, UNROUTED, Outcome
from amqp_broker.errors import AmqpError
from amqp_broker.wire.content import Properties, encode_content_header
from tests.support.authorizer import Everything
from tests.support.client import ClientChannel
from tests.support.disk_broker import DiskBroker


@pytest.fixture
def broker() -> DiskBroker:
    return DiskBroker()


@pytest.fixture
def channel(broker: DiskBroker) -> ClientChannel:
    """A channel beside a fanout exchange."""
    made = broker.client().channel()
    made.exchange("x", "fanout")
    return made


def publish(broker: DiskBroker, exchange: str = "x", key: str = "", **properties: object) -> Outcome:
    """Publish a message to an exchange."""
    ingress = broker.virtual_host.ingress
    header = encode_content_header(4, Properties(**properties))  # type: ignore[arg-type]
    found = ingress.exchange_for(Everything(), exchange, key)
    return ingress.publish(found, key, header, b"body", digest_of(header))


def test_nothing_is_bound(broker: DiskBroker, channel: ClientChannel) -> None:
    assert publish(broker, delivery_mode=2) == UNROUTED


@pytest.mark.parametrize(("durable", "delivery_mode"), [(True, 1), (False, 2), (False, 1)])
def test_taken_and_nothing_is_to_be_kept(
    broker: DiskBroker, channel: ClientChannel, durable: bool, delivery_mode: int
) -> None:
    channel.declare("q", durable=durable)
    assert publish(broker, "", "q", delivery_mode=delivery_mode) == TAKEN
    assert channel.message_count("q") == 1


@pytest.mark.parametrize("queues", [("q",), ("q", "transient"), ("q", "r")])
def test_kept_when_the_journal_has_it(broker: DiskBroker, channel: ClientChannel, queues: tuple[str, ...]) -> None:
    for queue in queues:
        channel.declare(queue, durable=queue != "transient")
        channel.bind(queue, "x")
    with broker.holding_writes():
        position = publish(broker, delivery_mode=2)
        assert position > 0
        assert not broker.durability.is_kept(position)
    assert broker.durability.is_kept(position)


def test_what_goes_straight_to_a_consumer_without_acknowledgements_is_not_kept(
    broker: DiskBroker, channel: ClientChannel
) -> None:
    channel.declare("q", durable=True)
    channel.consume("q", no_ack=True)
    assert publish(broker, "", "q", delivery_mode=2) == TAKEN


@pytest.mark.parametrize("others", [(), ("another",)])
@pytest.mark.parametrize("delivery_mode", [1, 2])
def test_refused_by_one_queue(
    broker: DiskBroker, channel: ClientChannel, delivery_mode: int, others: tuple[str, ...]
) -> None:
    channel.declare("full", {"x-max-length": 0, "x-overflow": "reject-publish"}, durable=True)
    for queue in others:
        channel.declare(queue, durable=True)
    for queue in ("full", *others):
        channel.bind(queue, "x")
    assert publish(broker, delivery_mode=delivery_mode) == REFUSED
    assert [channel.message_count(queue) for queue in others] == [1] * len(others)


def test_blind_copies_reach_their_queue_and_are_not_told(broker: DiskBroker, channel: ClientChannel) -> None:
    for queue in ("q", "blind"):
        channel.declare(queue)
    assert publish(broker, "", "q", headers={"BCC": ["blind"], "a": 1}) == TAKEN
    for queue in ("q", "blind"):
        message = channel.get(queue)
        assert message is not None
        assert message.headers == {"a": 1}


def test_an_internal_exchange_is_nobodys_to_publish_to(broker: DiskBroker, channel: ClientChannel) -> None:
    with pytest.raises(AmqpError, match="cannot publish to internal exchange"):
        publish(broker, "amq.rabbitmq.trace")
