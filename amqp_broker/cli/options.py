"""The options that several commands share: which settings the command line can give, and how a command ends badly."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from amqp_broker.cli.configuration import Configuration, ConfigurationError, load
from amqp_broker.cli.exit_codes import INTERRUPTED, ExitCode

IDS_SHOWN_MAX = 10

Host = Annotated[
    list[str] | None,
    typer.Option(
        "--host",
        metavar="NAME",
        help="Listen on this name or address; more than once, or with commas between. Default: localhost, which is "
        "both 127.0.0.1 and ::1. '*' is every address of this machine.",
    ),
]
Port = Annotated[
    str | None,
    typer.Option("--port", metavar="NUMBER", help="TCP port. Default: 5672; 0 takes a free one and prints it."),
]
DataDir = Annotated[
    str | None,
    typer.Option("--data-dir", metavar="FOLDER", help="The broker's data. Default: the user's state folder."),
]
Fsync = Annotated[
    str | None,
    typer.Option(
        "--fsync",
        metavar="WHEN",
        help="always: a publisher is confirmed after the sync, nothing confirmed is ever lost. interval: every 200 ms "
        "(fsync_interval_ms), a power failure may cost what was confirmed since. never: it may cost the last half "
        "minute or so. kill -9 costs nothing with any. Default: always.",
    ),
]
Processes = Annotated[
    str | None,
    typer.Option(
        "--processes",
        metavar="N",
        help="Processes that share the virtual hosts, to use as many cores; see docs/processes.md. Default: 1.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster", metavar="URL", help="Be a node of a cluster: etcd://HOST:PORT,HOST:PORT/NAME. Default: alone."
    ),
]
WithEtcd = Annotated[
    str | None,
    typer.Option(
        "--with-etcd",
        metavar="NODES",
        help="Be a node of a cluster, and look after a member of etcd as well: NAME=HOST,NAME=HOST,NAME=HOST, which "
        "are all nodes and where they are.",
    ),
]
NodeName = Annotated[
    str | None,
    typer.Option("--node-name", metavar="NAME", help="How operators call this node. Default: the machine's name."),
]
LinkHost = Annotated[
    str | None,
    typer.Option("--link-host", metavar="ADDRESS", help="Where the other nodes reach this one. Default: 127.0.0.1."),
]
Protocols = Annotated[
    str | None,
    typer.Option(
        "--protocols", metavar="NAMES", help="Others to speak, on their ports: mqtt, stomp, streams, web-sockets."
    ),
]
MqttPort = Annotated[
    str | None,
    typer.Option("--mqtt-port", metavar="NUMBER", help="TCP port for MQTT. Default: off; 0 takes a free one."),
]
StompPort = Annotated[
    str | None,
    typer.Option("--stomp-port", metavar="NUMBER", help="TCP port for STOMP. Default: off; 0 takes a free one."),
]
WebSocketPort = Annotated[
    str | None,
    typer.Option("--web-socket-port", metavar="NUMBER", help="TCP port for web sockets. Default: off; 0: a free one."),
]
TlsPort = Annotated[
    str | None,
    typer.Option("--tls-port", metavar="NUMBER", help="TCP port for TLS. Default: 5671, with a certificate."),
]
TlsCertificate = Annotated[
    str | None, typer.Option("--tls-certificate", metavar="FILE", help="Certificate in PEM format; switches TLS on.")
]
TlsKey = Annotated[
    str | None, typer.Option("--tls-key", metavar="FILE", help="The certificate's key. Default: in the same file.")
]
TlsCa = Annotated[
    str | None, typer.Option("--tls-ca", metavar="FILE", help="Authorities that clients' certificates come from.")
]
TlsClientCertificate = Annotated[
    str | None, typer.Option("--tls-client-certificate", metavar="HOW", help="none, optional or required.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="TOML file; takes every setting of 'config show'.",
        readable=False,  # whether it can be read is for reading to find out, and to say in our way
    ),
]
LogLevel = Annotated[
    str | None, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error. Default: info.")
]
LogFormat = Annotated[
    str | None, typer.Option("--log-format", metavar="FORMAT", help="text (key=value) or json. Default: text.")
]


def configure(
    host: list[str] | None,
    port: str | None,
    data_dir: str | None,
    config: Path | None,
    log_level: str | None,
    log_format: str | None,
    *,
    refuse: Callable[[ExitCode, str], NoReturn] | None = None,
    is_served: bool = False,
    **others: str | None,
) -> Configuration:
    """The configuration, or the end of the command with one line that says what is wrong with it.

    Args:
        refuse: ends the command in another way than ``fail`` does.
        is_served: as for ``load``.
    """
    command_line = {
        "host": ",".join(host) if host else None,
        "port": port,
        "data_dir": data_dir,
        "log_level": log_level,
        "log_format": log_format,
        **others,
    }
    try:
        return load(command_line, config, os.environ, is_served=is_served)
    except ConfigurationError as error:
        (refuse or fail)(ExitCode.WRONG_USE, str(error))


def refuse_windows(command: str) -> None:
    """End a command that this system cannot run, with one line that says so."""
    if sys.platform == "win32":
        fail(
            ExitCode.WRONG_USE,
            f"'{command}' does not run on Windows, only the broker for tests does: run it in WSL or in a container",
        )


def fail_for_missing(ids: list[str], reason: str) -> None:
    """End the command where messages that were named by their ids are not there, and name them.

    Args:
        reason: why they may not be.
    """
    if ids:
        shown, more = ", ".join(ids[:IDS_SHOWN_MAX]), len(ids) - IDS_SHOWN_MAX
        fail(ExitCode.REFUSED, f"not there: {shown}{f' and {more} more' if more > 0 else ''}: {reason}")


def fail(code: ExitCode, text: str) -> NoReturn:
    """End the command: one line on standard error, and the exit code."""
    print(f"amqp-broker: {text}", file=sys.stderr, flush=True)
    raise typer.Exit(int(code))


def fail_for_interrupt(text: str) -> NoReturn:
    """End a command that Ctrl-C has interrupted, in a line of its own.

    Args:
        text: what has become of its work.
    """
    print(f"\nstopped: {text}", file=sys.stderr, flush=True)
    raise typer.Exit(INTERRUPTED)
