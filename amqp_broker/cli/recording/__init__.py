"""Recordings of what a program and a broker say to each other, by a proxy between them, for ``amqp-broker diff``."""
