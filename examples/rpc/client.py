"""RPC, the client: asks the server to convert temperatures and waits for each answer.

    python client.py 21.5 100

The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os
import sys
import time
import uuid

import pika

ANSWER_TIMEOUT_S = 10


class TemperatureConverter:
    """A remote function: call it with degrees Celsius, get degrees Fahrenheit."""

    def __init__(self) -> None:
        url = os.environ.get("AMQP_URL", "amqp://localhost")
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.answers_queue = self.channel.queue_declare(queue="", exclusive=True).method.queue
        self.channel.basic_consume(queue=self.answers_queue, on_message_callback=self.on_answer, auto_ack=True)
        self.answers: dict[str, float] = {}

    def on_answer(self, ch, method, properties, body):
        self.answers[properties.correlation_id] = float(body)

    def __call__(self, celsius: float) -> float:
        question_id = str(uuid.uuid4())
        self.channel.basic_publish(
            exchange="",
            routing_key="fahrenheit",
            properties=pika.BasicProperties(reply_to=self.answers_queue, correlation_id=question_id),
            body=str(celsius),
        )
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while question_id not in self.answers:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                sys.exit(f"no answer within {ANSWER_TIMEOUT_S} s: is server.py running?")
            self.connection.process_data_events(time_limit=left_s)
        return self.answers.pop(question_id)


if len(sys.argv) < 2:
    sys.exit("usage: python client.py CELSIUS...")

to_fahrenheit = TemperatureConverter()
for argument in sys.argv[1:]:
    print(f"{argument} C is {to_fahrenheit(float(argument)):g} F")
to_fahrenheit.connection.close()
