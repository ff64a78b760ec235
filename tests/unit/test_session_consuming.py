"""Consumers, prefetch in both scopes, delivery tags, every way to settle, back-pressure, direct reply-to."""

from __future__ import annotations

import pytest
from pamqp import commands

from tests.support.client import Client, ClientChannel, Cut, Received
from tests.support.memory_broker import MemoryBroker
from tests.unit.conftest import Connect

REPLY_TO = "amq.rabbitmq.reply-to"


def fill(channel: ClientChannel, count: int, queue: str = "q") -> None:
    """Declare a queue and put numbered messages into it."""
    channel.declare(queue)
    for number in range(count):
        channel.publish("", queue, b"%d" % number)


def numbers(received: list[Received]) -> list[int]:
    """The numbers that are the bodies."""
    return [int(one.body) for one in received]


def tags(received: list[Received]) -> list[int]:
    """The delivery tags."""
    return [one.expect(commands.Basic.Deliver).delivery_tag or 0 for one in received]


# --- consumers


def test_deliveries_are_numbered_and_say_where_they_come_from(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.exchange("x")
    channel.bind("q", "x", "k")
    tag = channel.consume("q")
    assert tag.startswith("amq.ctag-")
    channel.publish("x", "k", b"0")
    channel.publish("x", "k", b"1")
    first, second = [one.expect(commands.Basic.Deliver) for one in channel.deliveries()]
    assert (first.consumer_tag, first.exchange, first.routing_key) == (tag, "x", "k")
    assert (first.delivery_tag, second.delivery_tag) == (1, 2)
    assert first.redelivered is False


def test_what_waits_is_delivered_after_consume_ok(client: Client) -> None:
    channel = client.channel()
    fill(channel, 3)
    channel.send(commands.Basic.Consume(queue="q"))
    assert [method.name for method in channel.methods()] == ["Basic.ConsumeOk"] + 3 * ["Basic.Deliver"]


def test_get_and_deliveries_share_the_numbers(client: Client) -> None:
    channel = client.channel()
    fill(channel, 1)
    message = channel.get("q")
    assert message is not None
    assert message.expect(commands.Basic.GetOk).delivery_tag == 1
    channel.consume("q")
    channel.publish("", "q", b"1")
    assert tags(channel.deliveries()) == [2]


def test_get_says_how_many_are_left(client: Client) -> None:
    channel = client.channel()
    fill(channel, 3)
    messages = [channel.get("q") for _ in range(4)]
    assert [one.expect(commands.Basic.GetOk).message_count for one in messages if one is not None] == [2, 1, 0]
    assert messages[3] is None


def test_without_acknowledgement_nothing_is_remembered(client: Client) -> None:
    channel = client.channel()
    fill(channel, 2)
    channel.qos(1)
    channel.consume("q", no_ack=True)
    assert numbers(channel.deliveries()) == [0, 1]
    assert client.broker.queue("q").unacknowledged_count == 0
    channel.ack(1)
    assert channel.closed_with().reply_code == 406


def test_the_consumers_of_a_queue_take_turns(connect: Connect) -> None:
    channels = [connect().channel() for _ in range(3)]
    channels[0].declare("q")
    for channel in channels:
        channel.consume("q")
    for number in range(9):
        channels[0].publish("", "q", b"%d" % number)
    assert [numbers(channel.deliveries()) for channel in channels] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


def test_a_tag_may_be_used_in_every_channel_but_once(client: Client) -> None:
    first, second = client.channel(1), client.channel(2)
    first.declare("q")
    assert first.consume("q", "t") == "t"
    second.consume("q", "t")
    first.send(commands.Basic.Consume(queue="q", consumer_tag="t"))
    close = client.closed_with()
    assert (close.reply_code, close.reply_text) == (530, "NOT_ALLOWED - attempt to reuse consumer tag 't'")


def test_cancel(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.consume("q", "t")
    channel.publish("", "q", b"0")
    assert numbers(channel.deliveries()) == [0]
    channel.call(commands.Basic.Cancel("t"))
    channel.publish("", "q", b"1")
    assert channel.received() == []
    channel.ack(1)
    assert client.broker.queue("q").unacknowledged_count == 0
    assert channel.message_count("q") == 1


def test_cancel_of_an_unknown_tag(client: Client) -> None:
    answer = client.channel().call(commands.Basic.Cancel("nobody"))
    assert isinstance(answer, commands.Basic.CancelOk)
    assert answer.consumer_tag == "nobody"


def test_no_wait_is_not_answered(client: Client) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.send(commands.Basic.Consume(queue="q", consumer_tag="t", nowait=True))
    channel.publish("", "q", b"0")
    assert numbers(channel.deliveries()) == [0]
    channel.send(commands.Basic.Cancel("t", nowait=True))
    assert channel.received() == []


def test_a_client_hears_that_its_queue_is_gone(connect: Connect) -> None:
    channel, other = connect().channel(), connect().channel()
    fill(channel, 1)
    channel.consume("q", "t")
    other.call(commands.Queue.Delete(queue="q"))
    delivery, notice = channel.received()
    assert delivery.body == b"0"
    cancel = notice.expect(commands.Basic.Cancel)
    assert (cancel.consumer_tag, cancel.nowait) == ("t", True)
    channel.ack(1)
    channel.declare("q")
    assert channel.consume("q", "t") == "t"


def test_a_client_that_cannot_hear_it_is_not_told(broker: MemoryBroker, cut: Cut) -> None:
    channel = Client(broker, cut=cut).open(capabilities={}).channel()
    channel.declare("q")
    channel.consume("q")
    channel.call(commands.Queue.Delete(queue="q"))
    assert channel.received() == []


def test_exclusive_use(connect: Connect) -> None:
    first, second, third = connect().channel(), connect().channel(), connect().channel()
    first.declare("q")
    first.consume("q", "t", exclusive=True)
    second.send(commands.Basic.Consume(queue="q"))
    close = second.closed_with()
    text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"
    assert (close.reply_code, close.reply_text) == (403, text)
    first.call(commands.Basic.Cancel("t"))
    third.consume("q")
    first.send(commands.Basic.Consume(queue="q", exclusive=True))
    assert first.closed_with().reply_code == 403


def test_the_queue_declared_last_needs_no_name(client: Client) -> None:
    channel = client.channel()
    declared = channel.declare("")
    assert (declared.queue or "").startswith("amq.gen-")
    channel.publish("", declared.queue or "", b"0")
    message = channel.get("")
    assert message is not None
    channel.consume("")
    fresh = client.channel(2)
    fresh.send(commands.Basic.Get(queue=""))
    assert fresh.closed_with().reply_text == "NOT_FOUND - no previously declared queue"


def test_get_sees_what_has_changed_since_the_last_one(broker: MemoryBroker, client: Client) -> None:
    channel = client.channel()
    fill(channel, 2)
    assert numbers([one for one in (channel.get("q"), channel.get("q", no_ack=True)) if one]) == [0, 1]
    channel.declare("other")
    channel.publish("", "other", b"2")
    assert channel.get("") is not None
    channel.declare("q")
    assert channel.get("") is None  # the same bytes as before, and another queue
    channel.call(commands.Queue.Delete(queue="q"))
    fill(channel, 1)
    assert channel.get("q") is not None
    broker.administration.set_permission("guest", "/", ".*", ".*", "^other$")
    channel.send(commands.Basic.Get(queue="q"))
    assert channel.closed_with().reply_code == 403


# --- prefetch


def test_prefetch_of_a_consumer(client: Client) -> None:
    channel = client.channel()
    fill(channel, 5)
    channel.qos(2)
    channel.consume("q", "first")
    assert numbers(channel.deliveries()) == [0, 1]
    channel.consume("q", "second")
    assert numbers(channel.deliveries()) == [2, 3]
    channel.ack(2)
    (delivery,) = channel.deliveries()
    assert delivery.expect(commands.Basic.Deliver).consumer_tag == "first"
    assert delivery.body == b"4"


def test_prefetch_counts_for_consumers_that_start_later(client: Client) -> None:
    channel = client.channel()
    fill(channel, 6)
    channel.consume("q", "unlimited")
    assert len(channel.deliveries()) == 6
    channel.qos(1)
    channel.publish("", "q", b"6")
    assert len(channel.deliveries()) == 1


def test_get_does_not_count_against_prefetch(client: Client) -> None:
    channel = client.channel()
    fill(channel, 4)
    channel.qos(1)
    channel.qos(1, of_channel=True)
    channel.get("q")
    channel.get("q")
    channel.consume("q")
    assert numbers(channel.deliveries()) == [2]
    channel.ack(1)
    assert channel.deliveries() == []
    channel.ack(3)
    assert numbers(channel.deliveries()) == [3]


def test_prefetch_of_a_channel_is_shared_by_its_consumers(client: Client) -> None:
    channel, other = client.channel(1), client.channel(2)
    fill(channel, 6)
    channel.declare("q2")
    channel.qos(3, of_channel=True)
    channel.consume("q", "a")
    channel.consume("q2", "b")
    assert numbers(channel.deliveries()) == [0, 1, 2]
    channel.publish("", "q2", b"100")
    assert channel.deliveries() == []
    channel.ack(1)
    channel.ack(2)
    assert sorted(numbers(channel.deliveries())) in ([3, 4], [3, 100])
    other.consume("q")
    assert other.deliveries() != []


def test_both_scopes_are_kept(client: Client) -> None:
    channel = client.channel()
    fill(channel, 10)
    channel.qos(2)
    channel.qos(3, of_channel=True)
    channel.consume("q", "a")
    channel.consume("q", "b")
    assert len(channel.deliveries()) == 3
    consumers = client.connection.channels[1].consuming.consumers
    assert sorted(consumer.unacknowledged_count for consumer in consumers.values()) == [1, 2]


def test_a_raised_channel_prefetch_takes_effect_at_once(client: Client) -> None:
    channel = client.channel()
    fill(channel, 10)
    channel.qos(1, of_channel=True)
    channel.consume("q")
    assert len(channel.deliveries()) == 1
    channel.qos(4, of_channel=True)
    assert len(channel.deliveries()) == 3
    channel.qos(0, of_channel=True)
    assert len(channel.deliveries()) == 6


def test_a_lowered_channel_prefetch_waits_until_it_is_kept(client: Client) -> None:
    channel = client.channel()
    fill(channel, 10)
    channel.qos(4, of_channel=True)
    channel.consume("q")
    assert len(channel.deliveries()) == 4
    channel.qos(2, of_channel=True)
    channel.ack(2, multiple=True)
    assert channel.deliveries() == []
    channel.ack(3)
    assert len(channel.deliveries()) == 1


@pytest.mark.parametrize("count", [1, 7, 65535])
def test_nobody_gets_stuck_at_a_full_window(client: Client, count: int) -> None:
    channel = client.channel()
    channel.declare("q")
    channel.qos(count)
    channel.consume("q")
    received = 0
    for number in range(30):
        channel.publish("", "q", b"%d" % number)
        deliveries = channel.deliveries()
        received += len(deliveries)
        if deliveries:
            channel.ack(tags(deliveries)[-1], multiple=True)
            received += len(channel.deliveries())
    assert received >= 30 - 1


# --- settlement


def test_multiple(client: Client) -> None:
    channel = client.channel()
    fill(channel, 5)
    channel.consume("q")
    channel.received()
    channel.ack(3)
    channel.ack(4, multiple=True)
    assert client.broker.queue("q").unacknowledged_count == 1
    channel.ack(0, multiple=True)
    assert client.broker.queue("q").unacknowledged_count == 0
    channel.ack(0, multiple=True)
    assert channel.received() == []


@pytest.mark.parametrize("tag", [0, 2, 2**63 - 1])
@pytest.mark.parametrize(
    "make",
    [
        lambda tag: commands.Basic.Ack(tag, False),
        lambda tag: commands.Basic.Ack(tag or 2, True),
        lambda tag: commands.Basic.Nack(tag, False, True),
        lambda tag: commands.Basic.Reject(tag, True),
    ],
    ids=["ack", "ack multiple", "nack", "reject"],
)
def test_unknown_delivery_tags(client: Client, make: type[commands.Basic.Ack], tag: int) -> None:
    channel = client.channel()
    fill(channel, 1)
    channel.get("q")
    method = make(tag)
    channel.send(method)
    close = channel.closed_with()
    assert close.reply_text == f"PRECONDITION_FAILED - unknown delivery tag {method.delivery_tag}"
    assert (close.class_id, close.method_id) == (60, method.frame_id)
    assert client.broker.queue("q").ready_count == 1


def test_an_acknowledgement_given_twice(client: Client) -> None:
    channel = client.channel()
    fill(channel, 1)
    channel.get("q")
    channel.ack(1)
    channel.ack(1)
    assert channel.closed_with().reply_text == "PRECONDITION_FAILED - unknown delivery tag 1"


def test_a_tag_of_another_channel(client: Client) -> None:
    first, second = client.channel(1), client.channel(2)
    fill(first, 1)
    first.get("q")
    second.ack(1)
    assert second.closed_with().reply_code == 406


def test_requeued_messages_stand_where_they_stood(client: Client) -> None:
    channel = client.channel()
    fill(channel, 6)
    for _ in range(4):
        channel.get("q")
    channel.nack(3)
    channel.reject(1)
    channel.nack(4)
    again = [channel.get("q", no_ack=True) for _ in range(5)]
    assert numbers([message for message in again if message]) == [0, 2, 3, 4, 5]
    redelivered = [message.expect(commands.Basic.GetOk).redelivered for message in again if message]
    assert redelivered == [True, True, True, False, False]


def test_requeue_to_a_single_consumer_comes_back_to_it(client: Client) -> None:
    channel = client.channel()
    fill(channel, 1)
    channel.qos(1)
    channel.consume("q")
    for count in range(1, 5):
        (delivery,) = channel.deliveries()
        method = delivery.expect(commands.Basic.Deliver)
        assert (method.delivery_tag, method.redelivered) == (count, count > 1)
        channel.nack(count)


@pytest.mark.parametrize("multiple", [False, True])
def test_rejected_without_requeue_is_gone(client: Client, multiple: bool) -> None:
    channel = client.channel()
    fill(channel, 2)
    channel.get("q")
    channel.get("q")
    channel.nack(2, multiple=multiple, requeue=False)
    queue = client.broker.queue("q")
    assert (queue.ready_count, queue.unacknowledged_count) == (0, 0 if multiple else 1)


@pytest.mark.parametrize(
    ("method", "answers"),
    [(b"\x00\x3c\x00\x6e\x01", ["Basic.RecoverOk"]), (b"\x00\x3c\x00\x64\x01", [])],
    ids=["recover", "recover-async"],
)
def test_recover_gives_all_back(client: Client, method: bytes, answers: list[str]) -> None:
    channel = client.channel()
    fill(channel, 3)
    for _ in range(3):
        channel.get("q")
    client.send_bytes(b"\x01\x00\x01\x00\x00\x00\x05" + method + b"\xce")
    assert [one.name for one in channel.methods()] == answers
    assert numbers([one for one in [channel.get("q") for _ in range(3)] if one]) == [0, 1, 2]


def test_recovered_deliveries_come_again_with_new_tags(client: Client) -> None:
    channel = client.channel()
    fill(channel, 3)
    channel.qos(3)
    channel.consume("q")
    assert tags(channel.deliveries()) == [1, 2, 3]
    channel.send(commands.Basic.Recover(True))
    answer, *again = channel.received()
    answer.expect(commands.Basic.RecoverOk)
    assert tags(again) == [4, 5, 6]
    assert numbers(again) == [0, 1, 2]


def test_settling_what_a_deleted_queue_delivered(client: Client) -> None:
    channel = client.channel()
    fill(channel, 3)
    for _ in range(3):
        channel.get("q")
    channel.call(commands.Queue.Delete(queue="q"))
    channel.ack(1)
    channel.nack(2)
    channel.reject(3, requeue=False)
    assert channel.received() == []
    channel.declare("q")
    assert channel.message_count("q") == 0


# --- back-pressure


def is_congested(client: Client) -> bool:
    """Whether more waits for a client than it should."""
    return client.connection.output.is_congested


def test_a_consumer_that_does_not_read_costs_bounded_memory() -> None:
    broker = MemoryBroker(outbound_high_water_bytes=10_000)
    slow, fast = Client(broker).open(), Client(broker).open()
    consuming, publishing = slow.channel(), fast.channel()
    publishing.declare("q")
    consuming.consume("q")
    for _ in range(200):
        publishing.publish("", "q", bytes(1000))
    connection = slow.connection
    assert is_congested(slow)
    assert 10_000 < connection.waiting_bytes < 12_000
    assert broker.queue("q").ready_count > 180
    broker.check_invariants()

    received = 0
    while deliveries := consuming.deliveries():
        received += len(deliveries)
    assert received == 200
    assert not is_congested(slow)
    broker.check_invariants()


def test_the_others_go_on_while_one_does_not_read() -> None:
    broker = MemoryBroker(outbound_high_water_bytes=10_000)
    slow, fast = Client(broker).open(), Client(broker).open()
    slow_channel, fast_channel = slow.channel(), fast.channel()
    fast_channel.declare("q")
    slow_channel.consume("q")
    fast_channel.consume("q")
    received = 0
    for _ in range(100):
        fast_channel.publish("", "q", bytes(1000))
        received += len(fast_channel.deliveries())
    assert received > 85
    broker.check_invariants()


def test_congestion_ends_at_half_of_the_mark() -> None:
    broker = MemoryBroker(outbound_high_water_bytes=10_000)
    client = Client(broker).open()
    channel = client.channel()
    channel.declare("q")
    channel.consume("q")
    for _ in range(30):
        channel.publish("", "q", bytes(1000))
    connection = client.connection
    output = connection.take_output()
    assert is_congested(client)
    sent_bytes = 0
    for data in output:
        connection.output_sent(len(data))
        sent_bytes += len(data)
        assert is_congested(client) == (connection.waiting_bytes > 5_000)
        if not is_congested(client):
            break
    assert sent_bytes > 5_000
    assert connection.take_output() != []  # more came as soon as there was room


def test_every_channel_of_a_congested_connection_waits_and_goes_on() -> None:
    broker = MemoryBroker(outbound_high_water_bytes=10_000)
    client, publisher = Client(broker).open(), Client(broker).open().channel()
    channels = [client.channel(number) for number in (1, 2)]
    for queue, channel in zip(("a", "b"), channels, strict=True):
        publisher.declare(queue)
        channel.consume(queue)
    for _ in range(20):
        publisher.publish("", "a", bytes(1000))
        publisher.publish("", "b", bytes(1000))
    assert client.connection.waiting_bytes < 12_000
    counts = [0, 0]
    for _ in range(10):
        for index, channel in enumerate(channels):
            counts[index] += len(channel.deliveries())
    assert counts == [20, 20]


def test_a_consumer_that_starts_while_its_connection_is_congested() -> None:
    broker = MemoryBroker(outbound_high_water_bytes=10_000)
    client = Client(broker).open()
    channel = client.channel(1)
    fill(channel, 3)
    channel.declare("large")
    channel.publish("", "large", bytes(20_000))
    channel.send(commands.Basic.Get(queue="large"))
    assert is_congested(client)
    channel.send(commands.Basic.Consume(queue="q"))
    client.send(commands.Channel.Open(), commands.Basic.Consume(queue="q", consumer_tag="late"), channel=2)
    assert broker.queue("q").ready_count == 3
    client.read()
    assert not is_congested(client)
    assert broker.queue("q").ready_count == 0
    assert sum(one.method.name == "Basic.Deliver" for one in client.received(1) + client.received(2)) == 3


# --- direct reply-to


def replying(client: Client) -> tuple[ClientChannel, ClientChannel]:
    """A channel that asks and waits for replies, and one with the queue of the requests."""
    asking, serving = client.channel(1), client.channel(2)
    serving.declare("requests")
    asking.consume(REPLY_TO, "replies", no_ack=True)
    return asking, serving


def test_a_reply_comes_directly(client: Client) -> None:
    asking, serving = replying(client)
    asking.publish("", "requests", b"question", reply_to=REPLY_TO, correlation_id="7")
    request = serving.get("requests", no_ack=True)
    assert request is not None
    assert request.properties is not None
    address = request.properties.reply_to
    assert address is not None
    assert address.startswith(REPLY_TO + ".")
    assert request.properties.correlation_id == "7"
    assert serving.declare(address, passive=True).consumer_count == 1
    serving.publish("", address, b"answer", correlation_id="7")
    (reply,) = asking.deliveries()
    assert reply.body == b"answer"
    assert reply.expect(commands.Basic.Deliver).consumer_tag == "replies"
    assert reply.properties is not None
    assert reply.properties.correlation_id == "7"


def test_one_reply_however_often_its_key_is_given(client: Client) -> None:
    asking, serving = replying(client)
    asking.publish("", "requests", b"question", reply_to=REPLY_TO)
    request = serving.get("requests", no_ack=True)
    assert request is not None
    assert request.properties is not None
    address = request.properties.reply_to
    serving.publish("", address or "", b"answer", headers={"CC": [address, address]})
    assert asking.bodies() == [b"answer"]


def test_every_request_of_a_channel_has_the_same_address(client: Client) -> None:
    asking, serving = replying(client)
    for _ in range(2):
        asking.publish("", "requests", b"question", reply_to=REPLY_TO)
    requests = [serving.get("requests", no_ack=True) for _ in range(2)]
    assert len({one.properties.reply_to for one in requests if one is not None and one.properties is not None}) == 1


def test_nobody_waits_any_more(client: Client) -> None:
    asking, serving = replying(client)
    asking.publish("", "requests", b"question", reply_to=REPLY_TO)
    request = serving.get("requests", no_ack=True)
    assert request is not None
    assert request.properties is not None
    address = request.properties.reply_to or ""
    asking.call(commands.Basic.Cancel("replies"))
    serving.publish("", address, b"answer")
    assert asking.received() == []
    serving.send(commands.Queue.Declare(queue=address, passive=True))
    assert serving.closed_with().reply_code == 404
    assert client.broker.reply_consumers == {}


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (commands.Basic.Consume(queue=REPLY_TO), "reply consumer cannot acknowledge"),
        (commands.Basic.Consume(queue=REPLY_TO, consumer_tag="other", no_ack=True), "reply consumer already set"),
    ],
    ids=["acknowledging", "twice"],
)
def test_wrong_reply_consumers(client: Client, second: commands.Basic.Consume, text: str) -> None:
    asking, _ = replying(client)
    asking.send(second)
    close = asking.closed_with()
    assert (close.reply_code, close.reply_text) == (406, f"PRECONDITION_FAILED - {text}")
    assert client.broker.reply_consumers == {}


def test_replies_end_with_their_channel(client: Client) -> None:
    asking, _ = replying(client)
    asking.call(commands.Channel.Close(200, "bye", 0, 0))
    assert client.broker.reply_consumers == {}
