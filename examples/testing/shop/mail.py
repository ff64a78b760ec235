"""Mail to customers, with aio-pika: what can't be sent is tried again, later each time."""

import aio_pika

DELAYS_S = (10, 60, 600, 3600)


class Mailer:
    """Sends the mail that is in a queue.

    Args:
        channel: of aio-pika.
        send: a coroutine function that takes the text, and raises OSError when it can't be sent now.
    """

    def __init__(self, channel, send):
        self._channel = channel
        self._send = send

    async def start(self):
        """Declare the queues and begin."""
        queue = await self._channel.declare_queue("mail", durable=True)
        await self._channel.declare_queue("mail.given-up", durable=True)
        for delay_s in DELAYS_S:
            arguments = {
                "x-message-ttl": delay_s * 1000,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": "mail",
            }
            await self._channel.declare_queue(f"mail.after-{delay_s}", durable=True, arguments=arguments)
        await queue.consume(self._handle)

    async def _handle(self, message):
        attempt = message.headers.get("attempt", 0)
        try:
            await self._send(message.body.decode())
        except OSError:
            where = f"mail.after-{DELAYS_S[attempt]}" if attempt < len(DELAYS_S) else "mail.given-up"
            again = aio_pika.Message(message.body, headers={"attempt": attempt + 1}, delivery_mode=2)
            await self._channel.default_exchange.publish(again, where)
        await message.ack()
