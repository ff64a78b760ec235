"""Policies: which of them counts, what is in force then, when it takes effect, and what a start makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.broker.inspection import Inspection
from amqp_broker.broker.policies import OPERATOR_POLICY
from amqp_broker.broker.policy_checks import POLICY_CHECKS
from amqp_broker.broker.problems import NotThere, NotValid
from tests.support.client import Client, ClientChannel
from tests.support.disk_broker import DiskBroker
from tests.support.memory_broker import MemoryBroker


@pytest.fixture
def channel(broker: MemoryBroker) -> ClientChannel:
    return Client(broker).open().channel()


def set_policy(
    broker: MemoryBroker, name: str, pattern: str, definition: dict[str, Any], *, operator: bool = False, **more: Any
) -> None:
    """Set one and have it applied to all."""
    parameters = broker.administration.parameters
    value = {"pattern": pattern, "definition": definition} | {key.replace("_", "-"): one for key, one in more.items()}
    component = [OPERATOR_POLICY] if operator else []
    work = broker.handle(lambda: parameters.set_policy("/", name, value, *component))
    assert work.is_done


def clear_policy(broker: MemoryBroker, name: str) -> None:
    assert broker.handle(lambda: broker.administration.parameters.clear_policy("/", name)).is_done


def shown(broker: MemoryBroker, name: str) -> tuple[str | None, str | None, dict[str, object]]:
    """What the inspection says is in force for a queue."""
    queue = next(queue for queue in Inspection(broker).queues("/") if queue["name"] == name)
    return queue["policy"], queue["operator_policy"], queue["effective_policy_definition"]


# --- which one counts


def test_the_highest_priority_counts_and_then_the_name(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("orders.eu")
    set_policy(broker, "b", "^orders", {"max-length": 2})
    set_policy(broker, "a", "", {"max-length": 1})
    assert shown(broker, "orders.eu") == ("a", None, {"max-length": 1})
    set_policy(broker, "b", "^orders", {"max-length": 2}, priority=0.5)
    assert shown(broker, "orders.eu") == ("b", None, {"max-length": 2})
    set_policy(broker, "b", "^other", {"max-length": 2}, priority=0.5)
    assert shown(broker, "orders.eu") == ("a", None, {"max-length": 1})
    set_policy(broker, "b", "^orders", {"max-length": 2}, priority=10**400)
    assert shown(broker, "orders.eu") == ("b", None, {"max-length": 2})


@pytest.mark.parametrize(
    ("apply_to", "is_for"),
    [
        ("queues", {"c", "qq"}),
        ("exchanges", {"x"}),
        ("all", {"c", "qq", "x"}),
        ("classic_queues", {"c"}),
        ("quorum_queues", {"qq"}),
        ("streams", set()),
    ],
)
def test_what_it_applies_to(broker: MemoryBroker, channel: ClientChannel, apply_to: str, is_for: set[str]) -> None:
    channel.declare("c")
    channel.declare("qq", {"x-queue-type": "quorum"}, durable=True)
    channel.exchange("x")
    set_policy(broker, "p", "^(c|qq|x)$", {"max-length": 1}, apply_to=apply_to)
    inspection = Inspection(broker)
    found = [one["name"] for one in inspection.queues("/") if one["policy"] == "p"]
    found += [one["name"] for one in inspection.exchanges("/") if one["policy"] == "p"]
    assert set(found) == is_for


def test_a_key_that_means_nothing_to_a_type_passes_it_by(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("c")
    channel.declare("qq", {"x-queue-type": "quorum"}, durable=True)
    set_policy(broker, "p", "", {"max-length": 1, "delivery-limit": 3})
    assert (shown(broker, "c")[0], shown(broker, "qq")[0]) == (None, "p")


def test_an_operator_policy_limits_what_a_policy_says(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("q")
    set_policy(broker, "p", "", {"max-length": 2, "overflow": "reject-publish"})
    set_policy(broker, "o", "", {"max-length": 20, "message-ttl": 5}, operator=True)
    both = {"max-length": 2, "overflow": "reject-publish", "message-ttl": 5}
    assert shown(broker, "q") == ("p", "o", both)
    set_policy(broker, "o", "", {"max-length": 1}, operator=True)
    assert shown(broker, "q")[2] == {"max-length": 1, "overflow": "reject-publish"}
    clear_policy(broker, "p")
    assert shown(broker, "q") == (None, "o", {"max-length": 1})


@pytest.mark.parametrize(
    ("kind", "arguments", "definition", "in_force"),
    [
        ("classic", {"x-max-length": 5}, {"max-length": 3}, {"length_max": 3}),
        ("classic", {"x-max-length": 3}, {"max-length": 5}, {"length_max": 3}),
        ("classic", {"x-expires": 500}, {"expires": 400, "message-ttl": 7}, {"expires_ms": 400, "message_ttl_ms": 7}),
        ("classic", {"x-expires": 400}, {"expires": 500}, {"expires_ms": 400}),
        ("quorum", {"x-expires": 400}, {"expires": 500}, {"expires_ms": 500}),
        ("classic", {"x-overflow": "drop-head"}, {"overflow": "reject-publish"}, {"overflow": "drop-head"}),
        ("quorum", {"x-overflow": "drop-head"}, {"overflow": "reject-publish"}, {"overflow": "reject-publish"}),
        ("quorum", {}, {"overflow": "reject-publish-dlx"}, {"overflow": "drop-head"}),
        ("classic", {}, {"overflow": "reject-publish-dlx"}, {"overflow": "reject-publish-dlx"}),
        (
            "classic",
            {"x-dead-letter-exchange": "mine"},
            {"dead-letter-exchange": "theirs", "dead-letter-routing-key": "k"},
            {"dead_letter_exchange": "mine", "dead_letter_routing_key": "k"},
        ),
        ("quorum", {"x-delivery-limit": 5}, {"delivery-limit": 3}, {"delivery_limit": 3}),
    ],
)
def test_argument_against_policy(
    broker: MemoryBroker,
    channel: ClientChannel,
    kind: str,
    arguments: dict[str, Any],
    definition: dict[str, Any],
    in_force: dict[str, Any],
) -> None:
    channel.declare("q", arguments | {"x-queue-type": kind}, durable=True)
    before = broker.virtual_host.queues["q"].arguments
    set_policy(broker, "p", "", definition)
    queue = broker.virtual_host.queues["q"]
    assert {name: getattr(queue.arguments, name) for name in in_force} == in_force
    assert queue.declared == before
    clear_policy(broker, "p")
    assert queue.arguments == before


# --- when it takes effect


def test_it_takes_effect_at_once_and_its_end_does(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.declare("q")
    for body in (b"1", b"2", b"3"):
        channel.publish("", "q", body)
    set_policy(broker, "p", "", {"max-length": 2})
    assert channel.message_count("q") == 2
    clear_policy(broker, "p")
    channel.publish("", "q", b"4")
    assert channel.drain("q") == [b"2", b"3", b"4"]


def test_what_is_declared_later_is_under_it(broker: MemoryBroker, channel: ClientChannel) -> None:
    set_policy(broker, "p", "^q$", {"max-length": 1})
    channel.declare("q")
    channel.declare("other")
    for name in ("q", "other"):
        channel.publish("", name, b"1")
        channel.publish("", name, b"2")
    assert (channel.message_count("q"), channel.message_count("other")) == (1, 2)


def test_numbers_and_texts_may_be_what_json_alone_has_room_for() -> None:
    broker = DiskBroker()
    channel = broker.client().channel()
    channel.declare("q", {"x-queue-type": "quorum", "x-overflow": "reject-publish"}, durable=True)
    channel.declare("dead", durable=True)
    channel.bind("dead", "amq.fanout")
    endless = dict.fromkeys(("max-length", "max-length-bytes", "message-ttl", "expires"), 10**400)
    set_policy(
        broker, "p", "^q$", {"dead-letter-exchange": "amq.fanout", "dead-letter-routing-key": "\ud800", **endless}
    )
    channel.publish("", "q", b"body", delivery_mode=2)
    channel.get("q")
    channel.reject(1, requeue=False)
    assert channel.drain("dead") == [b"body"]
    deadline_ms = broker.restarted().timers.next_deadline_ms()
    assert deadline_ms is not None
    assert deadline_ms < 2**64


def test_an_alternate_exchange_takes_effect_at_once(broker: MemoryBroker, channel: ClientChannel) -> None:
    channel.exchange("x")
    channel.declare("unrouted")
    channel.publish("x", "nowhere", b"lost")
    set_policy(broker, "p", "^x$", {"alternate-exchange": "amq.fanout"})
    channel.bind("unrouted", "amq.fanout")
    channel.publish("x", "nowhere", b"found")
    clear_policy(broker, "p")
    channel.publish("x", "nowhere", b"lost again")
    assert channel.drain("unrouted") == [b"found"]


def test_many_queues_are_looked_at_in_slices(broker: MemoryBroker, channel: ClientChannel) -> None:
    for number in range(200):
        channel.declare(f"q{number}")
    broker.goes_on = False
    value: dict[str, object] = {"pattern": "^q", "definition": {"max-length": 1}}
    work = broker.handle(lambda: broker.administration.parameters.set_policy("/", "p", value))
    assert not work.is_done
    assert channel.message_count("q0") == 0  # others have their turn
    while not work.is_done:
        broker.go_on()
    assert {queue.arguments.length_max for queue in broker.virtual_host.queues.values()} == {1}


# --- what cannot be


@pytest.mark.parametrize(
    ("value", "problems"),
    [
        ({"pattern": "x", "definition": {}}, ["no policy provided"]),
        ({"pattern": "x", "definition": {"nope": 1}}, ['[{<<"nope">>,1}] are not recognised policy settings']),
        ({"pattern": "x", "definition": {"max-length": "10"}}, ['<<"10">> is not a valid maximum length']),
        ({"pattern": "x", "definition": {"expires": 0}}, ["0 is not a valid queue expiry"]),
        ({"pattern": "x", "definition": {"max-age": "1x"}}, ['<<"1x">> is not a valid max age']),
        ({"pattern": "x", "definition": {"queue-version": 3}}, ["3 is not a valid queue-version value"]),
        ({"pattern": "x", "definition": {"ha-mode": "exactly"}}, ['ha-mode="exactly" takes an integer, none given']),
        (
            {"pattern": "(", "definition": {"max-length": 1}},
            ['pattern should be regular expression but is invalid: {"missing )",1}'],
        ),
        (
            {
                "pattern": 5,
                "definition": {"nope": 1, "max-length": -1, "expires": -1},
                "apply-to": "zzz",
                "priority": "5",
            },
            [
                "-1 is not a valid maximum length",
                "apply-to 'zzz' unrecognised; should be 'queues', 'exchanges' or 'all'",
                "pattern should be a binary but was 5",
                'priority should be a number, actually was <<"5">>',
            ],
        ),
    ],
)
def test_what_is_not_valid_is_refused(broker: MemoryBroker, value: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(NotValid) as refused:
        broker.administration.parameters.set_policy("/", "p", value)
    assert list(refused.value.problems) == problems
    assert str(refused.value) == "Validation failed\n\n" + "".join(f"{one}\n" for one in problems)
    assert broker.administration.parameters.policies("/") == []


def test_an_operator_policy_holds_limits_only(broker: MemoryBroker) -> None:
    with pytest.raises(NotValid, match="are not recognised policy settings"):
        set_policy(broker, "o", "", {"queue-mode": "lazy"}, operator=True)


def test_what_is_not_there(broker: MemoryBroker) -> None:
    parameters = broker.administration.parameters
    with pytest.raises(NotThere):
        parameters.clear_policy("/", "p")
    with pytest.raises(NotThere):
        parameters.set_policy("nowhere", "p", {"pattern": "", "definition": {"max-length": 1}})


# --- the journal


def test_a_start_brings_them_back() -> None:
    disk = DiskBroker()
    channel = disk.client().channel()
    channel.declare("before", durable=True)
    set_policy(disk, "p", "", {"max-length": 2}, apply_to="queues", priority=3)
    set_policy(disk, "gone", "", {"max-length": 1})
    channel.declare("after", durable=True)
    set_policy(disk, "p", "", {"max-length": 3}, apply_to="queues", priority=3)
    set_policy(disk, "o", "", {"max-length": 9}, operator=True)
    clear_policy(disk, "gone")
    for again in (disk.killed(), disk.killed().restarted()):
        assert [policy.name for policy in again.administration.parameters.policies("/")] == ["p"]
        for name in ("before", "after"):
            assert shown(again, name) == ("p", "o", {"max-length": 3})
            assert again.virtual_host.queues[name].arguments.length_max == 3


def test_a_start_takes_what_an_earlier_release_took(monkeypatch: pytest.MonkeyPatch) -> None:
    definition = {"stream-max-segment-size-bytes": 5_000_000_000, "stream-filter-size-bytes": 256}
    disk = DiskBroker()
    for key in definition:
        with pytest.raises(NotValid):
            set_policy(disk, "p", "", {key: definition[key]})
    with monkeypatch.context() as patched:
        for key in definition:
            patched.setitem(POLICY_CHECKS, key, lambda _: None)
        set_policy(disk, "p", "", definition)
    assert [policy.definition for policy in disk.restarted().administration.parameters.policies("/")] == [definition]


def test_they_go_with_their_virtual_host() -> None:
    disk = DiskBroker()
    disk.administration.add_virtual_host("orders")
    value: dict[str, object] = {"pattern": "", "definition": {"max-length": 2}}
    disk.handle(lambda: disk.administration.parameters.set_policy("orders", "p", value))
    disk.handle(lambda: disk.administration.delete_virtual_host("orders"))
    again = disk.restarted()
    assert list(again.virtual_hosts) == ["/"]
