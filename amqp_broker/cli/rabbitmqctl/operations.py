"""The commands that act on queues, connections and definitions."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Report, Result, WrongUse
from amqp_broker.explanations import json_mistake, system_reason

QUEUES, OPERATIONS, DEFINITIONS = "Queues", "Operations", "Definitions"
OWN_FILE_MODE = 0o600  # definitions have the hashes of passwords


def purge_queue(call: Call) -> Result:
    """Drop all messages that are ready."""
    name = call.words[0]
    call.say(f"Purging queue '{name}' in vhost '{call.virtual_host}' ...")
    call.ask("queues.purge", vhost=call.virtual_host, name=name, missing=call.not_found())
    return None


def delete_queue(call: Call) -> Result:
    """Delete a queue with all messages in it."""
    name, if_empty, if_unused = call.words[0], "if-empty" in call.options, "if-unused" in call.options
    conditions = [text for text, holds in (("empty", if_empty), ("unused", if_unused)) if holds]
    about = f" if queue is {' and '.join(conditions)}" if conditions else ""
    call.say(f"Deleting queue '{name}' on vhost '{call.virtual_host}'{about} ...")
    rows = call.ask_list("queues.list", vhost=call.virtual_host, missing=Failed(Code.USAGE, "Queue not found"))
    row = next((row for row in rows if row["name"] == name), None)
    if row is None:
        raise Failed(Code.USAGE, "Queue not found")
    if if_unused and row["consumers"]:
        raise Failed(Code.USAGE, "Queue is in use")
    if if_empty and row["messages_ready"]:
        raise Failed(Code.USAGE, "Queue is not empty")
    count = call.ask("queues.delete", vhost=call.virtual_host, name=name, if_empty=if_empty, if_unused=if_unused)
    return Report([f"Queue was successfully deleted with {count} ready messages"] if not call.is_quiet else [])


# --- connections


def close_connection(call: Call) -> Result:
    """Close the connection of this name, which stands in the column pid as well."""
    name, reason = call.words
    call.say(f"Closing connection {name}, reason: {reason}...")
    call.ask("connections.close", name=name, reason=reason, missing=Failed(Code.UNAVAILABLE, "not_found"))
    return None


def close_all_connections(call: Call) -> Result:
    """Close the connections to a virtual host, or all."""
    reason, is_global = call.words[0], "global" in call.options
    where = f"to node {call.node} (across all vhosts)" if is_global else f"in vhost {call.virtual_host}"
    call.say(f"Closing all connections {where}, reason: {reason}...")
    limit = call.options.get("limit", "0")
    if not limit.isdecimal():
        raise WrongUse(f"Invalid options for this command:\n--limit : {limit}")
    virtual_host = None if is_global else call.virtual_host
    count = call.ask("connections.close-many", vhost=virtual_host, reason=reason, limit=int(limit))
    return Report([f"Closed {count} connections"])


def close_all_user_connections(call: Call) -> Result:
    """Close the connections of a user."""
    name, reason = call.words
    call.say(f"Closing connections of user {name}, reason: {reason}...")
    call.ask("connections.close-many", user=name, reason=reason)
    return None


# --- definitions


def _refuse_erlang(call: Call) -> None:
    if call.options.get("format", "json").lower() != "json":
        raise WrongUse("Bad argument: definitions are written and read as JSON only", Code.DATA)


def export_definitions(call: Call) -> Result:
    """Write all that is defined to a file."""
    _refuse_erlang(call)
    file = call.words[0]
    if file != "-":
        if not Path(file).absolute().parent.is_dir():
            raise WrongUse(f"Bad argument: Directory {Path(file).parent} does not exist", Code.DATA)
        call.say(f'Exporting definitions in JSON to a file at "{file}" ...')
    document: dict[str, Any] = {}
    for row in call.ask_list("definitions.export"):
        if row["section"] is None:
            document.update(row["item"])
        else:
            document[row["section"]].append(row["item"])
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    if file == "-":
        return Report([text], document)
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWN_FILE_MODE), "w", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        raise Failed(Code.DATA, f"cannot write {file}: {error.strerror}") from error
    return None


def import_definitions(call: Call) -> Result:
    """Have all that a file says, or nothing of it."""
    _refuse_erlang(call)
    file = call.words[0] if call.words else "-"
    if file == "-":
        call.say("Importing definitions in JSON from standard input ...")
        text = sys.stdin.read()
    else:
        try:
            text = Path(file).read_text("utf-8")
        except FileNotFoundError as error:
            raise WrongUse(f"Bad argument: File {file} does not exist", Code.DATA) from error
        except OSError as error:
            raise WrongUse(f"Bad argument: File {file} cannot be read: {system_reason(error)}", Code.DATA) from error
        except UnicodeDecodeError as error:
            raise WrongUse(f"Bad argument: File {file} is not UTF-8", Code.DATA) from error
        call.say(f'Importing definitions in JSON from a file at "{file}" ...')
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failed(Code.DATA, f"{file} is not JSON: {json_mistake(error)}") from error
    call.ask("definitions.import", definitions=document, vhost=call.options.get("vhost"))
    return Report([] if call.is_quiet else ["Successfully imported definitions."])


COMMANDS: Commands = {
    "delete_queue": Command(
        QUEUES,
        "[--vhost <vhost>] <queue_name> [--if-empty|-e] [--if-unused|-u] [--timeout <timeout>]",
        "Deletes a queue",
        delete_queue,
        (1, 1),
        {"if-empty": False, "if-unused": False},
        {"e": "if-empty", "u": "if-unused"},
    ),
    "purge_queue": Command(
        QUEUES, "[--vhost <vhost>] <queue>", "Drops all messages of a queue that are ready", purge_queue, (1, 1)
    ),
    "close_all_connections": Command(
        OPERATIONS,
        "[--vhost <vhost> --limit <limit>] [--global] <explanation>",
        "Closes the connections to a virtual host, or all",
        close_all_connections,
        (1, 1),
        {"limit": True, "global": False, "per-connection-delay": True},
    ),
    "close_all_user_connections": Command(
        OPERATIONS, "<username> <explanation>", "Closes a user's connections", close_all_user_connections, (2, 2)
    ),
    "close_connection": Command(
        OPERATIONS, "<connection pid or name> <explanation>", "Closes a connection", close_connection, (2, 2)
    ),
    "export_definitions": Command(
        DEFINITIONS,
        '<file_path | "-"> [--format json]',
        "Writes all that is defined to a file",
        export_definitions,
        (1, 1),
        {"format": True},
    ),
    "import_definitions": Command(
        DEFINITIONS,
        '<file_path | "-"> [--format json] [--skip-if-unchanged]',
        "Reads what is defined from a file: all of it or nothing",
        import_definitions,
        (0, 1),
        {"format": True, "skip-if-unchanged": False},
    ),
}
