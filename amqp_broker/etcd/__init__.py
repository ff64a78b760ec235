"""etcd's gRPC protocol: bytes in, bytes out. No socket and no clock.

``calls.py`` is a connection on which calls are made, ``messages.py`` what they say, ``protobuf.py`` its encoding. Needs
the extra ``cluster``; who runs one node alone imports nothing of this.
"""
