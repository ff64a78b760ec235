"""The exchange types that every broker has, by the names that clients declare them with."""

from __future__ import annotations

from collections.abc import Callable

from amqp_broker.broker.exchanges.direct import DirectMatcher
from amqp_broker.broker.exchanges.fanout import FanoutMatcher
from amqp_broker.broker.exchanges.headers import HeadersMatcher
from amqp_broker.broker.exchanges.matcher import Matcher
from amqp_broker.broker.exchanges.topic import TopicMatcher
from amqp_broker.broker.type_registry import TypeRegistry
from amqp_broker.wire.table import Table

# Types that RabbitMQ has by a plugin, or in a later release: which one, so that a refusal can name it.
WHERE_RABBITMQ_HAS_IT = {
    "x-consistent-hash": "plugin rabbitmq_consistent_hash_exchange",
    "x-delayed-message": "plugin rabbitmq_delayed_message_exchange",
    "x-event": "plugin rabbitmq_event_exchange",
    "x-jms-topic": "plugin rabbitmq_jms_topic_exchange",
    "x-lvc": "plugin rabbitmq_lvc_exchange",
    "x-local-random": "release 4.0",
    "x-modulus-hash": "plugin rabbitmq_sharding",
    "x-random": "plugin rabbitmq_random_exchange",
    "x-recent-history": "plugin rabbitmq_recent_history_exchange",
    "x-rtopic": "plugin rabbitmq_rtopic_exchange",
}

MakeMatcher = Callable[[Table], Matcher]
"""Makes the matcher of a new exchange, of its arguments."""


def exchange_types() -> TypeRegistry[MakeMatcher]:
    """The types of a new broker."""
    return TypeRegistry(
        "exchange",
        {"direct": DirectMatcher, "fanout": FanoutMatcher, "topic": TopicMatcher, "headers": HeadersMatcher},
    )
