"""A load on any AMQP 0-9-1 broker, for ``amqp-broker bench``: publishers and consumers, each kind a process of its own.

Plain sockets and frames that are made beforehand, so that what is measured is the broker and not a client library.
Nothing here knows our broker: it is spoken to as any other is.
"""
