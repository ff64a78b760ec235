"""One request over HTTP/1.1 and its answer, for back ends: on a connection of its own, with TLS where the URL says so.

Holds no time limit: who calls it has one. Follows no redirection: a back end is where its URL says.
"""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from amqp_broker.server.logins.backend import BackendFailed

BODY_BYTES_MAX: Final = 1024 * 1024
CHUNK_BYTES: Final = 65_536


def check_url(url: str, setting: str) -> str:
    """What is wrong with a URL that a setting gives; empty if nothing is."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https") and parts.hostname:
        return ""
    return f"{setting} takes a URL that begins with http:// or https://, not {url!r}"


async def fetch(url: str, method: str = "GET", form: str = "") -> tuple[int, bytes]:
    """Ask, and return the answer's status and body.

    Args:
        form: what is sent as the body of a POST, encoded as forms are.

    Raises:
        BackendFailed: it cannot be reached, or what it answers is no HTTP, or too much.
    """
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    where = f"{parts.scheme}://{host}:{port}{parts.path}"  # without the query, which holds a password
    try:
        stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
        if is_tls:
            stream = trio.SSLStream(stream, ssl.create_default_context(), server_hostname=host, https_compatible=True)
        try:
            return await _talk(
                stream, parts.netloc.rpartition("@")[2], f"{parts.path or '/'}?{parts.query}", method, form
            )
        finally:
            await trio.aclose_forcefully(stream)
    except (OSError, trio.BrokenResourceError, ssl.SSLError) as error:
        raise BackendFailed(f"{where} cannot be reached: {error.__cause__ or error}") from error
    except h11.RemoteProtocolError as error:
        raise BackendFailed(f"{where} does not answer in HTTP: {error}") from error


async def _talk(stream: trio.abc.Stream, host: str, target: str, method: str, form: str) -> tuple[int, bytes]:
    connection = h11.Connection(h11.CLIENT)
    headers = [("host", host), ("connection", "close"), ("accept", "*/*")]
    content = form.encode()
    if method == "POST":
        headers += [("content-type", "application/x-www-form-urlencoded"), ("content-length", str(len(content)))]
    data = connection.send(h11.Request(method=method, target=target.removesuffix("?"), headers=headers)) or b""
    if content:
        data += connection.send(h11.Data(data=content)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    await stream.send_all(data)
    status, body = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(CHUNK_BYTES)))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > BODY_BYTES_MAX:
                raise BackendFailed(f"the answer has more than {BODY_BYTES_MAX} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return status, bytes(body)
        elif isinstance(event, h11.ConnectionClosed):
            raise BackendFailed("the connection ended before the answer did")
