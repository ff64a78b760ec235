"""A whole server with its HTTP API, and a client that speaks HTTP to it, in a loop whose clock jumps ahead."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import trio

import amqp_broker.management.http.service  # noqa: F401 - while it loads, the clock of a test would jump
from amqp_broker.management.management import Management
from amqp_broker.server.broker_server import BrokerServer
from amqp_broker.settings import Settings
from tests.support.served import QUIET, Served, TrioClock

GUEST = "guest:guest"


@dataclass
class Reply:
    """What was answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as what it means."""
        return json.loads(self.body)


class HttpClient:
    """One connection to the HTTP API."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.CLIENT)

    async def ask(
        self, method: str, path: str, body: object = None, *, user: str | None = GUEST, **headers: str
    ) -> Reply:
        """Send a request and read its answer; a body that is no text is sent as JSON."""
        sent = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if user is not None:
            sent["authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        content = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        sent["content-length"] = str(len(content))
        request = h11.Request(method=method, target=path, headers=list(sent.items()))
        data = self._h11.send(request) or b""
        if content:
            data += self._h11.send(h11.Data(data=content)) or b""
        self._h11.send(h11.EndOfMessage())
        await self.stream.send_all(data)
        return await self._read()

    async def _read(self) -> Reply:
        reply = Reply(0, {}, b"")
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(bytes(await self.stream.receive_some(65_536)))
            elif isinstance(event, h11.Response):
                reply.status = event.status_code
                reply.headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                reply.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
        if reply.headers.get("content-encoding") == "gzip":
            reply.body = gzip.decompress(reply.body)
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        return reply


class Managed(Served):
    """A server, its management, and who is connected to it."""

    def __init__(self, server: BrokerServer, management: Management, ports: list[int]) -> None:
        super().__init__(server, ports)
        self.management = management

    async def administrator(self) -> HttpClient:
        """A new connection to the HTTP API."""
        return HttpClient(await self.connect_http())

    async def connect_http(self) -> trio.abc.Stream:
        """A new connection to the port of the HTTP API."""
        return await self.connect(port=self.server.http_endpoints[0].port)


@asynccontextmanager
async def managing(control_folder: Path | None = None, **settings: Any) -> AsyncIterator[Managed]:
    """A server with an HTTP API.

    Args:
        control_folder: a data folder without a journal, for what else is in it.
        settings: by name, where they differ from the defaults.
    """
    ports: dict[str, Any] = dict.fromkeys(("management_port", "management_tls_port", "metrics_port"), 0)
    http = {"management_host": ("127.0.0.1",), **ports}
    server = BrokerServer(Settings(**(QUIET | http | settings)), TrioClock())
    server.control_folder = control_folder
    management = Management(server)
    server.speak_http(management.serve)
    async with trio.open_nursery() as nursery:
        endpoints = await nursery.start(server.run)
        yield Managed(server, management, [endpoint.port for endpoint in endpoints])
        nursery.cancel_scope.cancel()
