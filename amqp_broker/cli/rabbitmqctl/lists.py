"""The commands that list queues, exchanges, bindings, connections, channels and consumers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Result, Table, WrongUse

Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Row], Any]]  # by their names, what each shows of a row

GROUP = "Monitoring, observability and health checks"


def _same(*names: str) -> dict[str, Callable[[Row], Any]]:
    return {name: lambda row, name=name: row[name] for name in names}  # type: ignore[misc]


def _nothing(*names: str) -> dict[str, Callable[[Row], Any]]:
    """What RabbitMQ knows and we do not is empty, as it is there for queues of some types."""
    return dict.fromkeys(names, lambda row: None)


def _capacity(row: Row) -> float:
    return float(bool(row["consumers"]) and not row["messages_ready"])


QUEUES: Columns = {
    **_same("arguments", "auto_delete"),
    "consumer_capacity": _capacity,
    "consumer_utilisation": _capacity,
    **_same("consumers"),
    "disk_reads": lambda row: row["message_stats"]["disk_reads"],
    "disk_writes": lambda row: row["message_stats"]["disk_writes"],
    **_same("durable", "exclusive"),
    **_nothing("exclusive_consumer_pid", "exclusive_consumer_tag", "head_message_timestamp"),
    "leader": lambda row: row["node"] if row["has_replicas"] else None,
    "members": lambda row: [row["node"]] if row["has_replicas"] else None,
    **_nothing("memory"),
    "message_bytes": lambda row: row["message_bytes_ready"] + row["message_bytes_unacknowledged"],
    **_nothing("message_bytes_persistent", "message_bytes_ram"),
    **_same("message_bytes_ready", "message_bytes_unacknowledged"),
    **_same("messages"),
    "messages_persistent": lambda row: row["messages"] if row["durable"] else 0,
    "messages_ram": lambda row: row["messages"],
    **_same("messages_ready"),
    "messages_ready_ram": lambda row: row["messages_ready"],
    **_same("messages_unacknowledged"),
    "messages_unacknowledged_ram": lambda row: row["messages_unacknowledged"],
    **_same("name"),
    "online": lambda row: [row["node"]] if row["has_replicas"] else None,
    **_nothing("owner_pid", "pid"),
    **_same("policy"),
    **_nothing("slave_pids"),
    **_same("state"),
    **_nothing("synchronised_slave_pids"),
    **_same("type"),
}
EXCHANGES: Columns = _same("arguments", "auto_delete", "durable", "internal", "name", "policy", "type")
BINDINGS: Columns = {
    **_same("arguments"),
    "destination_kind": lambda row: row["destination_type"],
    "destination_name": lambda row: row["destination"],
    **_same("routing_key"),
    "source_kind": lambda row: "exchange",
    "source_name": lambda row: row["source"],
}
CONNECTIONS: Columns = {
    **_same("auth_mechanism", "channel_max", "channels", "client_properties", "connected_at"),
    "container_id": lambda row: row.get("container_id", ""),  # RabbitMQ's since 4.1
    **_same("frame_max", "host", "name"),
    **_nothing("peer_cert_issuer", "peer_cert_subject", "peer_cert_validity"),
    **_same("peer_host", "peer_port"),
    "pid": lambda row: row["name"],  # what close_connection takes
    **_same("port", "protocol"),
    **_nothing("recv_cnt"),
    **_same("recv_oct"),
    **_nothing("send_cnt"),
    **_same("send_oct", "send_pend", "ssl", "ssl_cipher"),
    **_nothing("ssl_hash", "ssl_key_exchange"),
    **_same("ssl_protocol", "state", "timeout", "user", "vhost"),
}
CHANNELS: Columns = {
    **_same("acks_uncommitted", "confirm"),
    "connection": lambda row: row["connection_name"],
    **_same("consumer_count", "global_prefetch_count", "messages_unacknowledged", "messages_uncommitted"),
    **_same("messages_unconfirmed", "name", "number"),
    "pid": lambda row: row["name"],
    **_same("prefetch_count", "transactional", "user", "vhost"),
}
CONSUMERS: Columns = {
    **_same("ack_required", "active", "activity_status", "arguments"),
    "channel_pid": lambda row: row["channel"]["name"],
    **_same("consumer_tag", "prefetch_count"),
    "queue_name": lambda row: row["queue"],
}


def chosen_columns(call: Call, known: Columns, default: Sequence[str]) -> list[str]:
    """The columns that were asked for.

    Raises:
        WrongUse: there is no such column.
    """
    names = [name for word in call.words for name in word.replace(",", " ").split()] or list(default)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise WrongUse(f"Info key(s) {','.join(unknown)} are not supported")
    return names


def shown(rows: Sequence[Row], names: Sequence[str], known: Columns) -> Table:
    """Rows with some columns."""
    return Table(names, [{name: known[name](row) for name in names} for row in rows], is_stream=True)


def _rows(call: Call, command: str) -> list[dict[str, Any]]:
    """What is in the virtual host; nothing when there is none, as RabbitMQ says."""
    nowhere = Failed(Code.DATA, "")
    try:
        return call.ask_list(command, vhost=call.virtual_host, missing=nowhere)
    except Failed as failed:
        if failed is nowhere:
            return []
        raise


def list_queues(call: Call) -> Result:
    """The queues of a virtual host."""
    names = chosen_columns(call, QUEUES, ("name", "messages"))
    call.say(f"Timeout: {call.timeout_s(60):.1f} seconds ...\nListing queues for vhost {call.virtual_host} ...")
    rows = [] if "offline" in call.options else _rows(call, "queues.list")
    return shown([{**row, "node": call.node} for row in rows], names, QUEUES)


def list_exchanges(call: Call) -> Result:
    """The exchanges of a virtual host."""
    names = chosen_columns(call, EXCHANGES, ("name", "type"))
    call.say(f"Listing exchanges for vhost {call.virtual_host} ...")
    return shown(_rows(call, "exchanges.list"), names, EXCHANGES)


def list_bindings(call: Call) -> Result:
    """The bindings of a virtual host, those of the default exchange as well."""
    default = ("source_name", "source_kind", "destination_name", "destination_kind", "routing_key", "arguments")
    names = chosen_columns(call, BINDINGS, default)
    call.say(f"Listing bindings for vhost {call.virtual_host}...")
    return shown(_rows(call, "bindings.all"), names, BINDINGS)


def list_connections(call: Call) -> Result:
    """All connections."""
    names = chosen_columns(call, CONNECTIONS, ("user", "peer_host", "peer_port", "state"))
    call.say("Listing connections ...")
    return shown(call.ask_list("connections.list"), names, CONNECTIONS)


def list_channels(call: Call) -> Result:
    """All channels."""
    names = chosen_columns(call, CHANNELS, ("pid", "user", "consumer_count", "messages_unacknowledged"))
    call.say("Listing channels ...")
    return shown(call.ask_list("channels.list"), names, CHANNELS)


def list_consumers(call: Call) -> Result:
    """The consumers in a virtual host."""
    default = ("queue_name", "channel_pid", "consumer_tag", "ack_required", "prefetch_count", "active", "arguments")
    names = chosen_columns(call, CONSUMERS, default)
    call.say(f"Listing consumers in vhost {call.virtual_host} ...")
    return shown(_rows(call, "consumers.list"), names, CONSUMERS)


def list_unresponsive_queues(call: Call) -> Result:
    """Queues that do not answer: there is no such here."""
    call.say(f"Listing unresponsive queues for vhost {call.virtual_host} ...")
    return Table(("name",), [], is_stream=True)


def _list(summary: str, run: Callable[[Call], Result], columns: Columns, *, of_host: bool = True) -> Command:
    options = {"online": False, "offline": False, "local": False}
    where = "[--vhost <vhost>] " if of_host else ""
    arguments = f"{where}[--no-table-headers] [<column> ...] [--timeout <timeout>]"
    return Command(GROUP, arguments, summary, run, (0, None), options, columns=tuple(columns))


COMMANDS: Commands = {
    "list_bindings": _list("Lists the bindings of a virtual host", list_bindings, BINDINGS),
    "list_channels": _list("Lists all channels", list_channels, CHANNELS, of_host=False),
    "list_connections": _list("Lists all connections", list_connections, CONNECTIONS, of_host=False),
    "list_consumers": _list("Lists the consumers in a virtual host", list_consumers, CONSUMERS),
    "list_exchanges": _list("Lists the exchanges of a virtual host", list_exchanges, EXCHANGES),
    "list_queues": _list("Lists the queues of a virtual host", list_queues, QUEUES),
    "list_unresponsive_queues": _list("Lists queues that do not answer", list_unresponsive_queues, _same("name")),
}
