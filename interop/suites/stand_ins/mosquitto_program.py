#!/usr/bin/env python3
"""Takes the place of the mosquitto that the scripts of mosquitto start: `mosquitto -v -p PORT`.

mosquitto and our broker are started for each script. RabbitMQ takes too long for that: one runs, and what comes to PORT
is led to it.
"""

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path

LIKE_MOSQUITTO = {  # the limits that it tells an MQTT 5 client, which its scripts compare to the byte
    "AMQP_BROKER_MQTT_TOPIC_ALIASES_MAX": "10",
    "AMQP_BROKER_MQTT_UNANSWERED_MAX": "20",
    "AMQP_BROKER_MQTT_UNACKNOWLEDGED_MAX": "20",
    "AMQP_BROKER_MQTT_SESSION_EXPIRY_MAX_S": "4294967295",
    "AMQP_BROKER_MESSAGE_SIZE_BYTES_MAX": "268435455",
    "AMQP_BROKER_MANAGEMENT_PORT": "-1",
    "AMQP_BROKER_METRICS_PORT": "-1",
}


def main() -> None:
    port = sys.argv[sys.argv.index("-p") + 1]
    kind = os.environ["BROKER_UNDER_TEST"]
    if kind == "mosquitto":
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        os.execv(program, [program, "-v", "-p", port])
    if kind == "ours":
        folder = tempfile.mkdtemp(dir=Path(__file__).resolve().parent)  # of the suite's tree, which is thrown away
        python, root = os.environ["BROKER_PYTHON"], os.environ["BROKER_ROOT"]
        os.environ.update(LIKE_MOSQUITTO, PYTHONPATH=root)
        options = ["--port", "0", "--mqtt-port", port, "--data-dir", folder]
        os.execv(python, [python, "-m", "amqp_broker", "serve", *options])
    lead(int(port), int(os.environ["BROKER_UNDER_TEST_PORT"]))


def lead(port: int, to: int) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=100) as listener:
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", to))
            for source, target in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=copy, args=(source, target), daemon=True).start()


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


main()
