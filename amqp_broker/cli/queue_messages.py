"""``amqp-broker queues peek``, ``move``, ``copy``, ``delete-messages``, ``replay``: messages in a running broker."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG, ExitCode
from amqp_broker.cli.option_groups import with_groups
from amqp_broker.cli.tables import Column

Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")]


@dataclass(frozen=True)
class Filter:
    """The filter for the messages that are meant."""

    exchange: Annotated[str | None, typer.Option("--exchange", metavar="NAME", help="Published to this one.")] = None
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Published with this routing key.")] = None
    text: Annotated[str, typer.Option("--text", metavar="TEXT", help="With this in the body.")] = ""
    header: Annotated[list[str] | None, typer.Option("--header", metavar="PATH=VALUE", help="With this header.")] = None
    property_: Annotated[
        list[str] | None, typer.Option("--property", metavar="NAME=VALUE", help="With this property.")
    ] = None
    body: Annotated[
        list[str] | None, typer.Option("--body", metavar="PATH=VALUE", help="With this in a JSON body.")
    ] = None

    def asked(self) -> dict[str, Any]:
        """The filter as the broker takes it."""
        return {
            "exchange": self.exchange,
            "routing_key": self.key,
            "search": self.text,
            "headers": _pairs("--header", self.header),
            "properties": _pairs("--property", self.property_),
            "json": _pairs("--body", self.body),
        }


@dataclass(frozen=True)
class Extent:
    """The limits of a command."""

    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=0, help="At most so many.")] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do nothing; say what would be done, and show some.")] = (
        False
    )


@dataclass(frozen=True)
class ThroughExchange:
    """The exchange that messages are published to, in place of a queue."""

    to_exchange: Annotated[str | None, typer.Option("--to-exchange", metavar="NAME", help="Through this exchange.")] = (
        None
    )
    to_key: Annotated[
        str | None, typer.Option("--to-key", metavar="KEY", help="With this key there. Default: the message's own.")
    ] = None

    def or_queue(self, queue: str | None, *, or_origin: bool = False) -> dict[str, Any]:
        """Where to, as the broker takes it."""
        if (queue is not None) + (self.to_exchange is not None) + or_origin != 1:
            options.fail(ExitCode.WRONG_USE, "say where to: one of --to-queue, --to-exchange and (to move) --to-origin")
        if self.to_exchange is None and self.to_key is not None:
            options.fail(ExitCode.WRONG_USE, "--to-key goes with --to-exchange")
        if or_origin:
            return {"origin": True}
        if queue is not None:
            return {"to": {"queue": queue}}
        return {"to": {"exchange": self.to_exchange} | ({} if self.to_key is None else {"routing_key": self.to_key})}


@dataclass(frozen=True)
class Which:
    """The broker and the virtual host that are meant, and the form of the answer."""

    vhost: control.VirtualHostName = "/"
    as_json: control.Json = False
    data_dir: options.DataDir = None
    config: options.ConfigFile = None


ToQueue = Annotated[str | None, typer.Option("--to-queue", metavar="NAME", help="To this queue.")]
Ids = Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="This one, as peek shows it.")]

COLUMNS = (
    Column("at", "offset", is_number=True),
    Column("id", is_whole=True),
    "state",
    Column("key", "routing_key"),
    Column("size", is_number=True),
    Column("age", is_number=True),
    Column("body", "payload"),
)
BODY_BYTES_OF_A_ROW = 100
BODY_BYTES = 1_048_576
UNITS_S = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
STAYED = {
    "unroutable": "no queue wants them",
    "refused": "a queue that is full refuses them",
    "without_origin": "they never died, or the queue where they did is not there",
    "gone": "somebody else had them first",
}
DONE = {"move": "moved", "copy": "copied", "delete-messages": "deleted", "replay": "replayed"}
UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def add_to(application: typer.Typer) -> None:
    """Make these commands of a group."""
    for name, command in COMMANDS.items():
        application.command(name, epilog=EPILOG)(with_groups(command))


def peek(
    name: Name,
    *,
    state: Annotated[str, typer.Option("--state", metavar="STATE", help="ready, unacked or all.")] = "all",
    offset: Annotated[int, typer.Option("--offset", metavar="N", min=0, help="Pass so many by.")] = 0,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Of a stream: what came in the last 90s, 10m or 2h."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, max=500, help="Show at most so many.")] = 20,
    full: Annotated[bool, typer.Option("--full", help="Show each with properties and the whole body.")] = False,
    what: Filter,
    which: Which,
) -> None:
    """Look into a queue: nothing is taken out and nothing is marked; nobody can tell.

    What is unacknowledged comes first, then what is ready, in the order of delivery. In values * stands for anything; a
    path goes into tables and lists with dots. One look passes at most 100000 messages; it says how to go on. Of a
    stream, --offset is the stream's own.

    \b
    amqp-broker queues peek orders.dead
    amqp-broker queues peek orders.dead --header x-death.reason=expired --full
    amqp-broker queues peek orders --body order.customer=17 --json
    amqp-broker queues peek readings --since 10m
    """
    last_ms = _milliseconds(since)
    seen = control.ask(
        which.data_dir,
        which.config,
        "queues.peek",
        name=name,
        vhost=which.vhost,
        state=state,
        offset=offset,
        since_ms=None if last_ms is None else int(time.time() * 1000) - last_ms,
        limit=limit,
        looked_at_max=100_000,
        ms_max=10_000,
        truncate=BODY_BYTES if full or which.as_json else BODY_BYTES_OF_A_ROW,
        filter=what.asked(),
    )
    if which.as_json:
        print(json.dumps(seen, indent=2))
        return
    if full:
        for message in seen["messages"]:
            _show(message)
    else:
        tables.show([_row(message) for message in seen["messages"]], COLUMNS, False)
    _say_the_rest(seen)


def _say_the_rest(seen: dict[str, Any]) -> None:
    if seen["bodies_too_large"]:
        print(f"{control.counted(seen['bodies_too_large'], 'body')} too large to search", file=sys.stderr)
    if seen["next_offset"] is not None:
        print(f"there is more: go on with --offset {seen['next_offset']}", file=sys.stderr)


def _row(message: dict[str, Any]) -> dict[str, Any]:
    cut = message["payload"] if message["payload_encoding"] == "string" else f"base64 {message['payload']}"
    return {
        **message,
        "size": tables.size_text(message["payload_bytes"]),
        "age": _age(message["age_ms"]),
        "payload": cut,
    }


def _age(age_ms: int | None) -> str | None:
    if age_ms is None:
        return None
    for seconds, unit in UNITS_S:
        if age_ms >= seconds * 1000:
            return f"{age_ms // (seconds * 1000)} {unit}"
    return "0 s"


def _show(message: dict[str, Any]) -> None:
    """A message as a paragraph; its body last."""
    held_by = message["held_by"]
    lines = {
        "id": message["id"],
        "at": message["offset"],
        "state": message["state"] if held_by is None else f"unacked, {_holder(held_by)}",
        "exchange": message["exchange"] or "(default)",
        "key": message["routing_key"],
        "redelivered": message["redelivered"],
        "deliveries": message["delivery_count"],
        "age": _age(message["age_ms"]),
        "expires in": _age(message["expires_in_ms"]),
    }
    lines = {name: value for name, value in lines.items() if value not in (None, False, 0) or name == "at"}
    for name, value in [*lines.items(), *message["properties"].items()]:
        print(f"{name + ':':18}{_line(value)}")
    what = "body, cut" if message["is_payload_cut"] else "body"
    encoding = "" if message["payload_encoding"] == "string" else ", base64"
    print(f"{what} ({tables.size_text(message['payload_bytes'])}{encoding}):")
    print(_body(message["payload"]), end="\n\n")


def _holder(held_by: dict[str, Any]) -> str:
    tag = held_by["consumer_tag"]
    who = "got by a client" if tag is None else f"consumer {tag}"
    return f"{who} on {held_by['channel']} for {_age(held_by['for_ms'])}"


def _line(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def _body(text: str) -> str:
    """A body as it is, unless there is in it what a terminal obeys."""
    return text if all(line.expandtabs().isprintable() for line in text.split("\n")) else json.dumps(text)


# --- move, copy, delete


def move(
    name: Name,
    *,
    to_queue: ToQueue = None,
    through: ThroughExchange,
    to_origin: Annotated[bool, typer.Option("--to-origin", help="Back to where each died the last time.")] = False,
    what: Filter,
    ids: Ids = None,
    extent: Extent,
    which: Which,
) -> None:
    """Move messages that are ready: to a queue as they are, through an exchange, or back to where they died.

    Those that consumers have are left alone. A crash in the middle loses none.

    \b
    amqp-broker queues move orders.dead --to-origin --dry-run
    amqp-broker queues move orders.dead --to-origin --header tenant=acme
    amqp-broker queues move orders --to-queue parked --body order.customer=17
    amqp-broker queues move orders --to-exchange retry --to-key later --limit 100
    """
    where = through.or_queue(to_queue, or_origin=to_origin)
    _act(which, "move", name, where | _messages(what, extent, ids))


def copy(
    name: Name,
    *,
    to_queue: ToQueue = None,
    through: ThroughExchange,
    what: Filter,
    ids: Ids = None,
    extent: Extent,
    which: Which,
) -> None:
    """Copy messages that are ready to a queue, or through an exchange; they stay where they are as well.

    \b
    amqp-broker queues copy orders --to-queue audit --limit 100
    amqp-broker queues copy orders --to-exchange audit --to-key copy --text refund
    """
    _act(which, "copy", name, through.or_queue(to_queue) | _messages(what, extent, ids))


def delete_messages(
    name: Name,
    *,
    what: Filter,
    ids: Ids = None,
    extent: Extent,
    which: Which,
) -> None:
    """Delete messages that are ready: those of some ids, or that a filter finds. All of them: queues purge.

    \b
    amqp-broker queues delete-messages orders.dead --id 123456 --id 123457
    amqp-broker queues delete-messages orders.dead --header tenant=17 --dry-run
    """
    _act(which, "delete-messages", name, _messages(what, extent, ids))


def replay(
    name: Name,
    *,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Of the last 90s, 10m, 2h or 1d. Default: all.")
    ] = None,
    to_queue: Annotated[str | None, typer.Option("--to", "--to-queue", metavar="NAME", help="To this queue.")] = None,
    through: ThroughExchange,
    what: Filter,
    extent: Extent,
    which: Which,
) -> None:
    """Put what a queue got once more into another queue, consumed since or not, as far as its past has it.

    A queue has a past when it was declared with x-replay-ms, or by a policy with replay-ms.

    \b
    amqp-broker queues replay orders --since 10m --to orders.again --dry-run
    amqp-broker queues replay orders --since 2h --to again --body customer=17
    """
    where = through.or_queue(to_queue)
    _act(which, "replay", name, where | _messages(what, extent, None) | {"last_ms": _milliseconds(since)})


COMMANDS: dict[str, Callable[..., None]] = {
    "peek": peek,
    "move": move,
    "copy": copy,
    "delete-messages": delete_messages,
    "replay": replay,
}


def _milliseconds(time: str | None) -> int | None:
    """How long a time is, as in 90s."""
    if time is None:
        return None
    number = time.rstrip("msdh")
    unit = time[len(number) :]
    if not number.isascii() or not number.isdigit() or unit not in UNITS_MS:
        options.fail(ExitCode.WRONG_USE, f"--since takes a time as in 90s, 10m, 2h or 1d, not {time[:40]!r}")
    return int(number) * UNITS_MS[unit]


def _messages(what: Filter, extent: Extent, ids: list[str] | None) -> dict[str, Any]:
    return {
        "filter": what.asked(),
        "ids": ids or None,
        "limit": extent.limit,
        "dry_run": extent.dry_run,
    }


def _pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            options.fail(ExitCode.WRONG_USE, f"{option} takes a name and a value, as in name=value, not {text[:60]!r}")
        pairs[name] = value
    return pairs


def _act(which: Which, verb: str, name: str, asked: dict[str, Any]) -> None:
    command = f"queues.{verb}"
    done = control.ask_long(which.data_dir, which.config, command, _say_progress, name=name, vhost=which.vhost, **asked)
    if which.as_json:
        print(json.dumps(done, indent=2))
    else:
        _tell_what_was_done(name, which.vhost, verb, done)
    options.fail_for_missing(done["not_there"], "consumed meanwhile or held by a consumer, or no ids of this queue")


def _tell_what_was_done(name: str, vhost: str, verb: str, done: dict[str, Any]) -> None:
    would = "would be " if done["dry_run"] else ""
    print(f"{control.counted(done['done'], 'message')} of queue '{name}' in '{vhost}' {would}{DONE[verb]}")
    for reason, why in STAYED.items():
        if done[reason]:
            print(f"{control.counted(done[reason], 'message')} not: {why}")
    if done["bodies_too_large"]:
        print(f"{control.counted(done['bodies_too_large'], 'body')} too large to search")
    if done["dry_run"] and done["sample"]:
        tables.show([_row(message) for message in done["sample"]], COLUMNS, False)


def _say_progress(progress: dict[str, Any]) -> None:
    if sys.stderr.isatty():
        looked_at, all_of_them, done = (progress[name] for name in ("looked_at", "to_look_at", "done"))
        print(f"\r{looked_at} of {all_of_them} looked at, {done} done\x1b[K", end="\r", file=sys.stderr, flush=True)
