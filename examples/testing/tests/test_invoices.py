"""Celery, with the fixtures that it brings: celery_app and celery_worker."""

import pytest
from shop import invoices


@pytest.fixture
def celery_includes():
    return ["shop.invoices"]


def test_a_task_is_done_by_a_worker(celery_app, celery_worker):
    assert invoices.total.delay([100, 250]).get(timeout=10) == 350


def test_a_chain_of_tasks(celery_app, celery_worker):
    assert (invoices.total.s([100, 300]) | invoices.with_tax.s()).delay().get(timeout=10) == 500


def test_what_a_task_is_on_the_wire(celery_app, celery_broker):
    """Nobody works here: the message stays in its queue, to be looked at."""
    celery_app.send_task("shop.invoices.total", args=[[1, 2]])
    (message,) = celery_broker.queue("celery").messages
    assert message.headers["task"] == "shop.invoices.total"
    assert message.json()[0] == [[1, 2]]


def test_a_worker_acknowledges_all_that_it_did(celery_app, celery_worker, celery_broker):
    results = [invoices.total.delay([number, 1]) for number in range(20)]
    assert [result.get(timeout=10) for result in results] == list(range(1, 21))
    celery_broker.wait_idle()
    assert celery_broker.queue("celery").message_count == 0
