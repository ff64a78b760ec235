"""The exchange types that every broker has, by the name that clients declare them with."""

from __future__ import annotations

from collections.abc import Callable

from amqp_broker.broker.exchanges.direct import DirectMatcher
from amqp_broker.broker.exchanges.exchange import Matcher
from amqp_broker.broker.exchanges.fanout import FanoutMatcher
from amqp_broker.broker.exchanges.headers import HeadersMatcher
from amqp_broker.broker.exchanges.topic import TopicMatcher

EXCHANGE_TYPES: dict[str, Callable[[], Matcher]] = {
    "direct": DirectMatcher,
    "fanout": FanoutMatcher,
    "topic": TopicMatcher,
    "headers": HeadersMatcher,
}

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
