"""A client of AMQP 0-9-1, for the broker's own errands at other brokers. See ``connection.py``."""
