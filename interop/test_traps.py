"""Mistakes other brokers made, each a test by name. Those about queue arguments and dead-lettering stand elsewhere."""

from __future__ import annotations

import re

import pytest

from interop.raw_client import Basic, Channel, ChannelUnderTest, Client, Connection, Exchange, Queue, T, Tx
from interop.under_test import BrokerUnderTest
from interop.waiting import let_pass, until

FEATURE = "traps"


# Routing


def test_topic_hash_at_the_end_matches_zero_words(ch: ChannelUnderTest, q: str, x: str) -> None:
    """LavinMQ #1608: `a.#` did not match `a`."""
    ch.declare_exchange(x, "topic")
    ch.declare(q)
    ch.bind(q, x, "a.#")
    ch.publish(x, "a", b"zero words")
    assert ch.get_one(q).body == b"zero words"


def test_topic_with_several_wildcards(ch: ChannelUnderTest, q: str, x: str) -> None:
    """LavinMQ: patterns with more than one wildcard. Celery's delayed delivery binds keys like these."""
    ch.declare_exchange(x, "topic")
    ch.declare(q)
    ch.bind(q, x, "*.*.1.#")
    for key in ("0.0.1", "0.0.1.0.1.queue", "0.1.0.1", "0.0.0.1", "1.1"):
        ch.publish(x, key, key.encode())
    assert ch.drain(q) == [b"0.0.1", b"0.0.1.0.1.queue"]


def test_direct_exchange_routes_to_all_queues_of_a_key(broker: BrokerUnderTest, ch: ChannelUnderTest) -> None:
    """GarageMQ: a direct exchange routed to one queue only."""
    queues = [broker.queue_name(name) for name in ("a", "b", "c")]
    for queue in queues:
        ch.declare(queue)
        ch.bind(queue, "amq.direct", queues[0])
    ch.publish("amq.direct", queues[0], b"copy")
    assert [ch.drain(queue) for queue in queues] == [[b"copy"]] * 3


def test_headers_exchange_does_not_swallow_messages(ch: ChannelUnderTest, q: str, x: str) -> None:
    """Magistrala #3451: the exchange could be declared, and dropped everything."""
    ch.declare_exchange(x, "headers")
    ch.declare(q)
    ch.bind(q, x, arguments={"x-match": "any", "a": 1, "b": 2})
    ch.publish(x, "", b"kept", headers={"b": 2})
    assert ch.drain(q) == [b"kept"]


