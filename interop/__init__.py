"""The same behaviour asked of this broker and of RabbitMQ. See README.md beside this file."""
