"""Web sockets: their handshake, and the bytes in their messages as a byte stream (RFC 6455).

The library ``websockets`` does the protocol, without I/O. What is spoken is told by the sub-protocol, and where a
client names none, by its first bytes. Messages are no units here: what is in them is put together, as what comes by TCP
is, so a frame may be cut anywhere. Imported when a listener for them is opened.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Event, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from amqp_broker.explanations import wrong_client
from amqp_broker.network.listeners import AMQP, MQTT, STOMP
from amqp_broker.network.web_socket_error import NoWebSocket

PATHS: Final = ("/ws", "/")
SUBPROTOCOLS: Final = {
    "mqtt": MQTT,
    "mqttv3.1": MQTT,
    "v10.stomp": STOMP,
    "v11.stomp": STOMP,
    "v12.stomp": STOMP,
    "amqp": AMQP,
}
READ_BYTES: Final = 65_536
FIRST_BYTES_MAX: Final = 131_072  # of the request, and of all that comes until the client is let in
MESSAGE_BYTES_MAX: Final = 134_217_728 + 131_072  # the largest message of AMQP, and what stands around it
MQTT_CONNECT: Final = 0x10  # the first byte that an MQTT client sends
CLOSE_TIMEOUT_S: Final = 3.0  # that a client has to answer a close
OFFERED_CHARACTERS_MAX: Final = 100  # of a client's sub-protocols in a log
UNACCEPTABLE: Final = 1003  # a close code: text where bytes are spoken
NO_TEXT: Final = 1007  # another: text that is no UTF-8


class WebSocketStream(trio.abc.HalfCloseableStream):
    """The server's end.

    Args:
        transport: what the web socket is spoken over.
    """

    def __init__(self, transport: trio.abc.Stream) -> None:
        self._transport = transport
        self._protocol = ServerProtocol(select_subprotocol=_select, max_size=MESSAGE_BYTES_MAX)
        self._received: deque[memoryview] = deque()
        self._first_bytes = 0  # that have come before the first message was whole, or the client let in
        self._has_first = False
        self.is_let_in: Callable[[], bool] = lambda: True  # as far as whoever has the conversation says so
        self._takes_text = False  # in these messages text may be spoken
        self._speaks_text = False  # the client does
        self._text = codecs.getincrementaldecoder("utf-8")()  # a character may be cut over fragments
        self._is_over = False  # nothing more comes
        self._sending = trio.Lock()

    # --- the handshake

    async def do_handshake(self) -> str:
        """Answer the client's request; returns the name of the protocol that it speaks, as listeners have it.

        Raises:
            NoWebSocket: it wants none, or none that there is.
            BrokenResourceError: the connection is gone.
        """
        request = await self._request()
        protocol = self._protocol
        if request.path.partition("?")[0] in PATHS:
            response = protocol.accept(request)
        else:
            response = protocol.reject(404, "Web sockets are at /ws.\n")
        protocol.send_response(response)
        await self._flush()
        if protocol.state is not State.OPEN:
            raise NoWebSocket(f"the client's web socket was refused: {response.status_code} {response.reason_phrase}")
        spoken = SUBPROTOCOLS.get(str(protocol.subprotocol)) or await self._guess(request)
        self._takes_text = spoken == STOMP
        if self._speaks_text and not self._takes_text:
            await self._refuse_text()
        return spoken

    async def _request(self) -> Request:
        while True:
            data = await self._feed()
            is_first = self._first_bytes == len(data)
            if is_first and not data.startswith(b"GET") and (who := wrong_client(bytes(data), "web sockets")):
                raise NoWebSocket(who)
            for event in self._protocol.events_received():
                if isinstance(event, Request):
                    return event
            error = self._protocol.handshake_exc
            if error is not None or self._is_over:
                raise NoWebSocket("the client began no web socket")

    async def _guess(self, request: Request) -> str:
        """What a client speaks that has named nothing, by its first message."""
        self._takes_text = True
        while not self._received:
            if self._is_over:
                offered = ", ".join(request.headers.get_all("Sec-WebSocket-Protocol"))[:OFFERED_CHARACTERS_MAX]
                why = f": none of the sub-protocols that it offered is spoken here: {offered}" if offered else ""
                raise NoWebSocket(f"the client closed its web socket without a message{why}")
            await self._feed()
            self._take_events()
            await self._flush()
        first = self._received[0]
        if bytes(first[:4]) == b"AMQP":
            return AMQP
        return MQTT if first[0] == MQTT_CONNECT else STOMP

    # --- in

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has come in messages, waiting for it; ``b""`` when nothing more will.

        Raises:
            BrokenResourceError, ClosedResourceError: the connection is gone.
        """
        while not self._received:
            if self._is_over:
                await self._let_it_close()
                return b""
            await self._feed()
            self._take_events()
            await self._flush()
        first = self._received.popleft()
        if max_bytes is not None and len(first) > max_bytes:
            self._received.appendleft(first[max_bytes:])
            first = first[:max_bytes]
        return bytes(first)

    async def _feed(self) -> bytes | bytearray:
        """Read, and hand it to the library; returns what was read."""
        data = await self._transport.receive_some(READ_BYTES)
        if not data:
            self._protocol.receive_eof()
            self._is_over = True
            return b""
        if not (self._has_first and self.is_let_in()):
            self._first_bytes += len(data)
            if self._first_bytes > FIRST_BYTES_MAX:
                what = "nobody was let in after" if self._has_first else "no whole message in"
                raise trio.BrokenResourceError(f"{what} the first {FIRST_BYTES_MAX} bytes")
        self._protocol.receive_data(data)
        return data

    def _take_events(self) -> None:
        for event in self._protocol.events_received():
            self._take(event)
        if self._protocol.state is not State.OPEN:
            self._is_over = True

    def _take(self, event: Event) -> None:
        if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return  # pings are answered and closes are returned by the library
        self._has_first |= event.fin
        if event.opcode is not Opcode.CONT:
            self._speaks_text = event.opcode is Opcode.TEXT
            if self._speaks_text and not self._takes_text:
                self._close(UNACCEPTABLE, "binary messages only")
                return
        if self._speaks_text and not self._is_still_text(event):
            self._close(NO_TEXT, "text has to be UTF-8")
            return
        if event.data:
            self._received.append(memoryview(event.data))

    async def _let_it_close(self) -> None:
        """Give a client that was refused time to read why: closed with bytes unread, the socket would be reset."""
        await trio.lowlevel.checkpoint()
        protocol = self._protocol
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            while protocol.close_sent is not None and protocol.close_rcvd is None:
                data = await self._transport.receive_some(READ_BYTES)
                if not data:
                    break
                protocol.receive_data(data)
                protocol.events_received()  # nobody wants them any more

    def _is_still_text(self, frame: Frame) -> bool:
        """Whether text is some up to here (RFC 6455, 8.1)."""
        try:
            self._text.decode(frame.data, frame.fin)
        except UnicodeDecodeError:
            return False
        return True

    def _close(self, code: int, reason: str) -> None:
        if self._protocol.state is State.OPEN:  # the client may have closed it itself, right behind the text
            self._protocol.send_close(code, reason)

    async def _refuse_text(self) -> None:
        self._close(UNACCEPTABLE, "binary messages only")
        await self._flush()
        await self._let_it_close()
        raise NoWebSocket("the client sent text where bytes are spoken")

    # --- out

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes as one message: text to a client that speaks text and where it is some.

        Raises:
            BrokenResourceError: the connection is gone.
            ClosedResourceError: this end was closed.
        """
        if self._protocol.state is not State.OPEN:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("the web socket is closed")
        said = bytes(data)
        if self._speaks_text and _is_text(said):
            self._protocol.send_text(said)
        else:
            self._protocol.send_binary(said)
        await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        """Return: whoever sends finds out."""
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """Say that this is all: close the web socket; the client's answer is the end of what comes."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
        await self._flush()

    async def _flush(self) -> None:
        """Send what the library has to say. Frames are whole, so others may come between them."""
        parts = [part for part in self._protocol.data_to_send() if part]
        if parts:
            async with self._sending:
                await self._transport.send_all(b"".join(parts))

    async def aclose(self) -> None:
        """Close the connection."""
        vars(self._protocol).clear()  # it holds on to itself: of a crowd that has left, a collection would take long
        await self._transport.aclose()


def _select(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The first of the offered sub-protocols that is spoken here; none where there is none, as with RabbitMQ."""
    return next((one for one in offered if one in SUBPROTOCOLS), None)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
