"""RabbitMQ's protocol for streams: bytes in, bytes out.

Start with ``frames.py`` for what goes over the wire and ``codes.py`` for its numbers; ``connection.py`` is the
conversation. The streams themselves are the broker's (``broker/queues/stream.py``).
"""
