"""What the tests share."""

import pytest


@pytest.fixture
def celery_config(amqp_url):
    """Celery's own fixtures celery_app and celery_worker read this."""
    return {"broker_url": amqp_url, "result_backend": "rpc://", "worker_hijack_root_logger": False}
