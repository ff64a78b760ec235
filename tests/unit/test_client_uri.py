"""Addresses of brokers."""

from __future__ import annotations

import pytest

from amqp_broker.client.uri import BadUri, parse_uri


@pytest.mark.parametrize(
    ("text", "shown", "user", "password", "virtual_host", "port"),
    [
        ("amqp://", "amqp://", None, "", None, 5672),
        ("amqp://host", "amqp://host", None, "", None, 5672),
        ("amqps://host", "amqps://host", None, "", None, 5671),
        ("amqp://u:p@host:1/v", "amqp://u@host:1/v", "u", "p", "v", 1),
        ("amqp://u%40x:p%3Aq@[::1]/%2F", "amqp://u%40x@[::1]/%2F", "u@x", "p:q", "/", 5672),
        ("amqp://host/", "amqp://host/", None, "", "", 5672),
        ("amqp:///v", "amqp:///v", None, "", "v", 5672),
    ],
)
def test_is_read(text: str, shown: str, user: str | None, password: str, virtual_host: str | None, port: int) -> None:
    uri = parse_uri(text)
    assert (str(uri), uri.user, uri.password, uri.virtual_host, uri.port) == (
        shown, user, password, virtual_host, port,
    )  # fmt: skip


def test_the_query() -> None:
    uri = parse_uri("amqps://host?heartbeat=7&connection_timeout=1500&verify=verify_none&cacertfile=/ca.pem")
    assert (uri.heartbeat_s, uri.timeout_s, uri.is_verified, uri.authorities) == (7, 1.5, False, "/ca.pem")


@pytest.mark.parametrize(
    "text", ["", "host", "http://host", "amqp:host", "amqp://host:x", "amqp://host/a/b", "amqp://host?heartbeat=soon"]
)
def test_is_refused(text: str) -> None:
    with pytest.raises(BadUri, match="is no address of a broker"):
        parse_uri(text)


def test_a_refusal_shows_no_password() -> None:
    with pytest.raises(BadUri) as refused:
        parse_uri("http://me:secret@host")
    assert "secret" not in str(refused.value)