def test_bcc_is_stripped(ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #1557: every receiver could read who was copied blindly."""
    ch.declare(q)
    ch.publish("", q, b"", headers={"BCC": ["secret"]})
    assert "BCC" not in ch.get_one(q).headers


def test_routing_key_of_255_bytes(ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #1094: its length overflowed."""
    key = "k" * 255
    ch.declare(q)
    ch.bind(q, "amq.direct", key)
    ch.publish("amq.direct", key, b"body")
    assert ch.get_one(q).routing_key == key


def test_body_over_frame_max_to_several_queues(broker: BrokerUnderTest) -> None:
    """LavinMQ 1.1.6: the copies in all queues but the first were corrupt."""
    ch = broker.channel(frame_max=4096)
    body = bytes(range(251)) * 100
    queues = [broker.queue_name(name) for name in ("a", "b", "c")]
    for queue in queues:
        ch.declare(queue)
        ch.bind(queue, "amq.fanout")
    ch.publish("amq.fanout", "", body)
    for queue in queues:
        assert ch.get_one(queue).body == body


# Declarations


def test_a_refused_declare_creates_nothing(ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #2202: 406 was sent, and the queue was there all the same."""
    ch.send(Queue.Declare, queue=q, arguments={"x-max-length": "many"})
    ch.expect_close(406, re.compile(r"invalid arg 'x-max-length' for queue .*"))
    ch.reopen()
    ch.send(Queue.Declare, queue=q, passive=True)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'")


@pytest.mark.parametrize("argument", ["x-consumer-timeout", "x-alternate-exchange", "x-anything"])
def test_other_queue_arguments_may_change(ch: ChannelUnderTest, q: str, argument: str) -> None:
    """LavinMQ #2193, #986: all arguments were compared; RabbitMQ ignores these, bunny's specs rely on it."""
    ch.declare(q, arguments={argument: 1000})
    ch.declare(q, arguments={argument: 2000})
    ch.declare(q)


def test_other_exchange_arguments_may_change(ch: ChannelUnderTest, x: str) -> None:
    """LavinMQ #986."""
    ch.declare_exchange(x, arguments={"x-alternate-exchange": "a"})
    ch.declare_exchange(x, arguments={"x-alternate-exchange": "b"})
    ch.declare_exchange(x)


def test_boolean_argument_that_is_false(ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #1429: false was refused."""
    ch.declare(q, arguments={"x-single-active-consumer": False})


def test_exclusive_auto_delete_queue_does_not_leak(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #1887."""
    owner = broker.connect()
    consumer = owner.channel()
    consumer.declare(q, exclusive=True, auto_delete=True)
    consumer.bind(q, "amq.direct", q)
    consumer.consume(q)
    owner.call(Connection.Close, reply_code=200, reply_text="bye")
    ch.publish("amq.direct", q, b"", mandatory=True)
    assert ch.expect(Basic.Return).reply_code == 312
    ch.send(Queue.Declare, queue=q, passive=True)
    ch.expect_close(404, f"no queue '{q}' in vhost '/'")
    ch.reopen().declare(q, durable=True)


def test_purge_leaves_queues_whose_names_begin_alike(ch: ChannelUnderTest, broker: BrokerUnderTest, q: str) -> None:
    """GarageMQ: purging `a` by its prefix in the store also emptied `a.b`."""
    longer = f"{q}.b"
    ch.declare(q, durable=True)
    ch.declare(longer, durable=True)
    for queue in (q, longer):
        ch.publish("", queue, b"body", delivery_mode=2)
    ch.call(Queue.Purge, queue=q)
    assert ch.drain(longer) == [b"body"]
    ch.call(Queue.Delete, queue=longer)


def test_get_after_delete_of_the_same_burst(ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ: get raced with delete."""
    ch.declare(q)
    ch.publish("", q, b"body")
    ch.send(Queue.Delete, queue=q)
    ch.send(Basic.Get, queue=q)
    assert ch.expect(Queue.DeleteOk).message_count == 1
    ch.expect_close(404, f"no queue '{q}' in vhost '/'", cause=Basic.Get)


def test_empty_queue_name_works(ch: ChannelUnderTest) -> None:
    """GarageMQ refused it."""
    name = ch.declare("", exclusive=True).queue
    ch.bind("", "amq.direct", "")
    ch.publish("amq.direct", name, b"body")
    assert ch.get_one("").body == b"body"


# Acknowledgement and delivery


def test_ack_of_0_multiple_with_nothing_unacknowledged(ch: ChannelUnderTest) -> None:
    """LavinMQ 1.1.7 raised."""
    ch.ack(0, multiple=True)
    ch.nack(0, multiple=True)
    ch.sync()


def test_ack_sent_together_with_connection_close_counts(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #2202: acknowledgements close to connection.close were discarded."""
    ch.declare(q)
    ch.publish("", q, b"body")
    leaving = broker.connect()
    consumer = leaving.channel()
    consumer.consume(q)
    consumer.deliveries(1)
    with leaving.in_one_write():
        consumer.ack(1)
        leaving.send(Connection.Close, reply_code=200, reply_text="bye")
    leaving.take(Connection.CloseOk)
    assert ch.depth(q) == (0, 0)


def test_ack_on_a_channel_that_the_broker_is_closing(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ 2.9.0: an acknowledgement on a channel just closed took the connection down."""
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.consume(q)
    ch.deliveries(2)
    ch.send(Queue.Declare, queue="no such queue", passive=True)
    ch.ack(1)
    ch.ack(1)
    ch.take(Channel.Close)
    ch.ack(2)
    ch.send(Channel.CloseOk)
    other = client.channel()
    assert other.drain(q) == [b"1", b"2"]


def test_requeue_happens_once(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #1344, #1921: a rejected delivery came back twice when its channel closed as well."""
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2"])
    ch.get_one(q, no_ack=False)
    ch.get_one(q, no_ack=False)
    ch.nack(1)
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    other = client.channel()
    until(lambda: other.depth(q)[0] == 2)  # RabbitMQ gives back what was got when it gets round to it
    assert other.drain(q) == [b"1", b"2"]


def test_lowering_the_global_prefetch_keeps_the_channel_alive(ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #2202: it span; Celery's autoscaler lowers the global prefetch of a running consumer."""
    ch.declare(q)
    ch.qos(4, globally=True)
    ch.consume(q)
    ch.publish_all(q, [b"%d" % number for number in range(8)])
    assert [delivery.body for delivery in ch.deliveries(4)] == [b"0", b"1", b"2", b"3"]
    ch.qos(2, globally=True)
    ch.expect_nothing(q)
    ch.ack(4, multiple=True)
    assert [delivery.body for delivery in ch.deliveries(2)] == [b"4", b"5"]
    ch.expect_nothing(q)


def test_delivery_tags_have_no_holes(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #2202: tags raced. Several consumers, gets between them, several publishers."""
    ch.declare(q)
    for _ in range(3):
        ch.consume(q)
    publishers = [client.channel() for _ in range(3)]
    for _ in range(20):
        for publisher in publishers:
            publisher.publish("", q, b"")
    assert [delivery.delivery_tag for delivery in ch.deliveries(60)] == list(range(1, 61))


def test_priority_consumers_do_not_get_stuck(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #1440, #1420: when the high one was full, the low one waited for ever, and the other way round."""
    high, low = client.channel(), client.channel()
    ch.declare(q)
    for channel, priority in ((high, 10), (low, 0)):
        channel.qos(1)
        channel.consume(q, arguments={"x-priority": priority})
    ch.publish_all(q, [b"1", b"2", b"3", b"4"])
    assert high.expect(Basic.Deliver).body == b"1"
    assert low.expect(Basic.Deliver).body == b"2"
    low.ack(1)
    assert low.expect(Basic.Deliver).body == b"3"
    high.ack(1)
    assert high.expect(Basic.Deliver).body == b"4"
    high.expect_nothing(q)
    low.expect_nothing(q)


def test_persistent_message_acknowledged_at_once_is_still_confirmed(
    client: Client, ch: ChannelUnderTest, q: str
) -> None:
    """GarageMQ: acknowledged within its own batch, a message was never confirmed to its publisher."""
    consumer = client.channel()
    ch.declare(q, durable=True)
    consumer.consume(q, no_ack=True)
    ch.confirm()
    ch.publish_all(q, [b""] * 50, delivery_mode=2)
    assert ch.await_confirms(50) == [(number, True) for number in range(1, 51)]
    assert len(consumer.deliveries(50)) == 50


def test_cancel_of_an_unknown_consumer_tag(ch: ChannelUnderTest) -> None:
    """GarageMQ answered 404."""
    assert ch.call(Basic.Cancel, consumer_tag="unknown").consumer_tag == "unknown"


# Transactions


def test_recover_does_not_touch_what_a_transaction_acknowledged(ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ's beta 6 to 8: recover and transactions undid each other."""
    ch.declare(q)
    ch.publish_all(q, [b"1", b"2", b"3"])
    ch.call(Tx.Select)
    for _ in range(3):
        ch.get_one(q, no_ack=False)
    ch.ack(2)
    ch.call(Basic.Recover, requeue=True)
    ch.call(Tx.Rollback)
    assert [ch.get_one(q).body for _ in range(2)] == [b"1", b"3"]
    ch.ack(2)
    ch.call(Tx.Commit)
    assert ch.depth(q) == (0, 0)


# Wire


@pytest.mark.parametrize("seconds", [0, 2**31, 2**32, 253402300800, 2**53, 2**63, 2**64 - 1])
def test_timestamps_of_any_size(ch: ChannelUnderTest, q: str, seconds: int) -> None:
    """LavinMQ #1684 refused some that RabbitMQ takes."""
    ch.declare(q)
    ch.publish("", q, b"", timestamp=seconds, headers={"when": T("T", seconds)})
    assert ch.get_one(q).typed_properties == {"timestamp": seconds, "headers": {"when": T("T", seconds)}}


def test_long_start_ok(broker: BrokerUnderTest) -> None:
    """LavinMQ allowed 4096 bytes, too few for long tokens; so did RabbitMQ before it allowed 8192."""
    client = broker.socket()
    client.begin()
    client.send_start_ok(client_properties={"token": "x" * 6000, "capabilities": {}})
    if broker.differs("long-start-ok"):
        client.expect_tune()
    else:
        client.nothing_within(0.1)


def test_longer_start_ok(broker: BrokerUnderTest) -> None:
    client = broker.socket()
    client.begin()
    client.send_start_ok(client_properties={"token": "x" * 8192, "capabilities": {}})
    client.nothing_within(0.1)


def test_heartbeat_of_0(broker: BrokerUnderTest) -> None:
    """GarageMQ did not support it for long."""
    broker.channel(heartbeat=0).sync()


def test_exchange_types_of_the_specification_are_there(broker: BrokerUnderTest, ch: ChannelUnderTest) -> None:
    """GarageMQ has no headers exchange and no bindings between exchanges."""
    kinds = ("direct", "fanout", "topic", "headers")
    for kind in kinds:
        ch.declare_exchange(broker.exchange_name(kind), kind)
    for source in kinds:
        for destination in kinds:
            ch.call(Exchange.Bind, source=broker.exchange_name(source), destination=broker.exchange_name(destination))


def test_queue_delete_answers_before_the_cancel_notice(ch: ChannelUnderTest, q: str) -> None:
    """A client deletes a queue that it consumes itself: kombu fails when the notice overtakes the answer."""
    ch.declare(q)
    ch.consume(q, consumer_tag="t")
    ch.send(Queue.Delete, queue=q)
    ch.expect(Queue.DeleteOk)
    assert ch.expect(Basic.Cancel).consumer_tag == "t"


def test_ttl_goes_on_after_a_message_that_never_expires(ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #1606: nothing expired any more once a message without a TTL had been the head."""
    ch.declare(q)
    ch.publish("", q, b"1", expiration="10")
    ch.publish("", q, b"2")
    ch.publish("", q, b"3", expiration="10")
    let_pass(40)
    until(lambda: ch.depth(q)[0] == 2)
    assert ch.get_one(q).body == b"2"
    until(lambda: ch.depth(q)[0] == 0)


def test_queue_expiry_starts_at_the_last_consumers_end(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #924: it did not start there."""
    with client.in_one_write():  # so that it has not gone before there is a consumer
        ch.send(Queue.Declare, queue=q, arguments={"x-expires": 300})
        ch.send(Queue.Bind, queue=q, exchange="amq.direct", routing_key=q)
        ch.send(Basic.Consume, queue=q, consumer_tag="t")
    for method in (Queue.DeclareOk, Queue.BindOk, Basic.ConsumeOk):
        ch.expect(method)
    ch.call(Basic.Cancel, consumer_tag="t")

    def is_gone() -> bool:
        ch.publish("amq.direct", q, b"", mandatory=True)
        ch.sync()
        return bool(ch.take_all(Basic.Return))

    until(is_gone)


def test_dead_letter_cycles_end(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #1723, #1244: a message that expired in a circle of queues went round for ever."""
    other = broker.queue_name("other")
    for name, following in ((q, other), (other, q)):
        arguments = {"x-message-ttl": 5, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": following}
        ch.declare(name, arguments=arguments)
    ch.publish("", q, b"1")
    until(lambda: ch.are_empty(q, other))


def test_dead_letters_keep_their_headers(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ 1.2.3 and 1.2.4 lost them."""
    dead = broker.queue_name("dead")
    ch.declare(dead)
    ch.declare(q, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    ch.publish("", q, b"1", headers={"kept": [1, "two"]}, message_id="m")
    ch.reject(ch.get_one(q, no_ack=False).delivery_tag, requeue=False)
    until(lambda: ch.depth(dead)[0])
    found = ch.get_one(dead)
    assert (found.headers["kept"], found.properties["message_id"]) == ([1, "two"], "m")


def test_carbon_copies_are_dead_lettered(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str, x: str) -> None:
    """LavinMQ: CC and dead-lettering did not know of each other."""
    copies = broker.queue_name("copies")
    ch.declare_exchange(x)
    ch.declare(copies)
    ch.bind(copies, x, "cc")
    ch.declare(q, arguments={"x-dead-letter-exchange": x})
    ch.publish("", q, b"1", headers={"CC": ["cc"]})
    ch.reject(ch.get_one(q, no_ack=False).delivery_tag, requeue=False)
    until(lambda: ch.depth(copies)[0])
    assert ch.get_one(copies).headers["x-death"][0]["routing-keys"] == [q, "cc"]


def test_delivery_count_of_the_first_delivery(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #977 began with another number than 0; from 3.13 on 0 is not shown."""
    ch.declare(q, durable=True, arguments={"x-queue-type": "quorum"})
    ch.publish("", q, b"1")
    until(lambda: ch.depth(q)[0])
    assert ch.get_one(q).headers == ({"x-delivery-count": 0} if broker.version < (3, 13) else {})


def test_queue_ttl_beyond_32_bits(ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #2202: 49.7 days overflowed, and the message was there at once. Celery asks for 4 years."""
    ch.declare(q, arguments={"x-message-ttl": 134_217_728_000})
    ch.publish("", q, b"1")
    ch.publish("", q, b"2", expiration=str(2**32 + 1))
    let_pass(10)
    assert ch.drain(q) == [b"1", b"2"]
