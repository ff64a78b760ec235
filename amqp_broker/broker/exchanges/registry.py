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
