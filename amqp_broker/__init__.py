"""An AMQP 0-9-1 message broker: a RabbitMQ in one Python process."""

__version__ = "0.1.0"
