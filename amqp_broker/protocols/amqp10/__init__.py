"""AMQP 1.0: bytes in, bytes out (docs/amqp10.md). Imported when its first client comes.

``connection.py`` has one client's conversation, ``session.py`` what it says on one session, ``incoming.py`` and
``outgoing.py`` the two kinds of links, ``messages.py`` what a message is in the queues; ``decoding.py`` and
``encoding.py`` know the types.
"""
