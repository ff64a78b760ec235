"""The parts of every client's conversation, whatever it speaks. Knows no protocol: no frames, no codes, no words.

A protocol is a connection class in a folder of its own below ``protocols/``, which is registered in
``server/protocols.py``, derives from ``connection.ClientConnection``, or where it has no channels from
``one_channel.OneChannelConnection``, and is built from these parts, each handed what it needs, never its owner:

- ``login.Login``: who it is, and whether it may enter a virtual host. Refusals are values; the protocol says them.
- ``output.Output``: what is to be sent, the high-water mark that holds its consumers back, and what the client is not
  to read before the journal has kept something. ``take_output`` and ``output_sent`` of the connection are
  ``Output.take`` and ``Output.sent``.
- ``confirms.Confirms``: which publishes are as durable as they must be, in their order.
- ``settling.Settling``: what becomes of deliveries, told to their queues, in portions where there are many;
  ``delivery_timeout.DeliveryTimeout``: those that nobody settles.
- ``heartbeats.Heartbeats``: something is said where nothing else is, and who was silent for too long is given up.
- ``throttle.Throttle``: when the client is not read. ``is_reading_paused`` of the connection is ``Throttle.is_paused``.

What is left to the protocol: bytes to frames and back, which request is allowed when, a call of the domain
(``VirtualHost``, ``Queue``) for each, inside ``Broker.handle``, and how it says an ``AmqpError`` of the domain. What
the pump and the server ask of it stands in docs/architecture.md ("What a protocol's connection asks of its driver").
"""
