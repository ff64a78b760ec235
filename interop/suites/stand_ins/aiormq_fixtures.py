"""A pytest plugin: the fixtures that aiormq's suite wants and its sdist leaves out. No container is started."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from yarl import URL

CLOSED_PORT = 1


@pytest.fixture(scope="session")
def rabbitmq_container() -> SimpleNamespace:
    host, port = os.environ["BROKER_UNDER_TEST_HOST"], int(os.environ["BROKER_UNDER_TEST_PORT"])
    return SimpleNamespace(host=host, ports={"5672/tcp": port, "5671/tcp": CLOSED_PORT})


@pytest.fixture(scope="session")
def amqp_direct_url(rabbitmq_container: SimpleNamespace) -> URL:
    host, port = rabbitmq_container.host, rabbitmq_container.ports["5672/tcp"]
    return URL.build(scheme="amqp", user="guest", password="guest", path="//", host=host, port=port)
