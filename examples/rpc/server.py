"""RPC, the server: converts temperatures for whoever asks. Start several and they share the questions.

    python server.py

The answer goes to the queue that the question names in `reply_to`, and carries the question's `correlation_id`.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import os

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.queue_declare(queue="fahrenheit", durable=True)


def answer(ch, method, properties, body):
    celsius = float(body)
    fahrenheit = celsius * 9 / 5 + 32
    ch.basic_publish(
        exchange="",
        routing_key=properties.reply_to,
        properties=pika.BasicProperties(correlation_id=properties.correlation_id),
        body=f"{fahrenheit:g}",
    )
    ch.basic_ack(method.delivery_tag)
    print(f"answered {celsius:g} -> {fahrenheit:g}")


channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue="fahrenheit", on_message_callback=answer)

print("waiting for questions, end with Ctrl-C")
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
