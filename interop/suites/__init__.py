"""The test suites of stock AMQP clients, run against our broker and against RabbitMQ. See README.md beside this file."""
