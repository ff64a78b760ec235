"""What a shovel's parameter may say."""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.broker.parameters import Parameter
from amqp_broker.broker.problems import NotValid
from amqp_broker.server.shovels.definition import read_definition

RIGHT = {"src-uri": "amqp://", "dest-uri": ["amqp://a", "amqp://b"], "src-queue": "q"}


def test_defaults() -> None:
    definition = read_definition("s", RIGHT)
    assert [str(uri) for uri in definition.destination_uris] == ["amqp://a", "amqp://b"]
    assert (definition.mode, definition.delete_after, definition.reconnect_delay_s) == ("on-confirm", "never", 5)
    assert (definition.source.prefetch_count, definition.destination.exchange, definition.is_paused) == (
        1000,
        None,
        False,
    )


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"src-uri": 1}, "src-uri should be an address"),
        ({"src-uri": []}, "src-uri should be an address"),
        ({"src-uri": "nowhere"}, "src-uri: 'nowhere' is no address"),
        ({"src-queue": 1}, "src-queue should be binary"),
        ({"src-exchange": "x"}, "Cannot specify 'src-exchange' and 'src-queue'"),
        ({"dest-queue": "a", "dest-exchange-key": "b"}, "Cannot specify 'dest-exchange' and 'dest-queue'"),
        ({"ack-mode": "sometimes"}, "ack-mode should be one of on-confirm, on-publish, no-ack"),
        ({"prefetch-count": -1}, "prefetch-count should be a non-negative number"),
        ({"prefetch-count": True}, "prefetch-count should be a non-negative number"),
        ({"reconnect-delay": "5"}, "reconnect-delay should be a non-negative number"),
        ({"src-delete-after": "soon"}, "src-delete-after should be a number, queue-length or never"),
        ({"delete-after": 5, "ack-mode": "no-ack"}, "Cannot specify 'no-ack' and numerical 'delete-after'"),
        ({"src-delete-after": 1.5}, "src-delete-after should be a number, queue-length or never"),
        ({"dest-protocol": "amqp10"}, "dest-protocol should be amqp091"),
        ({"dest-queue-args": "x"}, "dest-queue-args should be list"),
        ({"paused": "yes"}, "paused should be boolean"),
        ({"colour": "red"}, r'Unrecognised terms \[{<<"colour">>,<<"red">>}\] in s'),
    ],
)
def test_what_is_wrong_is_told(more: dict[str, Any], problem: str) -> None:
    with pytest.raises(NotValid, match=problem):
        read_definition("s", {**RIGHT, **more})


@pytest.mark.parametrize("key", ["src-uri", "dest-uri"])
def test_what_is_missing_is_told(key: str) -> None:
    with pytest.raises(NotValid, match=f'Key "{key}" not found in s'):
        read_definition("s", {name: value for name, value in RIGHT.items() if name != key})


def test_no_object() -> None:
    with pytest.raises(NotValid, match="should be an object"):
        read_definition("s", [])


def test_the_log_has_no_password_of_an_address() -> None:
    value = {"src-uri": "amqp://me:secret@host", "dest-uri": ["amqps://u:p%40ss@[::1]:1/v?x=1"]}
    text = Parameter("/", "shovel", "s", value).text_for_log()
    assert text == '{"src-uri":"amqp://me:***@host","dest-uri":["amqps://u:***@[::1]:1/v?x=1"]}'
