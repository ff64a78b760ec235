"""STOMP 1.0, 1.1 and 1.2: bytes in, bytes out.

Start with ``frames.py`` for what goes over the wire, ``destinations.py`` for what a destination stands for, and
``messages.py`` for what headers are in AMQP's terms; ``connection.py`` is the conversation.
"""
