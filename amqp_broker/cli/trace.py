"""``amqp-broker trace``: follow messages through a running broker."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from amqp_broker.cli import control, options
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.cli.header_options import Headers, read_headers

MessageId = Annotated[str | None, typer.Option("--message-id", metavar="ID", help="With this message id.")]
CorrelationId = Annotated[str | None, typer.Option("--correlation-id", metavar="ID", help="With this correlation id.")]

application = typer.Typer(
    help="Follow messages through a running broker: every hop, and what became of them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.command("start", epilog=EPILOG)
def start_trace(
    message_id: MessageId = None,
    correlation_id: CorrelationId = None,
    header: Headers = None,
    sample: Annotated[int, typer.Option("--sample", metavar="N", help="One message of N.")] = 1,
    vhost: control.OneVirtualHost = None,
    bodies: Annotated[bool, typer.Option("--bodies", help="Keep the first 1024 bytes of each body.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="How many messages are kept.")] = 1000,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Trace messages from now on; what was traced before is forgotten. Without options all messages are traced.

    \b
    amqp-broker trace start --message-id order-4711
    amqp-broker trace start --header region=eu --vhost shop
    amqp-broker trace start --sample 1000
    """
    asked = {
        "message_id": message_id,
        "correlation_id": correlation_id,
        "headers": read_headers(header),
        "sample": sample,
        "vhost": vhost,
        "bodies": bodies,
        "limit": limit,
    }
    control.ask(data_dir, config, "trace.start", **asked)
    control.tell("trace started", asked, as_json)


@application.command("stop", epilog=EPILOG)
def stop_trace(
    as_json: control.Json = False, data_dir: options.DataDir = None, config: options.ConfigFile = None
) -> None:
    """Trace nothing more; what was traced can still be shown.

    \b
    amqp-broker trace stop
    """
    control.ask(data_dir, config, "trace.stop")
    control.tell("trace stopped", {"on": False}, as_json)


@application.command("show", epilog=EPILOG)
def show_trace(
    message_id: MessageId = None,
    correlation_id: CorrelationId = None,
    as_json: control.Json = False,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
) -> None:
    """Show what was traced, the last message first.

    \b
    amqp-broker trace show
    amqp-broker trace show --message-id order-4711 --json
    """
    status = control.ask(data_dir, config, "trace.status")
    asked = {"message_id": message_id, "correlation_id": correlation_id}
    traces = control.ask_list(data_dir, config, "trace.show", **asked)
    if as_json:
        print(json.dumps({**status, "messages": traces}, indent=2))
        return
    print(f"trace is {'on' if status['on'] else 'off'}, {control.counted(status['traces'], 'message')} kept")
    for trace in traces:
        for line in _lines(trace):
            print(line)


def _lines(trace: dict[str, Any]) -> list[str]:
    names = [f"{name.replace('_', ' ')} {trace[name]}" for name in ("message_id", "correlation_id") if trace[name]]
    size = control.counted(trace["body_bytes"], "byte")
    lines = ["", ", ".join([f"message {trace['id']} in {trace['vhost']}", *names, size]) + f": {trace['outcome']}"]
    lines += [f"  {_hop_text(hop)}" for hop in trace["hops"]]
    if trace["hops_left_out"]:
        lines.append(f"  and {trace['hops_left_out']} hops more, which were not kept")
    return lines


def _hop_text(hop: dict[str, Any]) -> str:
    parts = [f"{datetime.fromtimestamp(hop['at'] / 1000, UTC):%H:%M:%S.%f}"[:-3], hop["event"].replace("_", "-")]
    if hop["queue"] is not None:
        parts.append(f"queue {hop['queue']}")
    if hop["queues"] is not None:
        where = f"exchange {hop['exchange'] or '(default)'} key '{hop['routing_key']}'"
        parts.append(f"{where} to {', '.join(hop['queues']) or 'no queue'}")
    if hop["consumer"] is not None:
        parts.append(f"consumer {hop['consumer']}")
    if hop["user"] is not None:
        parts.append(f"by {hop['user']}")
    if hop["redelivered"]:
        parts.append("again")
    if hop["reason"] is not None:
        parts.append(f"because {hop['reason']}" + (f" (policy {hop['policy']})" if hop["policy"] else ""))
    return " ".join(parts)
