"""MQTT 3.1, 3.1.1 and 5.0: bytes in, bytes out.

Start with ``packets.py`` for what goes over the wire. ``encoding.py`` holds the field types, ``properties.py`` MQTT 5's
properties, ``reasons.py`` what a peer is told.
"""
