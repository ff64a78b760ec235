"""``amqp-broker config``: the settings, what they mean, and where their values come from."""

from __future__ import annotations

import json
import re
import textwrap

import typer

from amqp_broker.cli import options
from amqp_broker.cli.configuration import Configuration, environment_name
from amqp_broker.cli.exit_codes import EPILOG
from amqp_broker.settings import DESCRIPTIONS, Description

_WIDTH = 100

application = typer.Typer(
    help="The settings, what they mean, and where their values come from.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@application.callback()
def _group() -> None:
    """The settings, what they mean, and where their values come from."""


@application.command("show", epilog=EPILOG)
def show(
    host: options.Host = None,
    port: options.Port = None,
    data_dir: options.DataDir = None,
    config: options.ConfigFile = None,
    log_level: options.LogLevel = None,
    log_format: options.LogFormat = None,
    fsync: options.Fsync = None,
    protocols: options.Protocols = None,
    mqtt_port: options.MqttPort = None,
    stomp_port: options.StompPort = None,
    web_socket_port: options.WebSocketPort = None,
    tls_port: options.TlsPort = None,
    tls_certificate: options.TlsCertificate = None,
    tls_key: options.TlsKey = None,
    tls_ca: options.TlsCa = None,
    tls_client_certificate: options.TlsClientCertificate = None,
    processes: options.Processes = None,
    cluster: options.Cluster = None,
    with_etcd: options.WithEtcd = None,
    node_name: options.NodeName = None,
    link_host: options.LinkHost = None,
) -> None:
    """Print every setting as 'serve' would take it, given the same options.

    What is printed is a TOML file: save it, change it, and hand it to 'serve --config'.

    \b
    amqp-broker config show > broker.toml
    amqp-broker config show --config broker.toml --port 5673
    """
    configuration = options.configure(
        host,
        port,
        data_dir,
        config,
        log_level,
        log_format,
        fsync=fsync,
        protocols=protocols,
        mqtt_port=mqtt_port,
        stomp_port=stomp_port,
        web_socket_port=web_socket_port,
        tls_port=tls_port,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        tls_ca=tls_ca,
        tls_client_certificate=tls_client_certificate,
        processes=processes,
        cluster=cluster,
        with_etcd=with_etcd,
        node_name=node_name,
        link_host=link_host,
        is_served=True,
    )
    print("\n\n".join(_entry(description, configuration) for description in DESCRIPTIONS.values()))


_PASSWORD = re.compile(r"(://[^:/@\s]*):[^/@\s]*@")  # in an address, as ``cluster`` takes one


def _entry(description: Description, configuration: Configuration) -> str:
    name, origin = description.name, configuration.origins[description.name]
    text = f"{description.text} Takes {description.takes}."
    value = getattr(configuration.settings, name)
    shown = _PASSWORD.sub(r"\1:...@", value) if isinstance(value, str) else value
    line = f"{name} = {_toml(shown)}"
    if description.is_secret and value != description.default:
        line = f"# {name} is set, and not shown"
    return "\n".join(
        [
            *textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# "),
            f"# environment {environment_name(name)}; this value: {origin}",
            line,
        ]
    )


def _toml(value: object) -> str:
    # JSON's texts, numbers and lists of texts are TOML's as well.
    return json.dumps(value)
