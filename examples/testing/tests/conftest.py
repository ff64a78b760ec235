"""What the tests share."""

import pytest


@pytest.fixture
def celery_broker(amqp_broker):
    """Called as pytest-celery calls its broker in a container; this one needs none."""
    return amqp_broker


@pytest.fixture
def celery_config(celery_broker):
    """Celery's own fixtures celery_app and celery_worker read this."""
    return {"broker_url": celery_broker.url, "result_backend": "rpc://", "worker_hijack_root_logger": False}
