"""Message bus, an onlooker: prints every event of every exchange, and nobody need know that it is there.

    python watch.py

See bus.py for the map of events.
"""

import bus

connection = bus.connect()
channel = connection.channel()
bus.declare_exchanges(channel)

queue = channel.queue_declare("", exclusive=True).method.queue
for exchange in bus.EXCHANGES:
    channel.queue_bind(queue, exchange, "#")


def show(ch, method, properties, body):
    print(f"{method.routing_key} {body.decode()}")


channel.basic_consume(queue, show, auto_ack=True)
print("watching, end with Ctrl-C")
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
