"""Dead-lettering: what a dead letter looks like, where it goes, when it is dropped.

Reasons are also met in the files of message TTL, max length and quorum queues; here it is the letter that counts.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from interop.raw_client import Basic, ChannelUnderTest, Client, Exchange, Queue, Received, T
from interop.under_test import BrokerUnderTest
from interop.waiting import Lifetime, let_pass, until

LAST = ["x-last-death-exchange", "x-last-death-queue", "x-last-death-reason"]  # from 3.13 on
FIRST = ["x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"]
FIELDS = ["count", "reason", "queue", "time", "exchange", "routing-keys"]


@pytest.fixture
def dead(broker: BrokerUnderTest, ch: ChannelUnderTest) -> str:
    """A queue for dead letters."""
    name = broker.queue_name("dead")
    ch.declare(name)
    return name


def declare(ch: ChannelUnderTest, q: str, exchange: str = "", key: str | None = None, **arguments: Any) -> None:
    """A queue with a dead-letter exchange; further arguments with underscores, without the x-."""
    table = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    table["x-dead-letter-exchange"] = exchange
    if key is not None:
        table["x-dead-letter-routing-key"] = key
    ch.declare(q, arguments=table)


def reject(ch: ChannelUnderTest, q: str) -> None:
    """The next message of a queue dies."""
    ch.reject(ch.get_one(q, no_ack=False).delivery_tag, requeue=False)


def letter(ch: ChannelUnderTest, q: str) -> Received:
    """The next dead letter, as soon as it is there."""
    until(lambda: ch.depth(q)[0])
    return ch.get_one(q)


def typed_deaths(received: Received) -> list[list[tuple[str, str]]]:
    """The history: for each death its fields with their types, in the order of the wire."""
    history = received.typed_headers["x-death"]
    assert history.tag == "A"
    return [[(name, value.tag) for name, value in death.value.items()] for death in history.value]


def deaths(received: Received) -> list[tuple[str, str, int]]:
    """The history: queue, reason and count of each death."""
    return [(death["queue"], death["reason"], death["count"]) for death in received.headers["x-death"]]


# The letter


def test_rejected(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish("", q, b"body")
    before_s = int(time.time()) - 1
    reject(ch, q)
    found = letter(ch, dead)
    assert (found.body, found.exchange, found.routing_key, found.redelivered) == (b"body", "", dead, False)
    time_s = found.headers["x-death"][0]["time"]
    assert before_s <= time_s <= time.time() + 1
    expected = {"count": 1, "reason": "rejected", "queue": q, "time": time_s, "exchange": "", "routing-keys": [q]}
    assert found.headers == {
        "x-death": [expected],
        "x-first-death-exchange": "",
        "x-first-death-queue": q,
        "x-first-death-reason": "rejected",
    } | ({name: found.headers["x-first" + name[6:]] for name in LAST} if broker.version >= (3, 13) else {})
    assert typed_deaths(found) == [
        [("count", "l"), ("reason", "S"), ("queue", "S"), ("time", "T"), ("exchange", "S"), ("routing-keys", "A")]
    ]


def test_expired_by_the_queue(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead, message_ttl=10)
    ch.publish("", q, b"body")
    found = letter(ch, dead)
    assert deaths(found) == [(q, "expired", 1)]
    assert found.headers["x-first-death-reason"] == "expired"
    assert "original-expiration" not in found.headers["x-death"][0]


def test_expired_by_itself(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish("", q, b"body", expiration="015", message_id="m")
    found = letter(ch, dead)
    assert deaths(found) == [(q, "expired", 1)]
    is_number, place = (True, 0) if broker.version >= (3, 13) else (False, -1)
    assert found.headers["x-death"][0]["original-expiration"] == ("15" if is_number else "015")
    assert typed_deaths(found)[0][place] == ("original-expiration", "S")
    assert set(found.properties) == {"message_id", "headers"}


def test_the_expiration_goes_whatever_the_reason(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish("", q, b"body", expiration="60000")
    reject(ch, q)
    found = letter(ch, dead)
    assert deaths(found) == [(q, "rejected", 1)]
    assert found.headers["x-death"][0]["original-expiration"] == "60000"
    assert "expiration" not in found.properties


def test_too_many(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead, max_length=1)
    ch.publish_all(q, [b"1", b"2"])
    found = letter(ch, dead)
    assert (found.body, deaths(found)) == (b"1", [(q, "maxlen", 1)])


def test_returned_too_often(ch: ChannelUnderTest, q: str, dead: str) -> None:
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1}
    arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    ch.declare(q, durable=True, arguments=arguments)
    ch.publish("", q, b"1")
    ch.consume(q)
    for tag in (1, 2):
        ch.expect(Basic.Deliver)
        ch.nack(tag)
    found = letter(ch, dead)
    assert (found.body, deaths(found)) == (b"1", [(q, "delivery_limit", 1)])
    assert "x-delivery-count" not in found.headers
    assert found.headers["x-first-death-reason"] == "delivery_limit"


def test_everything_else_is_kept(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    properties: dict[str, Any] = {
        "content_type": "text/plain",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 3,
        "correlation_id": "c",
        "reply_to": "r",
        "message_id": "m",
        "timestamp": 1234567890,
        "message_type": "t",
        "user_id": "guest",
        "app_id": "a",
    }
    headers = {"z": T("b", 1), "a": T("D", (1, 5)), "v": T("V", None), "n": {"x": [T("x", b"\xff")]}}
    ch.publish("", q, b"body", headers=headers, **properties)
    reject(ch, q)
    found = letter(ch, dead)
    assert {name: value for name, value in found.properties.items() if name != "headers"} == properties
    assert [(name, value.tag) for name, value in found.typed_headers.items()] == [
        ("a", "D"),
        ("n", "F"),
        ("v", "V"),
        ("x-death", "A"),
        ("x-first-death-exchange", "S"),
        ("x-first-death-queue", "S"),
        ("x-first-death-reason", "S"),
        *((name, "S") for name in LAST if broker.version >= (3, 13)),
        ("z", "b"),
    ]
    assert found.headers["n"] == {"x": [b"\xff"]}


def test_an_empty_body(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish("", q, b"")
    reject(ch, q)
    assert letter(ch, dead).body == b""


def test_a_body_of_many_frames(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish("", q, b"x" * 300_000)
    reject(ch, q)
    assert letter(ch, dead).body == b"x" * 300_000


# Counts and history


def test_the_same_death_again_is_counted(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, key=q)
    ch.publish("", q, b"1")
    times = []
    for count in range(1, 4):
        reject(ch, q)
        until(lambda: ch.depth(q)[0])
        message = ch.get_one(q, no_ack=False)
        assert deaths(message) == [(q, "rejected", count)]
        times.append(message.headers["x-death"][0]["time"])
        ch.nack(message.delivery_tag)
    assert len(set(times)) == 1
    assert [name for name, _ in typed_deaths(message)[0]] == (FIELDS if broker.version >= (3, 13) else sorted(FIELDS))


def test_the_newest_comes_first(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    second = broker.queue_name("second")
    declare(ch, q, key=second)
    declare(ch, second, key=dead, message_ttl=10)
    ch.publish("", q, b"1")
    reject(ch, q)
    found = letter(ch, dead)
    assert deaths(found) == [(second, "expired", 1), (q, "rejected", 1)]
    assert found.headers["x-first-death-queue"] == q
    assert found.headers["x-first-death-reason"] == "rejected"
    assert [death["exchange"] for death in found.headers["x-death"]] == ["", ""]
    assert [death["routing-keys"] for death in found.headers["x-death"]] == [[second], [q]]
    assert [name for name, _ in typed_deaths(found)[0]] == (FIELDS if broker.version >= (3, 13) else sorted(FIELDS))


def test_a_long_history(broker: BrokerUnderTest, ch: ChannelUnderTest, dead: str) -> None:
    """Before 3.13 older entries change places with each death from the third on."""
    chain = [broker.queue_name(f"chain{number}") for number in range(5)]
    for name, following in zip(chain, [*chain[1:], dead], strict=True):
        declare(ch, name, key=following)
    ch.publish("", chain[0], b"1")
    orders = []
    for name, following in zip(chain, [*chain[1:], dead], strict=True):
        reject(ch, name)
        until(lambda following=following: ch.depth(following)[0])  # type: ignore[misc]
        message = ch.get_one(following, no_ack=False)
        orders.append([chain.index(queue) for queue, _, _ in deaths(message)])
        ch.nack(message.delivery_tag)
    if broker.version >= (3, 13):
        assert orders == [[0], [1, 0], [2, 1, 0], [3, 2, 1, 0], [4, 3, 2, 1, 0]]
    else:
        assert orders == [[0], [1, 0], [2, 0, 1], [3, 1, 0, 2], [4, 2, 0, 1, 3]]


def test_one_entry_for_each_reason(ch: ChannelUnderTest, q: str, dead: str, broker: BrokerUnderTest) -> None:
    declare(ch, q, key=dead)
    ch.publish("", q, b"1", expiration="10")
    found = letter(ch, dead)
    ch.publish("", q, b"1", headers=found.typed_headers)
    reject(ch, q)
    before = [] if broker.version >= (4, 0) else [(q, "expired", 1)]  # from 4.0 on a client's history does not count
    assert deaths(letter(ch, dead)) == [(q, "rejected", 1), *before]


def test_a_ladder_of_retries(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    """Work queue, waiting queue with a TTL, back again: what a consumer does that counts its attempts."""
    waiting = broker.queue_name("waiting")
    declare(ch, q, key=waiting)
    declare(ch, waiting, key=q, message_ttl=10)
    ch.publish("", q, b"1")
    for attempt in range(1, 4):
        reject(ch, q)
        until(lambda: ch.depth(q)[0])
        message = ch.get_one(q, no_ack=False)
        assert deaths(message) == [(waiting, "expired", attempt), (q, "rejected", attempt)]
        assert (message.headers["x-first-death-queue"], message.headers["x-first-death-reason"]) == (q, "rejected")
        ch.nack(message.delivery_tag)


def test_a_chain_of_queues_with_ttl(broker: BrokerUnderTest, ch: ChannelUnderTest, dead: str) -> None:
    chain = [broker.queue_name(f"chain{number}") for number in range(4)]
    for name, following in zip(chain, [*chain[1:], dead], strict=True):
        declare(ch, name, key=following, message_ttl=5)
    ch.publish_all(chain[0], [b"1", b"2"])
    until(lambda: ch.depth(dead)[0] == 2)
    found = [ch.get_one(dead) for _ in range(2)]
    assert [message.body for message in found] == [b"1", b"2"]
    assert deaths(found[0])[0] == (chain[3], "expired", 1)
    assert {queue for queue, _, _ in deaths(found[0])} == set(chain)


# Keys


def test_without_a_key_it_keeps_its_own(ch: ChannelUnderTest, q: str, x: str, dead: str) -> None:
    ch.declare_exchange(x, "direct")
    ch.bind(dead, x, "original")
    declare(ch, q, x)
    ch.bind(q, "amq.direct", "original")
    ch.publish("amq.direct", "original", b"1")
    reject(ch, q)
    found = letter(ch, dead)
    assert (found.exchange, found.routing_key) == (x, "original")
    death = found.headers["x-death"][0]
    assert (death["exchange"], death["routing-keys"]) == ("amq.direct", ["original"])
    assert found.headers["x-first-death-exchange"] == "amq.direct"


def test_with_a_key(ch: ChannelUnderTest, q: str, x: str, dead: str) -> None:
    ch.declare_exchange(x, "direct")
    ch.bind(dead, x, "other")
    declare(ch, q, x, "other")
    ch.publish("", q, b"1")
    reject(ch, q)
    found = letter(ch, dead)
    assert (found.exchange, found.routing_key) == (x, "other")
    assert found.headers["x-death"][0]["routing-keys"] == [q]


def test_an_empty_key_is_a_key(ch: ChannelUnderTest, q: str, x: str, dead: str) -> None:
    ch.declare_exchange(x, "direct")
    ch.bind(dead, x, "")
    declare(ch, q, x, "")
    ch.publish("", q, b"1")
    reject(ch, q)
    assert letter(ch, dead).routing_key == ""


def test_a_key_of_255_bytes(ch: ChannelUnderTest, q: str, x: str, dead: str) -> None:
    key = "k" * 255
    ch.declare_exchange(x, "direct")
    ch.bind(dead, x, key)
    declare(ch, q, x, key)
    ch.publish("", q, b"1")
    reject(ch, q)
    assert letter(ch, dead).routing_key == key


def test_carbon_copies_without_a_key(ch: ChannelUnderTest, q: str, x: str, dead: str, broker: BrokerUnderTest) -> None:
    copies = broker.queue_name("copies")
    blind = broker.queue_name("blind")
    ch.declare_exchange(x, "direct")
    for name, key in ((dead, q), (copies, "cc"), (blind, "bcc")):
        ch.declare(name)
        ch.bind(name, x, key)
    declare(ch, q, x)
    ch.publish("", q, b"1", headers={"CC": ["cc"], "BCC": ["bcc"]})
    reject(ch, q)
    for name in (dead, copies, blind):
        found = letter(ch, name)
        assert (found.exchange, found.routing_key) == (x, q)
        assert found.headers["CC"] == ["cc"]
        assert "BCC" not in found.headers
        assert found.headers["x-death"][0]["routing-keys"] == [q, "cc"]


def test_carbon_copies_with_a_key(ch: ChannelUnderTest, q: str, x: str, dead: str, broker: BrokerUnderTest) -> None:
    copies = broker.queue_name("copies")
    ch.declare_exchange(x, "direct")
    ch.declare(copies)
    ch.bind(copies, x, "cc")
    ch.bind(copies, x, "bcc")
    ch.bind(dead, x, "key")
    declare(ch, q, x, "key")
    ch.publish("", q, b"1", headers={"CC": ["cc"], "BCC": ["bcc"], "a": 1})
    reject(ch, q)
    found = letter(ch, dead)
    assert ("CC" in found.headers) is (broker.version >= (3, 13))
    assert "BCC" not in found.headers
    assert found.headers["a"] == 1
    assert found.headers["x-death"][0]["routing-keys"] == [q, "cc"]
    assert ch.depth(copies)[0] == 0


def test_carbon_copies_of_a_second_death(ch: ChannelUnderTest, q: str, dead: str, broker: BrokerUnderTest) -> None:
    """Without dead-letter keys, keys and copies go on from death to death."""
    second, x, y = broker.queue_name("second"), broker.exchange_name("x"), broker.exchange_name("y")
    for name in (x, y):
        ch.declare_exchange(name, "direct")
    declare(ch, second, y)
    ch.bind(second, x, "cc")
    ch.bind(dead, y, q)
    declare(ch, q, x)
    ch.publish("", q, b"1", headers={"CC": ["cc"]})
    reject(ch, q)
    until(lambda: ch.depth(second)[0])
    reject(ch, second)
    found = letter(ch, dead)
    assert (found.routing_key, found.headers["CC"]) == (q, ["cc"])
    assert [death["routing-keys"] for death in found.headers["x-death"]] == [[q, "cc"], [q, "cc"]]
    assert [death["exchange"] for death in found.headers["x-death"]] == [x, ""]


# Exchanges


def test_through_a_topic_exchange(ch: ChannelUnderTest, q: str, x: str, dead: str) -> None:
    ch.declare_exchange(x, "topic")
    ch.bind(dead, x, "orders.#")
    declare(ch, q, x, "orders.late.very")
    ch.publish("", q, b"1")
    reject(ch, q)
    assert letter(ch, dead).routing_key == "orders.late.very"


def test_through_a_fanout_exchange(ch: ChannelUnderTest, q: str, x: str, dead: str, broker: BrokerUnderTest) -> None:
    other = broker.queue_name("other")
    ch.declare(other)
    ch.declare_exchange(x, "fanout")
    for name in (dead, other):
        ch.bind(name, x)
    declare(ch, q, x)
    ch.publish("", q, b"1")
    reject(ch, q)
    assert [deaths(letter(ch, name)) for name in (dead, other)] == [[(q, "rejected", 1)]] * 2


def test_through_a_headers_exchange(ch: ChannelUnderTest, q: str, x: str, dead: str) -> None:
    """It matches the headers of the letter, those that the broker added among them."""
    ch.declare_exchange(x, "headers")
    ch.bind(dead, x, "", arguments={"x-match": "all-with-x", "x-first-death-reason": "rejected", "kind": "order"})
    declare(ch, q, x)
    ch.publish("", q, b"1", headers={"kind": "order"})
    reject(ch, q)
    assert letter(ch, dead).body == b"1"


def test_through_exchanges_bound_to_exchanges(
    ch: ChannelUnderTest, q: str, x: str, dead: str, broker: BrokerUnderTest
) -> None:
    inner = broker.exchange_name("inner")
    ch.declare_exchange(x, "fanout")
    ch.declare_exchange(inner, "direct", internal=True)
    ch.call(Exchange.Bind, source=x, destination=inner, routing_key="")
    ch.bind(dead, inner, "key")
    declare(ch, q, x, "key")
    ch.publish("", q, b"1")
    reject(ch, q)
    assert letter(ch, dead).exchange == x


def test_to_an_internal_exchange(ch: ChannelUnderTest, q: str, x: str, dead: str) -> None:
    ch.declare_exchange(x, "fanout", internal=True)
    ch.bind(dead, x)
    declare(ch, q, x)
    ch.publish("", q, b"1")
    reject(ch, q)
    assert letter(ch, dead).exchange == x


def test_to_an_alternate_exchange(ch: ChannelUnderTest, q: str, x: str, dead: str, broker: BrokerUnderTest) -> None:
    other = broker.exchange_name("other")
    ch.declare_exchange(other, "fanout")
    ch.declare_exchange(x, "direct", arguments={"alternate-exchange": other})
    ch.bind(dead, other)
    declare(ch, q, x)
    ch.publish("", q, b"1")
    reject(ch, q)
    assert letter(ch, dead).exchange == x


def test_a_missing_exchange_drops_it_in_silence(ch: ChannelUnderTest, q: str, x: str) -> None:
    declare(ch, q, x)
    ch.publish("", q, b"1", mandatory=True)
    reject(ch, q)
    ch.expect_nothing(q)
    assert ch.drain(q) == []


def test_the_exchange_may_come_later(ch: ChannelUnderTest, q: str, x: str, dead: str) -> None:
    declare(ch, q, x)
    ch.publish_all(q, [b"1", b"2", b"3"])
    reject(ch, q)
    second = ch.get_one(q, no_ack=False)  # the queue has done away with the first before it gives this one
    ch.declare_exchange(x, "fanout")
    ch.bind(dead, x)
    ch.reject(second.delivery_tag, requeue=False)
    assert letter(ch, dead).body == b"2"
    ch.call(Exchange.Delete, exchange=x)
    reject(ch, q)
    ch.expect_nothing(q, dead)
    assert ch.drain(dead) == []


def test_an_unroutable_letter_is_dropped_in_silence(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, "amq.direct", "nowhere")
    ch.publish("", q, b"1", mandatory=True)
    reject(ch, q)
    ch.expect_nothing(q)
    assert ch.drain(q) == []


# Cycles


def test_a_queue_that_feeds_itself_with_what_expired(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, message_ttl=20)
    ch.publish("", q, b"1")
    until(lambda: ch.depth(q)[0] == 0)
    let_pass(10)
    assert ch.depth(q)[0] == 0


def test_a_queue_that_feeds_itself_with_what_is_too_much(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q, max_length=1)
    ch.publish_all(q, [b"1", b"2"])
    let_pass(10)
    assert ch.drain(q) == [b"2"]


def test_a_queue_that_feeds_itself_with_what_was_rejected(ch: ChannelUnderTest, q: str) -> None:
    declare(ch, q)
    ch.publish_all(q, [b"1", b"2"])
    reject(ch, q)
    until(lambda: ch.depth(q)[0] == 2)
    assert ch.drain(q) == [b"2", b"1"]


def test_two_queues_that_feed_each_other(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    other = broker.queue_name("other")
    declare(ch, q, key=other, message_ttl=10)
    declare(ch, other, key=q, message_ttl=10)
    ch.publish("", q, b"1")
    until(lambda: ch.are_empty(q, other))


def test_a_rejection_makes_it_no_cycle(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    other = broker.queue_name("other")
    declare(ch, q, key=other)
    declare(ch, other, key=q, message_ttl=10)
    ch.publish("", q, b"1")
    for _ in range(3):
        until(lambda: ch.depth(q)[0])
        reject(ch, q)
    assert deaths(letter(ch, q)) == [(other, "expired", 3), (q, "rejected", 3)]


def test_an_old_rejection_does_not_help(ch: ChannelUnderTest, q: str) -> None:
    """Rejected and back in the queue, then expired there: nobody decided on that."""
    declare(ch, q, message_ttl=200)
    tag = ch.consume(q)
    ch.publish("", q, b"1")
    ch.deliveries(1)
    ch.call(Basic.Cancel, consumer_tag=tag)
    life = Lifetime(200)
    ch.reject(1, requeue=False)
    until(lambda: ch.depth(q)[0] or life.is_over)
    until(lambda: ch.depth(q)[0] == 0)
    let_pass(20)
    assert ch.depth(q)[0] == 0


def test_one_of_two_targets_is_a_cycle(ch: ChannelUnderTest, q: str, x: str, dead: str) -> None:
    ch.declare_exchange(x, "fanout")
    declare(ch, q, x, message_ttl=10)
    ch.bind(q, x)
    ch.bind(dead, x)
    ch.publish("", q, b"1")
    assert deaths(letter(ch, dead)) == [(q, "expired", 1)]
    let_pass(20)
    assert (ch.depth(q)[0], ch.depth(dead)[0]) == (0, 0)


# What clients put into the history


def test_a_history_from_a_client(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    """Before 4.0 it is gone on with; 3.13 wants all fields, and drops others."""
    declare(ch, q, key=dead)
    entry = {"queue": q, "reason": "rejected", "count": T("l", 41), "extra": "kept", "time": T("T", 5)}
    entry |= {"exchange": "", "routing-keys": ["k"]}
    ch.publish("", q, b"1", headers={"x-death": [entry]})
    reject(ch, q)
    found = letter(ch, dead)
    (death,) = found.headers["x-death"]
    if broker.version >= (4, 0):
        assert (death["count"], death["routing-keys"], "extra" in death) == (1, [q], False)
    else:
        assert (death["count"], death["routing-keys"], death["time"]) == (42, ["k"], 5)
        assert ("extra" in death) is (broker.version < (3, 13))
    assert ("x-first-death-queue" in found.headers) is (broker.version >= (4, 0))


def test_a_history_without_counts(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    """RabbitMQ before 3.6 wrote an entry for each death, without a count."""
    declare(ch, q, key=dead)
    entry = {"queue": q, "reason": "rejected", "time": T("T", 5)}
    ch.publish("", q, b"1", headers={"x-death": [entry, entry, entry]})
    reject(ch, q)
    assert deaths(letter(ch, dead)) == [(q, "rejected", 1 if broker.version >= (3, 13) else 4)]


def test_a_single_entry_without_a_count(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    """A history of one entry is not looked through: the death that comes is its first."""
    declare(ch, q, key=dead)
    ch.publish("", q, b"1", headers={"x-death": [{"queue": q, "reason": "rejected"}]})
    reject(ch, q)
    found = letter(ch, dead)
    assert deaths(found) == [(q, "rejected", 1)]
    assert ("time" in found.headers["x-death"][0]) is (broker.version >= (3, 13))


def test_a_history_of_another_queue(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    entry = {"queue": "elsewhere", "reason": "rejected", "count": T("l", 1)}
    entry |= {"exchange": "", "routing-keys": ["k"], "time": T("T", 5)}
    ch.publish("", q, b"1", headers={"x-death": [entry]})
    reject(ch, q)
    found = letter(ch, dead)
    before = [] if broker.version >= (4, 0) else [("elsewhere", "rejected", 1)]
    assert deaths(found) == [(q, "rejected", 1), *before]
    assert ("x-first-death-queue" in found.headers) is (not before)


def test_an_empty_history(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish("", q, b"1", headers={"x-death": []})
    reject(ch, q)
    found = letter(ch, dead)
    assert deaths(found) == [(q, "rejected", 1)]
    first = FIRST if broker.version >= (4, 0) else []
    assert list(found.headers) == ["x-death", *first, *(LAST if broker.version >= (3, 13) else [])]


@pytest.mark.parametrize("value", ["text", T("I", 5), T("t", True), T("V", None), {"queue": "q"}], ids=str)
def test_a_history_of_the_wrong_type_starts_anew(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str, value: Any
) -> None:
    declare(ch, q, key=dead)
    ch.publish("", q, b"1", headers={"x-death": value})
    reject(ch, q)
    found = letter(ch, dead)
    assert deaths(found) == [(q, "rejected", 1)]
    assert list(found.headers) == ["x-death", *(FIRST + LAST if broker.version >= (3, 13) else [])]


@pytest.mark.parametrize("forgery", ["no table", "a number behind", "count"])
def test_a_forged_history(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str, forgery: str) -> None:
    histories: dict[str, list[Any]] = {
        "no table": [1],
        "a number behind": [{"queue": "elsewhere", "reason": "expired", "count": 2}, 5],
        "count": [{"queue": q, "reason": "rejected", "count": "many"}],
    }
    declare(ch, q, key=dead)
    ch.publish("", q, b"1", headers={"x-death": histories[forgery]})
    reject(ch, q)
    if broker.version >= (3, 13):
        assert deaths(letter(ch, dead)) == [(q, "rejected", 1)]
    elif broker.differs("forged-x-death"):
        before = [("elsewhere", "expired", 2)] if forgery == "a number behind" else []
        assert deaths(letter(ch, dead)) == [(q, "rejected", 1), *before]
    else:
        assert ch.depth(dead) == (0, 0)


def test_a_cycle_that_a_client_claims(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, dead: str) -> None:
    """Before 4.0 a queue where the message says that it expired before is no target for what expires now."""
    declare(ch, q, key=dead)
    entry = {"queue": dead, "reason": "expired", "count": T("l", 1)}
    entry |= {"exchange": "", "routing-keys": ["k"], "time": T("T", 5)}
    ch.publish("", q, b"1", expiration="5", headers={"x-death": [entry]})
    ch.publish("", q, b"2", expiration="5")
    assert letter(ch, dead).body == (b"1" if broker.version >= (4, 0) else b"2")


def test_first_death_headers_from_a_client_are_replaced(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish("", q, b"1", headers={"x-first-death-queue": 5, "x-first-death-reason": "claimed"})
    reject(ch, q)
    found = letter(ch, dead)
    assert (found.headers["x-first-death-queue"], found.headers["x-first-death-reason"]) == (q, "rejected")


# Order, and what is no death


def test_nack_of_several(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    ch.consume(q)
    ch.deliveries(4)
    ch.nack(3, multiple=True, requeue=False)
    until(lambda: ch.depth(dead)[0] == 3)
    assert ch.drain(dead) == [b"1", b"2", b"3"]


def test_rejected_one_by_one_in_another_order(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish_all(q, [b"1", b"2", b"3"])
    ch.consume(q)
    ch.deliveries(3)
    for tag in (3, 1, 2):
        ch.reject(tag, requeue=False)
    until(lambda: ch.depth(dead)[0] == 3)
    assert ch.drain(dead) == [b"3", b"1", b"2"]


def test_rejected_after_requeue(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish_all(q, [b"1", b"2"])
    ch.nack(ch.get_one(q, no_ack=False).delivery_tag)
    reject(ch, q)
    found = letter(ch, dead)
    assert (found.body, found.redelivered) == (b"1", False)


def test_purge_is_no_death(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish_all(q, [b"1", b"2"])
    assert ch.call(Queue.Purge, queue=q).message_count == 2
    ch.expect_nothing(q, dead)
    assert ch.depth(dead)[0] == 0


def test_delete_is_no_death(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish_all(q, [b"1", b"2"])
    ch.get_one(q, no_ack=False)
    assert ch.call(Queue.Delete, queue=q).message_count == 1
    assert ch.depth(dead)[0] == 0


def test_rejected_when_the_queue_is_gone(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish("", q, b"1")
    held = ch.get_one(q, no_ack=False)
    ch.call(Queue.Delete, queue=q)
    ch.reject(held.delivery_tag, requeue=False)
    ch.sync()
    assert ch.depth(dead)[0] == 0


def test_requeue_is_no_death(ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    ch.publish("", q, b"1")
    ch.nack(ch.get_one(q, no_ack=False).delivery_tag)
    found = ch.get_one(q)
    assert (found.redelivered, found.headers) == (True, {})
    assert ch.depth(dead)[0] == 0


def test_dead_letters_reach_consumers(client: Client, ch: ChannelUnderTest, q: str, dead: str) -> None:
    declare(ch, q, key=dead)
    consumer = client.channel()
    tag = consumer.consume(dead)
    ch.publish_all(q, [b"1", b"2"])
    reject(ch, q)
    reject(ch, q)
    found = consumer.deliveries(2)
    assert [(message.body, message.consumer_tag) for message in found] == [(b"1", tag), (b"2", tag)]
    assert deaths(found[1]) == [(q, "rejected", 1)]


def test_a_letter_expires_in_its_next_queue(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    second = broker.queue_name("second")
    ch.declare(second, arguments={"x-message-ttl": 150})
    declare(ch, q, key=second)
    ch.publish("", q, b"1", expiration="60000")
    life = Lifetime(150)
    reject(ch, q)
    until(lambda: ch.depth(second)[0] or life.is_over)
    until(lambda: ch.depth(second)[0] == 0)
