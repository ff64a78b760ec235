"""Dramatiq."""

import dramatiq
import pytest
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from shop import thumbnails


@pytest.fixture
def make_thumbnail(amqp_url):
    broker = RabbitmqBroker(url=amqp_url)
    actor = thumbnails.declare(broker)
    thumbnails.made.clear()
    worker = dramatiq.Worker(broker, worker_timeout=50)
    worker.start()
    yield actor
    worker.stop()
    broker.close()


def test_a_thumbnail_is_made(amqp_broker, make_thumbnail):
    make_thumbnail.send("lamp.jpg")
    assert amqp_broker.wait_until(lambda: thumbnails.made) == ["lamp.jpg"]


def test_what_fails_is_a_dead_letter(amqp_broker, make_thumbnail):
    make_thumbnail.send("lamp.txt")
    (letter,) = amqp_broker.wait_until(lambda: amqp_broker.dead_letters)
    assert (letter.died_in, letter.death_reason, letter.queues) == ("thumbnails", "rejected", ("thumbnails.XQ",))
