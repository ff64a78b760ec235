"""aio-pika, in an asyncio test."""

import asyncio
from itertools import pairwise

import aio_pika
from shop.mail import DELAYS_S, Mailer


async def test_mail_is_tried_again_and_again_and_given_up(amqp_broker, amqp_url):
    tried_at = []

    async def fail(text):
        tried_at.append(amqp_broker.clock.now())
        raise OSError("no mail today")

    amqp_broker.clock.freeze()
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await Mailer(channel, fail).start()
        await channel.default_exchange.publish(aio_pika.Message(b"Dear customer"), "mail")
        await asyncio.to_thread(amqp_broker.wait_idle)
        for delay_s in DELAYS_S:
            # The consumer works in this very loop: it goes on while the clock waits for it in a thread.
            await asyncio.to_thread(amqp_broker.clock.advance, seconds=delay_s, wait_idle=True)

    assert amqp_broker.queue("mail.given-up").bodies == [b"Dear customer"]
    waited_s = [(later - earlier).total_seconds() for earlier, later in pairwise(tried_at)]
    assert waited_s == list(DELAYS_S)


async def test_mail_is_sent(amqp_broker, amqp_url):
    sent = []

    async def send(text):
        sent.append(text)

    async with await aio_pika.connect_robust(amqp_url) as connection:
        channel = await connection.channel()
        await Mailer(channel, send).start()
        await channel.default_exchange.publish(aio_pika.Message(b"Dear customer"), "mail")
        await asyncio.to_thread(amqp_broker.wait_idle)
    assert sent == ["Dear customer"]
