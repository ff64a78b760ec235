"""``amqp-broker serve`` on the command line: its options and its help. What it does is in ``serving.py``."""

from __future__ import annotations

import typer

from amqp_broker.cli import options
from amqp_broker.cli.exit_codes import EPILOG

application = typer.Typer(add_completion=False, rich_markup_mode=None)


@application.command("serve", epilog=EPILOG)
def serve(
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
    """Run the broker until SIGTERM or Ctrl-C; a second one ends it at once.

    \b
    amqp-broker serve
    amqp-broker serve --port 0 --data-dir /tmp/throw-away
    amqp-broker serve --host '*' --config broker.toml --log-format json
    amqp-broker serve --tls-certificate server.pem --tls-key server.key
    RABBITMQ_DEFAULT_USER=me RABBITMQ_DEFAULT_PASS=secret amqp-broker serve

    Each setting has an environment variable as well (AMQP_BROKER_PORT=5673); 'amqp-broker config show' lists them all.
    The command line wins over the environment, that over the file, that over RabbitMQ's variables.
    """
    options.refuse_windows("serve")
    from amqp_broker.cli.serving import serve as run_broker

    run_broker(
        {
            "host": ",".join(host) if host else None,
            "config": None if config is None else str(config),
            "port": port,
            "data_dir": data_dir,
            "log_level": log_level,
            "log_format": log_format,
            "fsync": fsync,
            "protocols": protocols,
            "mqtt_port": mqtt_port,
            "stomp_port": stomp_port,
            "web_socket_port": web_socket_port,
            "tls_port": tls_port,
            "tls_certificate": tls_certificate,
            "tls_key": tls_key,
            "tls_ca": tls_ca,
            "tls_client_certificate": tls_client_certificate,
            "processes": processes,
            "cluster": cluster,
            "with_etcd": with_etcd,
            "node_name": node_name,
            "link_host": link_host,
        }
    )
