"""pika."""

import pytest
from shop.orders import Orders


@pytest.fixture
def orders(amqp_url):
    department = Orders(amqp_url)
    yield department
    department.connection.close()


def test_an_unpaid_order_is_cancelled_after_half_an_hour(amqp_broker, orders):
    orders.place(7)
    amqp_broker.clock.advance(minutes=29)
    assert orders.cancelled() == []
    amqp_broker.clock.advance(minutes=1)
    assert orders.cancelled() == [7]


def test_an_order_is_not_lost_when_its_confirm_is(amqp_broker, orders):
    amqp_broker.fail.drop_before_confirm()
    orders.place(7)
    assert [message.json() for message in amqp_broker.queue("orders.unpaid").messages] == [{"order": 7}] * 2


def test_an_order_survives_a_crash_of_the_broker(amqp_broker, orders):
    orders.place(7)
    amqp_broker.fail.crash()
    orders.place(8)
    assert [message.json()["order"] for message in amqp_broker.queue("orders.unpaid").messages] == [7, 8]


@pytest.mark.amqp(no_unacknowledged=True, no_leaked_connections=True)
def test_all_is_left_tidy(orders):
    orders.place(7)
    assert orders.cancelled() == []
