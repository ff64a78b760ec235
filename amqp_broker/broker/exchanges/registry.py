"""The exchange types that every broker has, by the names that clients declare them with.

Others are brought by packages (``plugin.py``), those of ``amqp_broker/plugins`` among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from amqp_broker.broker.exchanges.direct import DirectMatcher
from amqp_broker.broker.exchanges.exchange import DELAYED_TYPE, INNER_TYPE_ARGUMENT
from amqp_broker.broker.exchanges.fanout import FanoutMatcher
from amqp_broker.broker.exchanges.headers import HeadersMatcher
from amqp_broker.broker.exchanges.matcher import Matcher
from amqp_broker.broker.exchanges.topic import TopicMatcher
from amqp_broker.broker.type_registry import TypeRegistry
from amqp_broker.errors import precondition_failed
from amqp_broker.wire.table import Table

# Types that RabbitMQ has by a plugin and this broker has not: which one, so that a refusal can name it.
WHERE_RABBITMQ_HAS_IT = {
    "x-event": "plugin rabbitmq_event_exchange",
    "x-jms-topic": "plugin rabbitmq_jms_topic_exchange",
    "x-lvc": "plugin rabbitmq_lvc_exchange",
    "x-rtopic": "plugin rabbitmq_rtopic_exchange",
}

MakeMatcher = Callable[[Table], Matcher]
"""Makes the matcher of a new exchange, of its arguments."""


def exchange_types() -> TypeRegistry[MakeMatcher]:
    """The types of a new broker; what packages bring is found when it is asked for."""
    types: TypeRegistry[MakeMatcher] = TypeRegistry(
        "exchange",
        {"direct": DirectMatcher, "fanout": FanoutMatcher, "topic": TopicMatcher, "headers": HeadersMatcher},
        _find_more,
    )
    types.register(DELAYED_TYPE, partial(_inner_matcher, types))
    return types


def _inner_matcher(types: TypeRegistry[MakeMatcher], arguments: Table) -> Matcher:
    """How an exchange of the type x-delayed-message routes; that it holds messages back is the exchange's."""
    inner = arguments.get(INNER_TYPE_ARGUMENT)
    if inner == DELAYED_TYPE:
        raise precondition_failed(f"Invalid argument, '{DELAYED_TYPE}' can't be used for '{INNER_TYPE_ARGUMENT}'")
    if not isinstance(inner, str):
        raise precondition_failed(f"Invalid argument, '{INNER_TYPE_ARGUMENT}' must be an existing exchange type")
    if inner not in types:
        raise precondition_failed(f"unknown exchange type '{inner}'")
    return types[inner](arguments)


def _find_more() -> Mapping[str, MakeMatcher]:
    from amqp_broker.broker.exchanges.plugin import find_exchange_types  # only who asks for more pays for it

    return find_exchange_types()
