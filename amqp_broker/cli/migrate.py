"""``amqp-broker migrate``: all that one broker has is brought to another, be they RabbitMQ or this one.

How messages are carried is in ``client/carrying.py``; what is defined goes over the HTTP API of both.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from amqp_broker.cli import control, options
from amqp_broker.cli.exit_codes import EPILOG, ExitCode

if TYPE_CHECKING:
    from amqp_broker.client.uri import AmqpUri

API_PORT = 15672
API_TIMEOUT_S = 60.0
SHOWN_EVERY_S = 0.25
CONNECTION_NAME = "amqp-broker migrate"

Old = Annotated[str, typer.Argument(metavar="OLD", help="The broker to leave: amqp://user:password@host/vhost.")]
New = Annotated[str, typer.Argument(metavar="NEW", help="The broker to go to.")]
OldApi = Annotated[
    str | None, typer.Option("--old-api", metavar="URL", help="HTTP API of OLD. Default: port 15672 of its host.")
]
NewApi = Annotated[str | None, typer.Option("--new-api", metavar="URL", help="The same of NEW.")]
Queues = Annotated[
    list[str] | None, typer.Option("--queue", metavar="NAME", help="Only this queue's messages; may be repeated.")
]
NoDefinitions = Annotated[
    bool, typer.Option("--no-definitions", help="Messages only; asks no HTTP API when queues are named with --queue.")
]
NoMessages = Annotated[bool, typer.Option("--no-messages", help="Definitions only.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be brought over.")]

application = typer.Typer(add_completion=False, rich_markup_mode=None)


@application.command(epilog=EPILOG)
def migrate(
    old: Old,
    new: New,
    old_api: OldApi = None,
    new_api: NewApi = None,
    queue: Queues = None,
    no_definitions: NoDefinitions = False,
    no_messages: NoMessages = False,
    dry_run: DryRun = False,
) -> None:
    """Bring definitions and messages of a virtual host from one broker to another, in order, losing none.

    \b
    amqp-broker migrate amqp://me:secret@rabbitmq/orders amqp://localhost/orders
    amqp-broker migrate amqp://rabbitmq amqp://localhost --dry-run

    A message leaves the old broker when the new one has confirmed it. Ctrl-C ends it at any time; the same command
    again goes on where it was. Stop the publishers first, or run it once more when they have moved: what has come
    meanwhile is brought over then.
    """
    source, target = _address(old), _address(new)
    if old_api is None and new_api is None and not no_definitions:
        _tell_apart(source, target)
    definitions: dict[str, Any] = {"queues": []}
    if not (no_definitions and queue):
        definitions = _definitions(source, old_api or _api_of(source))
    if not no_definitions:
        if not dry_run:
            _import(target, new_api or _api_of(target), definitions)
        print(f"{'would define' if dry_run else 'defined'}: {_counted(definitions)}")
    names = queue or sorted(one["name"] for one in definitions["queues"] if not _is_stream(one))
    for one in definitions["queues"]:
        if _is_stream(one) and not queue:
            print(f"not brought over: the messages of stream '{one['name']}'")
    if not no_messages:
        _bring_messages(source, target, names, dry_run)


def _address(text: str) -> AmqpUri:
    from amqp_broker.client.uri import BadUri, parse_uri

    try:
        uri = parse_uri(text)
    except BadUri as error:
        options.fail(ExitCode.WRONG_USE, str(error))
    return uri if uri.host else replace(uri, host="localhost")


def _is_stream(queue: dict[str, Any]) -> bool:
    return bool(queue.get("arguments", {}).get("x-queue-type") == "stream")


def _counted(definitions: dict[str, Any]) -> str:
    nouns = (("queues", "queue"), ("exchanges", "exchange"), ("bindings", "binding"), ("policies", "policy"))
    counts = ((len(definitions.get(section, ())), noun) for section, noun in nouns)
    return ", ".join(
        f"{count} policies" if noun == "policy" and count != 1 else control.counted(count, noun)
        for count, noun in counts
    )


# --- definitions, over HTTP


def _api_of(uri: AmqpUri) -> str:
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    return f"http://{host}:{API_PORT}"


def _tell_apart(source: AmqpUri, target: AmqpUri) -> None:
    """End the command when two brokers would be asked at one address: one of them would be read, and written to."""
    api = _api_of(source)
    if api == _api_of(target) and source.port != target.port:
        way_out = "name one's HTTP API with --old-api or --new-api"
        options.fail(ExitCode.WRONG_USE, f"both brokers would be asked for their definitions at {api}: {way_out}")


def _definitions(uri: AmqpUri, api: str) -> dict[str, Any]:
    definitions: dict[str, Any] = json.loads(_ask(uri, f"{api}/api/definitions/{_quoted_host(uri)}"))
    return definitions


def _import(uri: AmqpUri, api: str, definitions: dict[str, Any]) -> None:
    _ask(uri, f"{api}/api/definitions/{_quoted_host(uri)}", json.dumps(definitions).encode())


def _quoted_host(uri: AmqpUri) -> str:
    return quote("/" if uri.virtual_host is None else uri.virtual_host, safe="")


def _ask(uri: AmqpUri, url: str, body: bytes | None = None) -> bytes:
    from base64 import b64encode
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    from amqp_broker.explanations import system_reason

    user, password = ("guest", "guest") if uri.user is None else (uri.user, uri.password)
    request = Request(url, body, {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"})
    if body is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urlopen(request, timeout=API_TIMEOUT_S) as answer:
            return bytes(answer.read())
    except HTTPError as error:
        with error:
            reason = _reason_in(error.read()) or str(error.reason)
        options.fail(ExitCode.REFUSED, f"{url}: {error.code} {reason}")
    except (URLError, OSError, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        reason = system_reason(cause) if isinstance(cause, OSError) else "it is no address of an HTTP API"
        way_out = "name it with --old-api or --new-api, or leave definitions out with --no-definitions and --queue"
        options.fail(ExitCode.NOT_RUNNING, f"no HTTP API at {url}: {reason}: {way_out}")


def _reason_in(body: bytes) -> str:
    try:
        return str(json.loads(body)["reason"])
    except (ValueError, KeyError, TypeError):
        return ""


# --- messages, over AMQP


def _bring_messages(source: AmqpUri, target: AmqpUri, names: list[str], dry_run: bool) -> None:
    import trio

    from amqp_broker.client.failures import BrokerUnreachable

    left = 0
    try:
        if dry_run:
            for name in names:
                print(f"would bring over: {control.counted(trio.run(_ready, source, name), 'message')} of '{name}'")
            return
        for number, name in enumerate(names, 1):
            left += trio.run(_bring_queue, source, target, name, f"queue {number} of {len(names)}")
    except BrokerUnreachable as error:
        options.fail(ExitCode.NOT_RUNNING, f"{error}: what has not arrived is where it was; the same command goes on")
    except KeyboardInterrupt:
        options.fail_for_interrupt("what has not arrived is where it was; the same command goes on")
    if left:
        options.fail(
            ExitCode.REFUSED,
            f"{control.counted(left, 'message')} came meanwhile and are still at the old broker: run this again",
        )


async def _ready(uri: AmqpUri, name: str) -> int:
    from amqp_broker.client.connection import connected
    from amqp_broker.wire.methods import Queue

    async with connected(uri, name=CONNECTION_NAME) as client:
        declared = await client.call(Queue.Declare, queue=name, passive=True)
    assert isinstance(declared, Queue.DeclareOk)
    return int(declared.message_count or 0)


async def _bring_queue(source: AmqpUri, target: AmqpUri, name: str, heading: str) -> int:
    """Bring over what a queue has now; returns how much came meanwhile."""
    from amqp_broker.client.carrying import Carrying, Destination, Source
    from amqp_broker.client.connection import connected

    count = await _ready(source, name)
    progress = _Progress(heading, name, count)
    if count:
        async with (
            connected(source, name=CONNECTION_NAME) as old,
            connected(target, name=CONNECTION_NAME) as new,
        ):
            await Carrying(old, new, Source(name), Destination(name), limit=count, progress=progress.show).run()
    progress.end()
    return await _ready(source, name) if count else 0


class _Progress:
    """The progress of one queue: a line that changes on a terminal, and one at the end.

    Args:
        heading: which of how many queues it is.
        queue: its name.
        count: how many messages it had at the beginning.
    """

    def __init__(self, heading: str, queue: str, count: int) -> None:
        self._heading = heading
        self._queue = queue
        self._count = count
        self._began_s = time.monotonic()
        self._shown_s = 0.0

    def show(self, arrived: int) -> None:
        """So many have arrived."""
        now_s = time.monotonic()
        if not sys.stderr.isatty() or now_s - self._shown_s < SHOWN_EVERY_S:
            return
        self._shown_s = now_s
        rate = arrived / max(now_s - self._began_s, 0.001)
        left_s = (self._count - arrived) / max(rate, 0.001)
        line = f"{self._heading}, '{self._queue}': {arrived} of {self._count}, {rate:.0f}/s, {left_s:.0f} s left"
        sys.stderr.write(f"\r{line[:78]:<78}")
        sys.stderr.flush()

    def end(self) -> None:
        """All have arrived."""
        if sys.stderr.isatty():
            sys.stderr.write("\r" + " " * 78 + "\r")
        seconds = time.monotonic() - self._began_s
        print(f"brought over: {control.counted(self._count, 'message')} of '{self._queue}' in {seconds:.1f} s")
