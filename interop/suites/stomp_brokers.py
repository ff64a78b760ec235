"""The brokers that suites of STOMP clients ask: RabbitMQ with its plugins, and ours. Not here: what is asked.

`BrokerAsked.more` has `amqp_port`, `management_port`, `web_socket_url`, `ctl` (a program that is rabbitmqctl for this
broker), `node` and `python`.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from interop.brokers import INSTALLATIONS, Address, OurBroker, RabbitMQ, free_ports
from interop.suites.running import BrokerAsked
from interop.suites.suite import HERE

KINDS = {"rabbitmq": "3.10", "rabbitmq-4": "4.0"}
PLUGINS = ["rabbitmq_stomp", "rabbitmq_web_stomp", "rabbitmq_management"]
CONFIG = """\
stomp.listeners.tcp.1 = 127.0.0.1:{stomp}
web_stomp.tcp.ip = 127.0.0.1
web_stomp.tcp.port = {web}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
"""
LARGE_FRAMES = "[{rabbitmq_stomp, [{max_frame_size, 17825792}]}]."  # as RabbitMQ's own suite sets it
VIRTUAL_HOST = "127.0.0.1"  # stomp.py names the broker's address as its virtual host


def kinds_of_stomp() -> list[str]:
    """The brokers that there are on this machine."""
    return [*(kind for kind, series in KINDS.items() if INSTALLATIONS[series]() is not None), "ours"]


@contextmanager
def stomp_broker(kind: str) -> Iterator[BrokerAsked]:
    """A broker that is started for this, and where it speaks STOMP."""
    stomp, web, management = free_ports(3)
    started: RabbitMQ | OurBroker
    if kind == "ours":
        ports = {"STOMP": stomp, "WEB_SOCKET": web, "MANAGEMENT": management}
        started = OurBroker(environment={f"AMQP_BROKER_{name}_PORT": str(port) for name, port in ports.items()})
    else:
        config = CONFIG.format(stomp=stomp, web=web, management=management)
        started = RabbitMQ(INSTALLATIONS[KINDS[kind]](), config=config, advanced=LARGE_FRAMES, plugins=PLUGINS)
    try:
        prefix = ["ctl"] if isinstance(started, OurBroker) else []
        started.ctl(*prefix, "add_vhost", VIRTUAL_HOST)
        started.ctl(*prefix, "set_permissions", "-p", VIRTUAL_HOST, "guest", ".*", ".*", ".*")
        more = {
            "amqp_port": str(started.address.port),
            "management_port": str(management),
            "web_socket_url": f"ws://127.0.0.1:{web}/ws",
            "web_socket_port": str(web),
            "ctl": _ctl_program(started),
            "node": "amqp-broker@localhost" if isinstance(started, OurBroker) else started.node,
            "python": sys.executable,
        }
        yield BrokerAsked(kind, Address("127.0.0.1", stomp), more)
    finally:
        started.stop()


def _ctl_program(broker: RabbitMQ | OurBroker) -> str:
    """A program that does with this broker what rabbitmqctl does with RabbitMQ."""
    if isinstance(broker, RabbitMQ):
        return str(broker.ctl_program())
    program = broker.data_folder.parent / "rabbitmqctl"
    stand_in = [sys.executable, str(HERE / "stand_ins" / "rabbitmqctl_of_ours.py"), str(broker.data_folder)]
    program.write_text(f'#!/bin/sh\nexec env PYTHONPATH={shlex.quote(_root())} {shlex.join(stand_in)} "$@"\n')
    program.chmod(0o755)
    return str(program)


def _root() -> str:
    return os.environ.get("PYTHONPATH") or str(HERE.parent.parent)
