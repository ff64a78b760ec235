"""Who may do what over the HTTP API: each user asks each endpoint, and is answered as the table has it.

The table is what RabbitMQ 3.10.8 and 4.0.5 answered; ours is as 4.0.5, which has all endpoints and differs by letting
everybody see feature flags, and their own connections by name (3.10.8 answers 500 there). Only who is refused, and who
sees whose things, is compared: what else is answered, ``tests/unit/test_management_table.py`` has. ``python -m
interop.test_management_rights rabbitmq 3.10`` prints what one answers, as the table has it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from interop.brokers import OURS, Choice, free_ports
from interop.conftest import choices
from interop.management_rights import (
    HERE,
    PASSWORD,
    USERS,
    HttpApi,
    answers,
    is_of_no_endpoint,
    line_of,
    refusals,
    table,
)
from interop.raw_client import Client
from interop.waiting import until

SERIES = "4.0"  # whose rights ours are
CONFIG = "management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\nstream.listeners.tcp.1 = 127.0.0.1:{stream}\n"
PLUGINS = (
    "rabbitmq_management",
    "rabbitmq_shovel_management",
    "rabbitmq_federation_management",
    "rabbitmq_stream_management",
    "rabbitmq_tracing",
)


@contextmanager
def connected(port: int, user: str) -> Iterator[str]:
    """A user's connection with a channel; its name."""
    client = Client("127.0.0.1", port)
    try:
        client.begin()
        client.send_start_ok(user, PASSWORD)
        client.expect_tune()
        client.send_tune_ok()
        client.open(HERE)
        client.channel().consume("q")
        yield f"127.0.0.1:{client.socket.getsockname()[1]} -> 127.0.0.1:{port}"
    finally:
        client.abort()


def _are_listed(api: HttpApi, what: str, count: int) -> bool:
    _, rows = api.ask("guest", "guest", "GET", f"/api/{what}")
    return sum(1 for row in rows if row.get("channel_details") != []) == count


def table_of(choice: Choice) -> list[str]:
    """What a broker of this choice answers, a line for each request."""
    port, stream = free_ports(2)
    environment = {"AMQP_BROKER_MANAGEMENT_PORT": str(port)}
    config = CONFIG.format(port=port, stream=stream)
    process = choice.start(config=config, plugins=PLUGINS, environment=environment)
    with ExitStack() as stack:
        stack.callback(process.stop)
        api = HttpApi(port)
        api.set_up()
        names = {user: stack.enter_context(connected(process.address.port, user)) for user in (*USERS, "other")}
        _, overview = api.ask("guest", "guest", "GET", "/api/overview")
        for what in ("connections", "channels", "consumers"):  # RabbitMQ tells of them seconds later
            until(partial(_are_listed, api, what, len(names)))
        return [line_of(*one) for one in answers(api, overview["node"], names)]


def brokers_to_ask(config: pytest.Config) -> list[Choice]:
    """Those that the options ask for; ours once, for it does not differ."""
    return [one for one in choices(config) if one.kind != OURS or one.series == SERIES]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("choice", brokers_to_ask(metafunc.config), ids=str)


def test_each_user_may_do_what_their_tag_and_permissions_let_them(choice: Choice) -> None:
    wanted = table(SERIES if choice.kind == OURS else choice.series)
    pairs = [pair for pair in zip(table_of(choice), wanted, strict=True) if not is_of_no_endpoint(pair[1])]
    assert not [pair for pair in pairs if refusals(pair[0]) != refusals(pair[1])]


if __name__ == "__main__":
    kind, series = sys.argv[1:]
    print("\n".join(table_of(Choice(OURS if kind == "ours" else "rabbitmq", series))))
