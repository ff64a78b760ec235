"""A shop that talks to itself over AMQP, with a different library in every department."""
