"""x-expires: when a queue that nobody uses goes."""

from __future__ import annotations

from interop.raw_client import Basic, Channel, ChannelUnderTest, Client, Queue
from interop.under_test import BrokerUnderTest
from interop.waiting import Lifetime, let_pass, until


def exists(client: Client, q: str) -> bool:
    """Asked by a bind, because a declare would count as use."""
    ch = client.channel()
    ch.send(Queue.Bind, queue=q, exchange="amq.direct", routing_key="x")
    reply = ch.next()
    if reply.method is Queue.BindOk:
        ch.call(Channel.Close, reply_code=200, reply_text="asked")
        return True
    ch.send(Channel.CloseOk)
    return False


def test_an_unused_queue_goes(client: Client, ch: ChannelUnderTest, q: str) -> None:
    life = Lifetime(150)
    ch.declare(q, arguments={"x-expires": 150})
    assert exists(client, q) or life.is_over
    until(lambda: not exists(client, q))


def test_with_its_messages_and_bindings(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-expires": 500})
    ch.bind(q, "amq.direct", q)
    ch.publish("", q, b"1")
    until(lambda: not exists(client, q))
    ch.publish("amq.direct", q, b"2", mandatory=True)
    assert ch.expect(Basic.Return).reply_code == 312
    assert ch.declare(q).message_count == 0


def test_messages_do_not_become_dead_letters(
    broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, q: str
) -> None:
    dead = broker.queue_name("dead")
    ch.declare(dead)
    ch.declare(q, arguments={"x-expires": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    ch.publish("", q, b"1")
    until(lambda: not exists(client, q))
    assert ch.depth(dead)[0] == 0


def test_publishing_is_no_use(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-expires": 120})

    def is_gone() -> bool:
        ch.publish("", q, b"1")
        return not exists(client, q)

    until(is_gone)


def test_declaring_it_again_is_use(client: Client, ch: ChannelUnderTest, q: str) -> None:
    for _ in range(12):
        ch.declare(q, arguments={"x-expires": 1000})
        let_pass(100)
    assert exists(client, q)
    until(lambda: not exists(client, q))


def test_a_passive_declare_is_use(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-expires": 1000})
    for _ in range(12):
        let_pass(100)
        ch.declare(q, passive=True)
    assert exists(client, q)


def test_basic_get_is_use(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-expires": 1000})
    for _ in range(12):
        let_pass(100)
        assert ch.get(q) is None
    assert exists(client, q)


def test_a_consumer_keeps_it(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-expires": 150})
    tag = ch.consume(q)
    let_pass(200)
    assert exists(client, q)
    life = Lifetime(150)
    ch.call(Basic.Cancel, consumer_tag=tag)
    assert exists(client, q) or life.is_over
    until(lambda: not exists(client, q))


def test_it_starts_anew_at_the_end_of_the_last_consumer(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #924 did not start it there."""
    ch.declare(q, arguments={"x-expires": 300})
    first, second = ch.consume(q), ch.consume(q)
    ch.call(Basic.Cancel, consumer_tag=first)
    let_pass(350)
    assert exists(client, q)
    life = Lifetime(300)
    ch.call(Basic.Cancel, consumer_tag=second)
    let_pass(100)
    assert exists(client, q) or life.is_over
    until(lambda: not exists(client, q))


def test_a_consumers_channel_closes(client: Client, ch: ChannelUnderTest, q: str) -> None:
    consumer = client.channel()
    ch.declare(q, arguments={"x-expires": 300})
    consumer.consume(q)
    let_pass(350)
    consumer.call(Channel.Close, reply_code=200, reply_text="done")
    until(lambda: not exists(client, q))


def test_unacknowledged_messages_do_not_keep_it(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-expires": 500})
    ch.publish("", q, b"1")
    message = ch.get_one(q, no_ack=False)
    until(lambda: not exists(client, q))
    ch.ack(message.delivery_tag)
    ch.sync()


def test_an_exclusive_queue_may_go_earlier(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, exclusive=True, arguments={"x-expires": 40})
    until(lambda: not exists(client, q))


def test_beyond_32_bits(client: Client, ch: ChannelUnderTest, q: str) -> None:
    ch.declare(q, arguments={"x-expires": 2**32 + 20})
    let_pass(60)
    assert exists(client, q)
