"""Waits until a broker has done all that follows from what its clients have sent.

RabbitMQ is many processes that send one another messages, and no round trip of AMQP proves that the last of them has
arrived: a passive declare even overtakes messages on their way into the queue. So a small Erlang module is loaded into
the node, which answers when all its processes are idle. Our broker is one thread: a round trip on each connection is
all it takes.
"""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

from interop.brokers import BrokerProcess, RabbitMQ

_MODULE = Path(__file__).with_suffix(".erl")
_LOAD = """
{{ok, Module, Binary}} = compile:file("{path}", [binary]),
{{module, Module}} = code:load_binary(Module, "{path}", Binary),
Module:start().
"""
PATIENCE_S = 60.0
UNKNOWN_BROKER_PAUSE_S = 0.05


class Quiescence:
    """Asks one broker."""

    def __init__(self, process: BrokerProcess) -> None:
        """For RabbitMQ this loads the module, which takes a second."""
        self._pause_s = 0.0
        self._socket: socket.socket | None = None
        if isinstance(process, RabbitMQ):
            port = int(process.ctl("eval", _LOAD.format(path=process.copied(_MODULE).with_suffix(""))))
            self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        elif process.kind == "rabbitmq":
            self._pause_s = UNKNOWN_BROKER_PAUSE_S  # found running: nothing can be loaded into it

    def wait(self) -> None:
        """Returns when the broker is quiet. Raises TimeoutError when it does not become so."""
        if self._pause_s:
            time.sleep(self._pause_s)
        if self._socket is not None:
            self._socket.sendall(b"?")
            answer = self._socket.recv(65536)
            if answer != b"q":
                raise TimeoutError(f"RabbitMQ does not become quiet: {answer.decode(errors='replace')}")

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
