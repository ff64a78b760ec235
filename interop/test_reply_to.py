"""Direct reply-to: the pseudo-queue amq.rabbitmq.reply-to."""

from __future__ import annotations

import re

import pytest

from interop.codec import MethodType
from interop.raw_client import Basic, Channel, ChannelUnderTest, Client, Queue, Tx
from interop.under_test import BrokerUnderTest

FEATURE = "direct reply-to"

PSEUDO_QUEUE = "amq.rabbitmq.reply-to"


def asked(requester: ChannelUnderTest, responder: ChannelUnderTest, queue: str) -> str:
    """Sends a request, and returns the reply-to that the responder sees."""
    requester.publish("", queue, b"question", reply_to=PSEUDO_QUEUE, correlation_id="c")
    requester.sync()
    reply_to: str = responder.get_one(queue).properties["reply_to"]
    return reply_to


def test_request_and_reply(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    tag = ch.consume(PSEUDO_QUEUE, no_ack=True)
    responder = broker.channel()
    reply_to = asked(ch, responder, q)
    assert re.fullmatch(r"amq\.rabbitmq\.reply-to\..+", reply_to)
    responder.publish("", reply_to, b"answer", correlation_id="c")
    answer = ch.expect(Basic.Deliver)
    assert (answer.body, answer.consumer_tag, answer.exchange, answer.routing_key) == (b"answer", tag, "", reply_to)
    assert (answer.redelivered, answer.delivery_tag) == (False, 1)
    assert answer.properties == {"correlation_id": "c"}


def test_requests_of_one_channel_have_the_same_reply_to(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(PSEUDO_QUEUE, no_ack=True)
    responder = broker.channel()
    assert asked(ch, responder, q) == asked(ch, responder, q)


def test_consumer_tag_is_generated_or_given(ch: ChannelUnderTest) -> None:
    assert re.fullmatch(r"amq\.ctag-[A-Za-z0-9_-]{22}", ch.consume(PSEUDO_QUEUE, no_ack=True))
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    ch.reopen()
    assert ch.consume(PSEUDO_QUEUE, no_ack=True, consumer_tag="mine") == "mine"


def test_consuming_without_waiting(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.send(Basic.Consume, queue=PSEUDO_QUEUE, no_ack=True, consumer_tag="mine", nowait=True)
    responder = broker.channel()
    responder.publish("", asked(ch, responder, q), b"answer")
    assert ch.expect(Basic.Deliver).consumer_tag == "mine"


def test_acknowledgements_are_refused(ch: ChannelUnderTest) -> None:
    ch.send(Basic.Consume, queue=PSEUDO_QUEUE)
    ch.expect_close(406, "reply consumer cannot acknowledge", cause=Basic.Consume)


def test_second_consumer_of_a_channel(ch: ChannelUnderTest) -> None:
    ch.consume(PSEUDO_QUEUE, no_ack=True)
    ch.send(Basic.Consume, queue=PSEUDO_QUEUE, no_ack=True)
    ch.expect_close(406, "reply consumer already set", cause=Basic.Consume)


def test_a_consumer_for_each_channel(client: Client, ch: ChannelUnderTest, q: str) -> None:
    other = client.channel()
    ch.declare(q)
    ch.consume(PSEUDO_QUEUE, no_ack=True)
    other.consume(PSEUDO_QUEUE, no_ack=True)
    assert asked(ch, ch, q) != asked(other, ch, q)


def test_request_without_a_consumer(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"question", reply_to=PSEUDO_QUEUE)
    ch.expect_close(406, "fast reply consumer does not exist", cause=Basic.Publish)


def test_the_consumer_must_be_on_the_channel_of_the_request(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(PSEUDO_QUEUE, no_ack=True)
    other = client.channel()
    other.publish("", q, b"question", reply_to=PSEUDO_QUEUE)
    other.expect_close(406, "fast reply consumer does not exist", cause=Basic.Publish)


def test_another_reply_to_is_left_alone(ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.publish("", q, b"", reply_to="amq.rabbitmq.reply-to.made-up")
    assert ch.get_one(q).properties == {"reply_to": "amq.rabbitmq.reply-to.made-up"}


def test_passive_declare_tells_whether_the_requester_is_there(
    broker: BrokerUnderTest, ch: ChannelUnderTest, q: str
) -> None:
    ch.declare(q)
    ch.consume(PSEUDO_QUEUE, no_ack=True, consumer_tag="mine")
    responder = broker.channel()
    reply_to = asked(ch, responder, q)
    for passive in (True, False):
        reply = responder.call(Queue.Declare, queue=reply_to, passive=passive)
        assert (reply.queue, reply.message_count, reply.consumer_count) == (reply_to, 0, 1)
    ch.call(Basic.Cancel, consumer_tag="mine")
    responder.send(Queue.Declare, queue=reply_to, passive=True)
    responder.expect_close(404, f"no queue '{reply_to}' in vhost '/'", cause=Queue.Declare)


def test_declare_of_a_made_up_name(ch: ChannelUnderTest) -> None:
    ch.send(Queue.Declare, queue="amq.rabbitmq.reply-to.made-up")
    ch.expect_close(404, "no queue 'amq.rabbitmq.reply-to.made-up' in vhost '/'", cause=Queue.Declare)


def test_cancel(ch: ChannelUnderTest) -> None:
    ch.consume(PSEUDO_QUEUE, no_ack=True, consumer_tag="mine")
    ch.call(Basic.Cancel, consumer_tag="mine")
    ch.consume(PSEUDO_QUEUE, no_ack=True, consumer_tag="mine")


def test_reply_after_the_requester_is_gone_is_dropped(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(PSEUDO_QUEUE, no_ack=True)
    responder = broker.channel()
    reply_to = asked(ch, responder, q)
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    responder.confirm()
    responder.publish("", reply_to, b"too late")
    assert responder.expect(Basic.Ack).delivery_tag == 1


def test_mandatory_reply_is_delivered_and_returned(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(PSEUDO_QUEUE, no_ack=True)
    responder = broker.channel()
    reply_to = asked(ch, responder, q)
    responder.publish("", reply_to, b"answer", mandatory=True)
    assert ch.expect(Basic.Deliver).body == b"answer"
    assert responder.expect(Basic.Return).reply_code == 312


def test_replies_are_confirmed(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(PSEUDO_QUEUE, no_ack=True)
    responder = broker.channel()
    reply_to = asked(ch, responder, q)
    responder.confirm()
    responder.publish_all(reply_to, [b"1", b"2", b"3"])
    assert responder.await_confirms(3) == [(1, True), (2, True), (3, True)]
    assert [delivery.body for delivery in ch.deliveries(3)] == [b"1", b"2", b"3"]


def test_delivery_tags_are_shared_with_other_consumers(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(PSEUDO_QUEUE, no_ack=True)
    responder = broker.channel()
    reply_to = asked(ch, responder, q)
    ch.publish("", q, b"")
    assert ch.get_one(q).delivery_tag == 1
    responder.publish("", reply_to, b"answer")
    assert ch.expect(Basic.Deliver).delivery_tag == 2


def test_reply_to_the_bare_name_goes_nowhere(ch: ChannelUnderTest) -> None:
    ch.consume(PSEUDO_QUEUE, no_ack=True)
    ch.publish("", PSEUDO_QUEUE, b"to nobody", mandatory=True)
    assert ch.expect(Basic.Return).reply_code == 312


@pytest.mark.parametrize("method", [Basic.Get, Queue.Purge])
def test_the_pseudo_queue_is_no_queue(ch: ChannelUnderTest, method: MethodType) -> None:
    ch.send(method, queue=PSEUDO_QUEUE)
    ch.expect_close(404, f"no queue '{PSEUDO_QUEUE}' in vhost '/'", cause=method)


def test_delete_of_the_pseudo_queue_succeeds(ch: ChannelUnderTest) -> None:
    assert ch.call(Queue.Delete, queue=PSEUDO_QUEUE).message_count == 0


def test_binding_the_pseudo_queue(ch: ChannelUnderTest) -> None:
    ch.send(Queue.Bind, queue=PSEUDO_QUEUE, exchange="amq.direct", routing_key="k")
    ch.expect_close(404, f"no queue '{PSEUDO_QUEUE}' in vhost '/'", cause=Queue.Bind)


def test_reply_to_an_older_channel_of_the_same_number(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(PSEUDO_QUEUE, no_ack=True)
    responder = broker.channel()
    old = asked(ch, responder, q)
    ch.call(Channel.Close, reply_code=200, reply_text="done")
    ch.reopen()
    ch.consume(PSEUDO_QUEUE, no_ack=True)
    new = asked(ch, responder, q)
    responder.publish("", old, b"old")
    responder.publish("", new, b"new")
    assert ch.expect(Basic.Deliver).body == b"new"
    ch.expect_nothing()


def test_second_consumer_with_the_same_tag(ch: ChannelUnderTest) -> None:
    ch.consume(PSEUDO_QUEUE, no_ack=True, consumer_tag="r")
    ch.send(Basic.Consume, queue=PSEUDO_QUEUE, no_ack=True, consumer_tag="r")
    ch.expect_close(406, "reply consumer already set", cause=Basic.Consume)


def test_a_reply_in_a_transaction(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q)
    ch.consume(PSEUDO_QUEUE, no_ack=True)
    responder = broker.channel()
    reply_to = asked(ch, responder, q)
    responder.call(Tx.Select)
    responder.publish("", reply_to, b"rolled back")
    responder.call(Tx.Rollback)
    responder.publish("", reply_to, b"committed")
    responder.call(Tx.Commit)
    if not broker.differs("direct-reply-in-a-transaction"):
        assert ch.expect(Basic.Deliver).body == b"rolled back"
    assert ch.expect(Basic.Deliver).body == b"committed"
