"""What a broker says of its start: which settings change nothing here, and under which limits it runs."""

from __future__ import annotations

import logging

import pytest

from amqp_broker.cli import announcements
from amqp_broker.network.listeners import HTTP, METRICS, Endpoint
from amqp_broker.server.memory_limit import MemoryLimit
from amqp_broker.settings import Settings
from tests.support.memory_broker import MemoryBroker

MEMORY = MemoryLimit(1 << 30, "the machine")


def said(settings: Settings, broker: MemoryBroker, caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    caplog.set_level(logging.INFO, "amqp_broker")
    caplog.clear()
    announcements.without_effect(settings, MEMORY, broker)
    return [(record.levelno, record.__dict__["fields"]["setting"]) for record in caplog.records]


def test_what_counts_for_a_new_data_folder_is_told_where_there_is_one_already(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = MemoryBroker()
    chosen = Settings(default_user="shop", default_password="secret")
    assert said(chosen, broker, caplog) == []
    broker.is_new = False
    assert said(Settings(), broker, caplog) == []
    assert said(chosen, broker, caplog) == [(logging.WARNING, "default_user, default_password")]
    assert said(Settings(default_password="other"), broker, caplog) == [(logging.INFO, "default_password")]
    assert "secret" not in caplog.text


def test_a_limit_that_is_never_reached_is_told(caplog: pytest.LogCaptureFixture) -> None:
    chosen = Settings(memory_high_water_bytes=1 << 40)
    assert said(chosen, MemoryBroker(), caplog) == [(logging.WARNING, "memory_high_water_bytes")]


def test_a_node_of_a_cluster_says_what_is_to_be_had_where(capsys: pytest.CaptureFixture[str]) -> None:
    localhost = ("localhost", "127.0.0.1")
    endpoints = [
        Endpoint(*localhost, 5672),
        Endpoint("localhost", "::1", 5672),
        Endpoint(*localhost, 15671, True, HTTP),
        Endpoint(*localhost, 15692, False, METRICS),
    ]
    announcements.node_ready(endpoints, "shop", "text")
    assert capsys.readouterr().out.splitlines()[:3] == [
        "listening on amqp://localhost:5672",
        "management on https://localhost:15671/",
        "metrics on http://localhost:15692/metrics",
    ]
