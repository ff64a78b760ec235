"""``amqp-broker delayed``: messages of a running broker that an exchange holds back until they are due."""

from __future__ import annotations

import json
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
JsonValues = Annotated[
    list[str] | None, typer.Option("--json-value", metavar="PATH=VALUE", help="With this in a body that is JSON.")
]

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
    amqp-broker delayed search orders --json-value order.id=4711 --json
    """
    wanted = _wanted(key, text, header, property_value, json_value)
    seen = control.ask(
        data_dir, config, "delayed.look", exchange=exchange, vhost=vhost, limit=limit, after=after, **wanted
    )
    _show(seen, as_json)


@application.command("cancel", epilog=EPILOG)
def cancel(
    exchange: Exchange,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which, as 'list' shows them.")] = None,
    vhost: control.VirtualHostName = "/",
    key: Key = None,
    text: Text = "",
    header: Headers = None,
    property_value: Properties = None,
    json_value: JsonValues = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Cancel messages before they are due: nobody gets them. Those of these ids, or all that have what is named.

    \b
    amqp-broker delayed cancel orders 1041 1042
    amqp-broker delayed cancel orders --header customer=17
    """
    wanted = _wanted(key, text, header, property_value, json_value)
    cancelled: list[str] = []
    after: str | None = ""
    while after is not None:
        result = control.ask(
            data_dir, config, "delayed.cancel", exchange=exchange, vhost=vhost, ids=ids or [], after=after, **wanted
        )
        cancelled += result["cancelled"]
        after = result["next"]
    said = f"{control.counted(len(cancelled), 'message')} of exchange '{exchange}' in '{vhost}' cancelled"
    control.tell(said, {"vhost": vhost, "exchange": exchange, "cancelled": cancelled}, as_json)


def _wanted(
    key: str | None,
    text: str,
    header: list[str] | None,
    property_value: list[str] | None,
    json_value: list[str] | None,
) -> dict[str, Any]:
    return {
        "routing_key": key,
        "text": text,
        "headers": _pairs("--header", header),
        "properties": _pairs("--property", property_value),
        "json": _pairs("--json-value", json_value),
    }


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
