"""A TCP proxy in front of a broker that records what passes, and the script whose conversation it is.

Not here: what is done with the recording (comparison.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import trio

from amqp_broker.cli.recording.transcript import BROKER, CLIENT, ConnectionTranscript

_REDIRECT = Path(__file__).with_name("redirect.py")
_CHUNK_BYTES = 65536
_REST_TIMEOUT_S = 3.0
_KILL_AFTER_S = 3.0


@dataclass
class Recording:
    """The recording of what one script saw of one broker."""

    url: str
    connections: list[ConnectionTranscript] = field(default_factory=list)
    exit_code: int | None = None
    """None when the script did not end in time."""
    output: str = ""
    """What the script printed, standard output and standard error."""

    @property
    def address(self) -> str:
        """Host and port, without the password."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


async def is_reachable(url: str) -> bool:
    """Whether somebody listens there."""
    parts = urlsplit(url)
    try:
        stream = await trio.open_tcp_stream(parts.hostname or "localhost", parts.port or 5672)
    except OSError:
        return False
    await stream.aclose()
    return True


async def record(url: str, python: str, script: Path, arguments: Sequence[str], timeout_s: float) -> Recording:
    """Run the script once, on the broker at this address.

    Args:
        url: ``amqp://`` address of the broker.
        python: the interpreter the script runs in.
        script: the script's path.
        arguments: its command line.
        timeout_s: how long it may run; then it is interrupted, and what was recorded until then counts.
    """
    recording = Recording(url)
    broker = urlsplit(url)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listeners[0].socket.getsockname()[1]

    async def accept(client: trio.SocketStream) -> None:
        await _relay(client, broker, recording)

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as relays:
            nursery.start_soon(partial(trio.serve_listeners, accept, listeners, handler_nursery=relays))
            await _run(
                recording, _proxy_url(broker, port), [python, str(_REDIRECT), str(script), *arguments], timeout_s
            )
            relays.cancel_scope.deadline = trio.current_time() + _REST_TIMEOUT_S
        nursery.cancel_scope.cancel()
    return recording


def _proxy_url(broker: SplitResult, port: int) -> str:
    user, at, _ = broker.netloc.rpartition("@")
    return broker._replace(netloc=f"{user}{at}127.0.0.1:{port}").geturl()


async def _run(recording: Recording, url: str, command: list[str], timeout_s: float) -> None:
    """The script from its start to its end, or to the time-out."""
    environment = {**os.environ, "AMQP_URL": url, "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile() as output:
        with trio.move_on_after(timeout_s):
            done = await trio.run_process(
                command,
                env=environment,
                check=False,
                stdout=output,
                stderr=subprocess.STDOUT,
                deliver_cancel=_interrupt,
            )
            recording.exit_code = done.returncode
        output.seek(0)
        recording.output = output.read().decode(errors="replace")


async def _interrupt(process: trio.Process) -> None:
    """Ctrl-C, and an end by force when it is not obeyed."""
    process.send_signal(signal.SIGINT)
    await trio.sleep(_KILL_AFTER_S)
    process.kill()


async def _relay(client: trio.SocketStream, broker: SplitResult, recording: Recording) -> None:
    """One connection of the script, until both sides have closed."""
    transcript = ConnectionTranscript()
    recording.connections.append(transcript)
    async with client:
        try:
            upstream = await trio.open_tcp_stream(broker.hostname or "localhost", broker.port or 5672)
        except OSError:
            transcript.ended(BROKER)
            return
        async with upstream, trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, client, upstream, transcript, CLIENT)
            await _pass_on(upstream, client, transcript, BROKER)


async def _pass_on(
    source: trio.SocketStream, destination: trio.SocketStream, transcript: ConnectionTranscript, direction: str
) -> None:
    """Pass on all that comes, and the end of it."""
    try:
        while data := await source.receive_some(_CHUNK_BYTES):
            transcript.add(direction, data)
            await destination.send_all(data)
    except trio.BrokenResourceError:
        pass
    transcript.ended(direction)
    try:
        await destination.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
