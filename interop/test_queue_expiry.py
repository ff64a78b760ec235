"""x-expires: when a queue that nobody uses goes.

What a queue needs while it lives reaches the broker in one write with its declaration: a machine that has much to do
may take longer to answer than the queue lives.
"""

from __future__ import annotations

from collections.abc import Callable

from interop.raw_client import Basic, Channel, ChannelUnderTest, Client, Queue
from interop.under_test import BrokerUnderTest
from interop.waiting import Lifetime, let_pass, until

LONG_MS = 1_000  # long enough that a use due in a tenth of it is in time, on most machines
DECLARED = {"arguments": {"x-expires": LONG_MS}}


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


def lives_on(client: Client, ch: ChannelUnderTest, q: str, use: Callable[[], None]) -> bool:
    """Whether a queue that is used every tenth of its time outlives it. `use` sends one method, which is answered.

    A machine that has much to do may be late with one, and then nothing can be asked any more.
    """
    life = Lifetime(LONG_MS)
    ch.declare(q, **DECLARED)
    for _ in range(12):
        let_pass(LONG_MS // 10)
        before, life = life, Lifetime(LONG_MS)
        use()
        if ch.next().method is Channel.Close:
            return before.is_over
    return exists(client, q) or life.is_over


def test_an_unused_queue_goes(client: Client, ch: ChannelUnderTest, q: str) -> None:
    life = Lifetime(150)
    ch.declare(q, arguments={"x-expires": 150})
    assert exists(client, q) or life.is_over
    until(lambda: not exists(client, q))


def test_with_its_messages_and_bindings(client: Client, ch: ChannelUnderTest, q: str) -> None:
    with client.in_one_write():
        ch.send(Queue.Declare, queue=q, arguments={"x-expires": 500})
        ch.send(Queue.Bind, queue=q, exchange="amq.direct", routing_key=q)
        ch.publish("", q, b"1")
    ch.expect(Queue.DeclareOk)
    ch.expect(Queue.BindOk)
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
    assert lives_on(client, ch, q, lambda: ch.send(Queue.Declare, queue=q, **DECLARED))
    until(lambda: not exists(client, q))


def test_a_passive_declare_is_use(client: Client, ch: ChannelUnderTest, q: str) -> None:
    assert lives_on(client, ch, q, lambda: ch.send(Queue.Declare, queue=q, passive=True))


def test_basic_get_is_use(client: Client, ch: ChannelUnderTest, q: str) -> None:
    assert lives_on(client, ch, q, lambda: ch.send(Basic.Get, queue=q))


def declare_and_consume(client: Client, ch: ChannelUnderTest, q: str, expires_ms: int, *tags: str) -> None:
    """A queue that has consumers from the beginning."""
    with client.in_one_write():
        ch.send(Queue.Declare, queue=q, arguments={"x-expires": expires_ms})
        for tag in tags:
            ch.send(Basic.Consume, queue=q, consumer_tag=tag)
    ch.expect(Queue.DeclareOk)
    for _ in tags:
        ch.expect(Basic.ConsumeOk)


def test_a_consumer_keeps_it(client: Client, ch: ChannelUnderTest, q: str) -> None:
    declare_and_consume(client, ch, q, 300, "t")
    let_pass(350)
    assert exists(client, q)
    life = Lifetime(300)
    ch.call(Basic.Cancel, consumer_tag="t")
    assert exists(client, q) or life.is_over
    until(lambda: not exists(client, q))


def test_it_starts_anew_at_the_end_of_the_last_consumer(client: Client, ch: ChannelUnderTest, q: str) -> None:
    """LavinMQ #924 did not start it there."""
    declare_and_consume(client, ch, q, 300, "first", "second")
    ch.call(Basic.Cancel, consumer_tag="first")
    let_pass(350)
    assert exists(client, q)
    life = Lifetime(300)
    ch.call(Basic.Cancel, consumer_tag="second")
    let_pass(100)
    assert exists(client, q) or life.is_over
    until(lambda: not exists(client, q))


def test_a_consumers_channel_closes(client: Client, ch: ChannelUnderTest, q: str) -> None:
    consumer = client.channel()
    declare_and_consume(client, consumer, q, 300, "t")
    let_pass(350)
    consumer.call(Channel.Close, reply_code=200, reply_text="done")
    until(lambda: not exists(client, q))


def test_unacknowledged_messages_do_not_keep_it(client: Client, ch: ChannelUnderTest, q: str) -> None:
    with client.in_one_write():
        ch.send(Queue.Declare, queue=q, arguments={"x-expires": 500})
        ch.publish("", q, b"1")
        ch.send(Basic.Get, queue=q)
    ch.expect(Queue.DeclareOk)
    message = ch.expect(Basic.GetOk)
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
