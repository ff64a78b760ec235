"""``amqp-broker delayed``: messages of a running broker that an exchange holds back until they are due."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options, tables
from amqp_broker.cli.exit_codes import EPILOG, ExitCode
from amqp_broker.cli.tables import Column

LIMIT = 50
SHOWN_CHARACTERS_MAX = 60

Exchange = Annotated[str, typer.Argument(metavar="EXCHANGE", help="The exchange that holds them.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=500, help="So many at most.")]
After = Annotated[str, typer.Option("--after", metavar="PLACE", help="Go on where the list before has ended.")]
Key = Annotated[str | None, typer.Option("--key", metavar="KEY", help="With this routing key; * stands for anything.")]
Text = Annotated[str, typer.Option("--text", metavar="TEXT", help="With this text in the body.")]
Headers = Annotated[
    list[str] | None, typer.Option("--header", metavar="PATH=VALUE", help="With this header; may be repeated.")
]
Properties = Annotated[
    list[str] | None, typer.Option("--property", metavar="NAME=VALUE", help="With this property, as message_id.")
]
JsonValues = Annotated[list[str] | None, typer.Option("--body", metavar="PATH=VALUE", help="With this in a JSON body.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which, as 'list' shows them.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do nothing, say how many there are.")]

COLUMNS = (
    Column("id", is_whole=True),
    Column("due", "due_text", is_whole=True),
    Column("key", "routing_key"),
    Column("bytes", "payload_bytes", is_number=True),
    Column("body", gives_way=True),
)

application = typer.Typer(
    help="Messages of a running broker that an exchange holds back until they are due.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("list", epilog=EPILOG)
def list_delayed(
    exchange: Exchange,
    vhost: control.VirtualHostName = "/",
    limit: Limit = LIMIT,
    after: After = "",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """List what an exchange holds, what is due next first. Nothing is changed by that.

    \b
    amqp-broker delayed list orders
    amqp-broker delayed list orders --limit 500 --json
    """
    seen = control.ask(data_dir, config, "delayed.look", exchange=exchange, vhost=vhost, limit=limit, after=after)
    _show(seen, as_json)


@application.command("search", epilog=EPILOG)
def search(
    exchange: Exchange,
    vhost: control.VirtualHostName = "/",
    key: Key = None,
    text: Text = "",
    header: Headers = None,
    property_value: Properties = None,
    json_value: JsonValues = None,
    limit: Limit = LIMIT,
    after: After = "",
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """List what an exchange holds and that has all of what is named.

    20,000 messages are looked at in one go; what is said then names the place to go on from.

    \b
    amqp-broker delayed search orders --key 'deadline.*' --header customer=17
    amqp-broker delayed search orders --body order.id=4711 --json
    """
    wanted = _wanted(key, text, header, property_value, json_value)
    seen = control.ask(
        data_dir, config, "delayed.look", exchange=exchange, vhost=vhost, limit=limit, after=after, filter=wanted
    )
    _show(seen, as_json)


@application.command("cancel", epilog=EPILOG)
def cancel(
    exchange: Exchange,
    ids: Ids = None,
    vhost: control.VirtualHostName = "/",
    key: Key = None,
    text: Text = "",
    header: Headers = None,
    property_value: Properties = None,
    json_value: JsonValues = None,
    dry_run: DryRun = False,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Cancel messages before they are due: nobody gets them.

    Those of these ids, or all that have what is named.

    \b
    amqp-broker delayed cancel orders 1041 1042
    amqp-broker delayed cancel orders --header customer=17 --dry-run
    """
    which = _which(ids, _wanted(key, text, header, property_value, json_value))
    asked = {"exchange": exchange, "vhost": vhost, "dry_run": dry_run, **which}
    info = control.ask_long(data_dir, config, "delayed.cancel", _say_progress, **asked)
    _tell(info, "cancelled", as_json)


@application.command("deliver", epilog=EPILOG)
def deliver(
    exchange: Exchange,
    ids: Ids = None,
    vhost: control.VirtualHostName = "/",
    key: Key = None,
    text: Text = "",
    header: Headers = None,
    property_value: Properties = None,
    json_value: JsonValues = None,
    dry_run: DryRun = False,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Deliver messages now, as if their time had come.

    Those of these ids, or all that have what is named.

    \b
    amqp-broker delayed deliver orders 1041
    amqp-broker delayed deliver orders --key 'deadline.*' --dry-run
    """
    which = _which(ids, _wanted(key, text, header, property_value, json_value))
    asked = {"exchange": exchange, "vhost": vhost, "dry_run": dry_run, **which}
    info = control.ask_long(data_dir, config, "delayed.deliver", _say_progress, **asked)
    _tell(info, "delivered", as_json)


def _which(ids: list[str] | None, wanted: dict[str, Any]) -> dict[str, Any]:
    """Ids, or a filter that says something; one of the two."""
    if bool(ids) is bool(wanted):
        options.fail(ExitCode.WRONG_USE, "say which messages, by their ids or by what they have, one of the two")
    return {"ids": ids} if ids else {"filter": wanted}


def _say_progress(progress: dict[str, Any]) -> None:
    if sys.stderr.isatty():
        looked_at, held, done = (progress[name] for name in ("looked_at", "held", "done"))
        print(f"\r{looked_at} of {held} looked at, {done} done\x1b[K", end="\r", file=sys.stderr, flush=True)


def _tell(info: dict[str, Any], done: str, as_json: bool) -> None:
    words = f"would be {done}" if info["dry_run"] else done
    said = f"{control.counted(info['done'], 'message')} of exchange '{info['exchange']}' in '{info['vhost']}' {words}"
    control.tell(said, info, as_json)
    options.fail_for_missing(info["not_there"], "already delivered or cancelled, or no ids of this exchange")


def _wanted(
    key: str | None,
    text: str,
    header: list[str] | None,
    property_value: list[str] | None,
    json_value: list[str] | None,
) -> dict[str, Any]:
    """What messages must have, without what is not said."""
    wanted: dict[str, Any] = {
        "search": text,
        "headers": _pairs("--header", header),
        "properties": _pairs("--property", property_value),
        "json": _pairs("--body", json_value),
    }
    return {name: value for name, value in wanted.items() if value} | ({} if key is None else {"routing_key": key})


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not equals or not name:
            options.fail(ExitCode.WRONG_USE, f"{option} takes NAME=VALUE, not {one!r}")
        pairs[name] = value
    return pairs


def _show(seen: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(seen))
        return
    rows = [{**row, "due_text": _time(row["due"]), "body": _body(row)} for row in seen["messages"]]
    tables.show(rows, COLUMNS, as_json=False)
    if seen["next"] is not None:
        typer.echo(f"there may be more: go on with --after {seen['next']}", err=True)


def _time(due_ms: int) -> str:
    try:
        return datetime.fromtimestamp(due_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):  # after the year 9999
        return f"in {due_ms // (365 * 24 * 3_600_000) + 1970}"


def _body(row: dict[str, Any]) -> str:
    payload = str(row["payload"])
    return payload if len(payload) <= SHOWN_CHARACTERS_MAX else payload[:SHOWN_CHARACTERS_MAX] + "…"
