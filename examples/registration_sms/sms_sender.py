"""Registration, the SMS side: sends the messages that registrations left in the queue, one by one.

    python sms_sender.py
    python sms_sender.py --gateway-ms 50           a faster gateway
    python sms_sender.py --gateway-fails 1         a gateway that is down for the first message

What the gateway did not take goes back into the queue and is tried again.
The broker is at localhost, or where the environment variable AMQP_URL says.
"""

import argparse
import json
import os

import pika

parser = argparse.ArgumentParser()
parser.add_argument("--gateway-ms", type=int, default=500, help="how long the gateway needs for a message")
parser.add_argument("--gateway-fails", type=int, default=0, help="how many times it fails before it works")
options = parser.parse_args()


class GatewayError(Exception):
    """The SMS gateway did not take the message."""


def send_sms(phone: str, text: str) -> None:
    """Stands for the gateway's slow HTTP call."""
    connection.sleep(options.gateway_ms / 1000)
    if options.gateway_fails > 0:
        options.gateway_fails -= 1
        raise GatewayError


def on_job(ch, method, properties, body):
    sms = json.loads(body)
    try:
        send_sms(sms["phone"], sms["text"])
    except GatewayError:
        print(f"the gateway failed, will try {sms['phone']} again")
        ch.basic_nack(method.delivery_tag, requeue=True)
    else:
        ch.basic_ack(method.delivery_tag)
        print(f"sent to {sms['phone']}: {sms['text']}")


connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()
channel.queue_declare(queue="sms", durable=True)
channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue="sms", on_message_callback=on_job)

print("waiting for messages to send, end with Ctrl-C")
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
