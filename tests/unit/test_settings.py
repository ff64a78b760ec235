"""Settings: the defaults hold, everything is described, wrong values are refused by name."""

from __future__ import annotations

import dataclasses
import re

import pytest

from amqp_broker.settings import DESCRIPTIONS, SettingError, Settings, check


def test_defaults_are_values_that_the_settings_take() -> None:
    settings = Settings()
    for name, description in DESCRIPTIONS.items():
        assert getattr(settings, name) == description.default
        check(name, description.default)


def test_defaults_that_clients_see_are_those_of_rabbitmq() -> None:
    settings = Settings()
    assert settings.port == 5672
    assert settings.frame_size_bytes_max == 131_072
    assert settings.channels_per_connection_max == 2047
    assert settings.heartbeat_s == 60
    assert settings.message_size_bytes_max == 0
    assert settings.consumer_timeout_ms == 1_800_000
    assert (settings.default_user, settings.default_password, settings.default_virtual_host) == ("guest", "guest", "/")


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_every_setting_is_described_and_says_what_it_takes(name: str) -> None:
    description = DESCRIPTIONS[name]
    assert description.text.endswith(".")
    assert description.takes


@pytest.mark.parametrize("name", [name for name, one in DESCRIPTIONS.items() if one.kind is int])
def test_numbers_have_a_lower_bound_and_carry_their_unit(name: str) -> None:
    assert DESCRIPTIONS[name].minimum is not None
    is_count = name in ("port", "cluster_shards", "processes")
    assert is_count or name.endswith("_port") or re.search(r"_(bytes|ms|s|max)(_max)?$", name)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65_536),
        ("port", -1),
        ("port", "5672"),
        ("port", True),
        ("port", 5672.0),
        ("log_level", "loud"),
        ("host", "localhost"),
        ("host", ()),
        ("host", ("localhost", 1)),
        ("product", None),
        ("heartbeat_s", 65_536),
        ("read_chunk_bytes", 0),
        ("default_user", ""),
        ("default_user", "\udcff"),
        ("default_virtual_host", ""),
        ("default_virtual_host", "\u00e9" * 128),
    ],
)
def test_wrong_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=rf"^{name} takes {re.escape(DESCRIPTIONS[name].takes)}, not "):
        Settings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 0),
        ("port", 65_535),
        ("loopback_users", ()),
        ("product", ""),
        ("default_user", "x"),
        ("default_virtual_host", "x" * 255),
    ],
)
def test_bounds_belong_to_what_is_taken(name: str, value: object) -> None:
    assert getattr(Settings(**{name: value}), name) == value  # type: ignore[arg-type]


def test_the_password_is_in_no_text() -> None:
    assert "hunter2" not in repr(Settings(default_password="hunter2"))
    with pytest.raises(SettingError) as refused:
        Settings(default_password=4711)  # type: ignore[arg-type]
    assert "4711" not in str(refused.value)
