"""What a program and a broker say to each other, recorded by a proxy between them, for ``amqp-broker diff``."""
