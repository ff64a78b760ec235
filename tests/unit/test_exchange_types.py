"""Exchange types that are not there: where RabbitMQ has one by a plugin, the refusal says which."""

from __future__ import annotations

import pytest

from amqp_broker.broker.exchanges.registry import EXCHANGE_TYPES, WHERE_RABBITMQ_HAS_IT
from amqp_broker.errors import AmqpError
from tests.support.topology import Topology


@pytest.mark.parametrize("name", WHERE_RABBITMQ_HAS_IT)
def test_a_type_of_a_plugin_is_refused_with_the_plugins_name(name: str) -> None:
    if name in EXCHANGE_TYPES:
        pytest.skip("it is there now")
    with pytest.raises(AmqpError, match=f"unknown exchange type '{name}': RabbitMQ has it with ") as refused:
        Topology().exchange("e", name)
    assert WHERE_RABBITMQ_HAS_IT[name] in str(refused.value)


def test_any_other_type_is_refused_in_rabbitmqs_words() -> None:
    with pytest.raises(AmqpError, match=r"unknown exchange type 'x-nope'$"):
        Topology().exchange("e", "x-nope")
