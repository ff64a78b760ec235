"""This broker and RabbitMQ under the same load, one after the other: `python -m benchmarks`."""
