"""The broker as one test sees it. Not here: how it is started (brokers.py), the fixtures (conftest.py)."""

from __future__ import annotations

import zlib
from typing import Any

from interop.brokers import OURS, BrokerProcess
from interop.differences import DIFFERENCES
from interop.raw_client import ChannelUnderTest, Client, Exchange, Queue


class BrokerUnderTest:
    """One broker for one test: connections that are closed and names that are deleted when the test is over."""

    def __init__(self, process: BrokerProcess, test: str, reply_timeout_s: float) -> None:
        self.process = process
        self.kind = process.kind
        self.choice = process.choice
        self.version = tuple(map(int, process.choice.series.split(".")))
        self.address = process.address
        self.url = process.address.url
        self.test = test
        self.relied_on: list[str] = []
        self.clients: list[Client] = []
        self._reply_timeout_s = reply_timeout_s
        self._queues: list[str] = []
        self._exchanges: list[str] = []

    def socket(self) -> Client:
        """A connected socket on which nothing has been said yet."""
        client = Client(self.address.host, self.address.port, timeout_s=self._reply_timeout_s)
        self.clients.append(client)
        return client

    def connect(
        self,
        *,
        channel_max: int | None = None,
        frame_max: int | None = None,
        heartbeat: int = 0,
        vhost: str | None = None,
        **start_ok: Any,
    ) -> Client:
        """An open connection. `start_ok` is for Client.send_start_ok: user, password, mechanism, capabilities, ..."""
        client = self.socket()
        client.begin()
        client.send_start_ok(**{"user": self.address.user, "password": self.address.password} | start_ok)
        client.expect_tune()
        client.send_tune_ok(channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat)
        client.open(self.address.vhost if vhost is None else vhost)
        return client

    def channel(self, **options: Any) -> ChannelUnderTest:
        """Channel 1 of a new connection."""
        return self.connect(**options).channel()

    def queue_name(self, base: str = "q") -> str:
        """A queue name of this test's own, the same on both brokers; deleted afterwards if there is such a queue."""
        return self._name(base, self._queues)

    def exchange_name(self, base: str = "x") -> str:
        """An exchange name of this test's own; deleted afterwards if there is such an exchange."""
        return self._name(base, self._exchanges)

    def _name(self, base: str, names: list[str]) -> str:
        name = f"{base}-{zlib.crc32(self.test.encode()):08x}"
        if name not in names:
            names.append(name)
        return name

    def differs(self, topic: str) -> bool:
        """Whether our way is to be expected here: on our broker, and on a RabbitMQ that the entry does not name."""
        if topic not in DIFFERENCES:
            raise KeyError(f"{topic!r} is not in interop/differences.py")
        self.relied_on.append(topic)
        return self.kind == OURS or self.choice.series not in DIFFERENCES[topic].series

    def clean_up(self) -> None:
        """Closes the connections and deletes what has this test's names. Never fails."""
        for client in self.clients:
            client.close()
        if not self._queues and not self._exchanges:
            return
        try:
            janitor = self.connect()
            channel = janitor.channel()
            for name in self._queues:
                channel.call(Queue.Delete, queue=name)
            for name in self._exchanges:
                channel.call(Exchange.Delete, exchange=name)
            janitor.close()
        except (AssertionError, OSError):
            pass
