"""The HTTP API of a broker in a test: there where a test asks for it, and at the same address after a restart."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any

import pytest

from amqp_broker.testing import Broker, NotRunning


def asked(url: str) -> Any:
    request = urllib.request.Request(url)
    request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def test_where_a_test_asks_for_it_and_after_a_restart() -> None:
    with Broker(management_port=0) as broker:
        url = broker.management_url
        assert asked(f"{url}/api/whoami")["name"] == "guest"
        broker.restart()
        assert broker.management_url == url
        assert asked(f"{url}/api/queues") == []


def test_else_there_is_none() -> None:
    with (
        Broker() as broker,
        pytest.raises(NotRunning, match=r"Broker\(management_port=0\).*'management_port = 0' below amqp_settings"),
    ):
        broker.management_url  # noqa: B018  # to ask is enough
