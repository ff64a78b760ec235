"""The test suites of stock AMQP clients, run against both brokers. See README.md beside this file."""
