"""Federation: exchanges and queues that policies name get what is published, or waits, at other brokers."""
