"""The broker on the network: the only floor, with management and above, that knows trio, sockets and real time.

Start with ``broker_server.py``, which puts the parts together.
"""
