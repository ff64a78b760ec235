"""Stands in for the package of this name in aio-pika's suite: the broker is already there, no container is started."""
