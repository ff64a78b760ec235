"""The differential fuzzer: random programs, run on RabbitMQ and on our broker, whose transcripts must not differ.

`program.py` says what a program is, `generate.py` lets Hypothesis make one, `player.py` plays it on one broker and
writes down what came, `quiescence.py` waits until RabbitMQ has nothing more to do, `campaign.py` compares the two
brokers and shortens what differs. `python -m interop.fuzz` is the command.
"""
