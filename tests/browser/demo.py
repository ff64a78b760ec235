"""A broker with something to see: a shop's exchanges and queues, some that are in trouble, names of all kinds, traffic.

Started by ``run.py``, and by whoever wants to look at the page: ``python -m tests.browser.demo``. Ends with its input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import pika
from pika.exceptions import AMQPError

LONG = "telemetry." + "a-rather-long-name-that-somebody-has-generated." * 4 + "end"
RIGHT_TO_LEFT = "הזמנות.חדשות"
# No name for a picture that is to say what the page is: `make pictures` gives another.
HOSTILE = os.environ.get("HOSTILE_NAME", '<img src=x onerror="document.title=1">')
NAMES = (LONG, RIGHT_TO_LEFT, "注文.東京", HOSTILE, "a/b c%2F")
MANY = 300
GUEST = "Basic Z3Vlc3Q6Z3Vlc3Q="

QUEUES: dict[str, dict[str, Any]] = {
    "orders.paid": {"x-dead-letter-exchange": "dead", "x-queue-type": "quorum"},
    "orders.unpaid": {"x-message-ttl": 900_000, "x-dead-letter-exchange": "orders"},
    "invoices": {"x-dead-letter-exchange": "dead", "x-replay-ms": 86_400_000},
    "mail.welcome": {"x-max-priority": 5},
    "mail.receipts": {},
    "search.index": {"x-max-length": 10_000},
    "audit": {},
    "failed": {},
    "thumbnails": {"x-max-length": 5_000, "x-overflow": "reject-publish"},
    "readings": {"x-queue-type": "stream", "x-max-age": "7D"},
}
EXCHANGES = {"orders": "topic", "mail": "direct", "everything": "fanout", "dead": "fanout", "partners": "fanout"}
DEADLINES = "deadlines"
MINUTE_MS = 60_000
NOBODY = "amqp://nobody:secret@127.0.0.1:1"
CARRYING: dict[str, Any] = {
    "shovel/%2F/thumbnails-to-archive": {
        "src-uri": "amqp://", "src-queue": "tenant.0001.events",
        "dest-uri": "amqp://", "dest-queue": "tenant.0002.events",
    },
    "shovel/%2F/old-broker": {
        "src-uri": NOBODY, "src-queue": "orders", "dest-uri": "amqp://", "dest-exchange": "orders",
    },
    "federation-upstream/%2F/paris": {"uri": "amqp:///paris", "exchange": "orders", "max-hops": 2},
    "federation-upstream/%2F/tokyo": {"uri": NOBODY, "ack-mode": "on-publish"},
    "federation-upstream-set/%2F/both": [{"upstream": "paris"}, {"upstream": "tokyo"}],
}  # fmt: skip
BINDINGS = (
    ("orders", "orders.paid", "order.*.paid"),
    ("orders", "orders.unpaid", "order.*.created"),
    ("orders", "invoices", "order.#"),
    ("mail", "mail.welcome", "welcome"),
    ("mail", "mail.receipts", "receipt"),
    ("everything", "search.index", ""),
    ("everything", "audit", ""),
    ("dead", "failed", ""),
)


def start(folder: str) -> tuple[subprocess.Popen[str], str, str]:
    """A broker; returns its process, its address for AMQP and that of the page."""
    ports = {"AMQP_BROKER_PORT": "0", "AMQP_BROKER_MANAGEMENT_PORT": "0", "AMQP_BROKER_METRICS_PORT": "-1"}
    arguments = [sys.executable, "-m", "amqp_broker", "serve", "--data-dir", folder]
    broker = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=os.environ | ports)
    assert broker.stdout is not None
    amqp = page = ""
    for line in broker.stdout:
        if line.startswith("listening on "):
            amqp = line.split()[2]
        if line.startswith("management on "):
            page = line.split()[2]
        if line.startswith("ready"):
            break
    return broker, amqp, page


def connect(amqp: str, name: str) -> pika.BlockingConnection:
    """A client with a name."""
    parameters = pika.URLParameters(f"amqp://guest:guest@{amqp.partition('://')[2]}")
    parameters.client_properties = {"connection_name": name}
    return pika.BlockingConnection(parameters)


def declare(channel: Any) -> None:
    """What there is."""
    for name, kind in EXCHANGES.items():
        channel.exchange_declare(name, kind, durable=True)
    channel.exchange_bind("everything", "orders", "#")
    for name, arguments in QUEUES.items():
        channel.queue_declare(name, durable=True, arguments=arguments)
    for exchange, queue, key in BINDINGS:
        channel.queue_bind(queue, exchange, key)
    channel.exchange_declare(DEADLINES, "x-delayed-message", durable=True, arguments={"x-delayed-type": "topic"})
    channel.exchange_declare("reminders", "direct", durable=True, arguments={"x-delayed-exchange": True})
    channel.queue_bind("mail.receipts", DEADLINES, "order.*.unpaid")
    for name in (*NAMES, *(f"tenant.{number:04}.events" for number in range(MANY))):
        channel.queue_declare(name, durable=True)


def fill(channel: Any) -> None:
    """What waits."""
    for number in range(40):
        order = {"order": 7000 + number, "customer": {"name": "Ada Lovelace", "city": "London"}, "paid": True}
        properties = pika.BasicProperties(
            content_type="application/json",
            message_id=f"m-{number}",
            correlation_id=f"c-{number // 3}",
            delivery_mode=2,
            headers={"attempt": number % 4, "source": "shop", "note": HOSTILE},
        )
        channel.basic_publish("", "invoices", json.dumps(order).encode(), properties)
    for number in range(400):
        reading = {"sensor": f"hall-{number % 7}", "celsius": 18 + number % 50 / 10}
        channel.basic_publish("", "readings", json.dumps(reading).encode(), pika.BasicProperties("application/json"))
    channel.basic_publish("", "thumbnails", bytes(range(256)))
    channel.basic_publish("", HOSTILE, f"<b>{HOSTILE}</b>".encode())
    for _ in range(6):
        method, _, _ = channel.basic_get("invoices")
        channel.basic_nack(method.delivery_tag, requeue=False)


def hold_back(channel: Any) -> None:
    """What is not due yet; most in some hours, the last one in years."""
    for number in range(60):
        order = {"order": 8000 + number, "customer": {"name": "Grace Hopper", "city": "New York"}, "paid": False}
        headers = {"x-delay": (30 + 4 * number) * MINUTE_MS, "customer": number % 5}
        properties = pika.BasicProperties("application/json", message_id=f"d-{number}", headers=headers)
        channel.basic_publish(DEADLINES, f"order.{8000 + number}.unpaid", json.dumps(order).encode(), properties)
    for key, body, days in (
        (HOSTILE, b"<b>never</b>", 20),
        (RIGHT_TO_LEFT, bytes(range(200)), 40),
        (LONG[:250], b"", 9999),
    ):
        headers = {"x-delay": days * 24 * 60 * MINUTE_MS}
        channel.basic_publish(DEADLINES, key, body, pika.BasicProperties(headers=headers))


def carry(page: str) -> None:
    """What carries messages between queues and brokers; one of each comes to nobody."""
    policy = {"pattern": "^partners$", "apply-to": "exchanges", "definition": {"federation-upstream-set": "both"}}
    asked = {f"parameters/{name}": {"value": value} for name, value in CARRYING.items()}
    for path, body in (
        {"vhosts/paris": {"description": "the shop in Paris"}} | asked | {"policies/%2F/partners": policy}
    ).items():
        request = urllib.request.Request(
            f"{page}api/{path}", json.dumps(body).encode(), {"Authorization": GUEST}, method="PUT"
        )
        urllib.request.urlopen(request).close()


def traffic(amqp: str, ended: threading.Event) -> None:
    """Somebody publishes and somebody consumes, at a walking pace."""
    publisher, worker = connect(amqp, "shop-web"), connect(amqp, "order-worker")
    out, back = publisher.channel(), worker.channel()
    back.basic_qos(prefetch_count=20)
    for queue in ("orders.paid", "orders.unpaid", "search.index", "mail.receipts"):
        back.basic_consume(queue, lambda one, method, *_: one.basic_ack(method.delivery_tag))
    slow = worker.channel()
    slow.basic_qos(prefetch_count=20)
    held: deque[int] = deque()
    slow.basic_consume(
        "readings", lambda _, method, *__: held.append(method.delivery_tag), arguments={"x-stream-offset": "first"}
    )
    stuck = connect(amqp, "thumbnailer")
    stuck_channel = stuck.channel()
    stuck_channel.basic_qos(prefetch_count=150)
    stuck_channel.basic_consume("tenant.0007.events", lambda *_: None)
    number = 0
    while not ended.is_set():
        number += 1
        for kind in ("paid", "created", "seen"):
            out.basic_publish("orders", f"order.{number}.{kind}", json.dumps({"order": number}).encode())
        out.basic_publish("mail", "receipt", b"thanks")
        if number % 4 == 0:
            out.basic_publish("mail", "nobody-listens", b"?")
        out.basic_publish("", "tenant.0007.events", b"picture")
        out.basic_publish("", "readings", json.dumps({"sensor": "door", "open": number % 2 == 0}).encode())
        if held and worker.is_open:
            slow.basic_ack(held.popleft())  # as many as are published, so it stays as far behind
        for one in (publisher, worker, stuck):
            if one.is_open:
                with suppress(AMQPError):  # one of them is closed by a test
                    one.process_data_events(0.01)
        time.sleep(0.02)


def main() -> None:
    """Serve until the input ends."""
    with tempfile.TemporaryDirectory() as folder:
        broker, amqp, page = start(str(Path(folder) / "data"))
        ended = threading.Event()
        try:
            connection = connect(amqp, "setup")
            channel = connection.channel()
            declare(channel)
            fill(channel)
            hold_back(channel)
            connection.close()
            carry(page)
            thread = threading.Thread(target=traffic, args=(amqp, ended), daemon=True)
            thread.start()
            print(page, flush=True)
            sys.stdin.read()
        finally:
            ended.set()
            broker.terminate()
            broker.wait()


if __name__ == "__main__":
    main()
