"""Reading the file of settings: TOML, one setting a line, and a helpful word where it is something else.

Does not hold which settings there are (``settings.py``), nor who wins over the file (``configuration.py``).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from amqp_broker.settings import DESCRIPTIONS

# What rabbitmq.conf calls it, and what it is called here. Where a unit or a form differs, the setting's text says so.
RABBITMQ_KEYS = {
    "auth_backends": "auth_backends",
    "auth_cache.cache_ttl": "auth_cache_ttl_ms",
    "anonymous_login_pass": "anonymous_login_password",
    "anonymous_login_user": "anonymous_login_user",
    "auth_http.http_method": "auth_http_method",
    "auth_http.resource_path": "auth_http_resource_path",
    "auth_http.topic_path": "auth_http_topic_path",
    "auth_http.user_path": "auth_http_user_path",
    "auth_http.vhost_path": "auth_http_vhost_path",
    "auth_ldap.dn_lookup_attribute": "auth_ldap_dn_lookup_attribute",
    "auth_ldap.dn_lookup_base": "auth_ldap_dn_lookup_base",
    "auth_ldap.dn_lookup_bind": "auth_ldap_dn_lookup_bind",
    "auth_ldap.dn_lookup_bind.password": "auth_ldap_dn_lookup_password",
    "auth_ldap.dn_lookup_bind.user_dn": "auth_ldap_dn_lookup_bind",
    "auth_ldap.group_lookup_base": "auth_ldap_group_lookup_base",
    "auth_ldap.other_bind": "auth_ldap_other_bind",
    "auth_ldap.other_bind.password": "auth_ldap_other_password",
    "auth_ldap.other_bind.user_dn": "auth_ldap_other_bind",
    "auth_ldap.port": "auth_ldap_port",
    "auth_ldap.servers": "auth_ldap_servers",
    "auth_ldap.ssl_options.cacertfile": "auth_ldap_tls_ca",
    "auth_ldap.timeout": "auth_timeout_ms",
    "auth_ldap.use_ssl": "auth_ldap_tls",
    "auth_ldap.use_starttls": "auth_ldap_tls",
    "auth_ldap.user_dn_pattern": "auth_ldap_user_dn_pattern",
    "auth_oauth2.issuer": "auth_oauth2_issuer",
    "auth_oauth2.jwks_url": "auth_oauth2_jwks",
    "auth_oauth2.resource_server_id": "auth_oauth2_resource_server_id",
    "auth_oauth2.scope_prefix": "auth_oauth2_scope_prefix",
    "channel_max": "channels_per_connection_max",
    "cluster_name": "cluster_name",
    "connection_max": "connections_max",
    "consumer_timeout": "consumer_timeout_ms",
    "default_pass": "default_password",
    "default_user": "default_user",
    "default_vhost": "default_virtual_host",
    "definitions.local.path": "load_definitions",
    "disk_free_limit.absolute": "disk_free_limit_bytes",
    "disk_free_limit.relative": "disk_free_limit_bytes",
    "frame_max": "frame_size_bytes_max",
    "handshake_timeout": "handshake_timeout_ms",
    "heartbeat": "heartbeat_s",
    "listeners.ssl": "tls_port",
    "listeners.tcp": "port",
    "log.console.formatter": "log_format",
    "log.console.level": "log_level",
    "log.file.level": "log_level",
    "loopback_users": "loopback_users",
    "management.listener.port": "management_port",
    "management.load_definitions": "load_definitions",
    "management.ssl.port": "management_tls_port",
    "management.tcp.ip": "management_host",
    "management.tcp.port": "management_port",
    "max_message_size": "message_size_bytes_max",
    "mqtt.allow_anonymous": "mqtt_allow_anonymous",
    "mqtt.listeners.ssl": "mqtt_tls_port",
    "mqtt.listeners.tcp": "mqtt_port",
    "mqtt.max_session_expiry_interval_seconds": "mqtt_session_expiry_max_s",
    "mqtt.prefetch": "mqtt_unacknowledged_max",
    "prometheus.tcp.port": "metrics_port",
    "proxy_protocol": "proxy_protocol",
    "ssl_options.cacertfile": "tls_ca",
    "ssl_options.certfile": "tls_certificate",
    "ssl_cert_login_from": "tls_login_from",
    "ssl_options.fail_if_no_peer_cert": "tls_client_certificate",
    "ssl_options.keyfile": "tls_key",
    "ssl_options.verify": "tls_client_certificate",
    "ssl_options.versions": "tls_version_min",
    "stomp.listeners.ssl": "stomp_tls_port",
    "stomp.listeners.tcp": "stomp_port",
    "stream.advertised_host": "stream_advertised_host",
    "stream.advertised_port": "stream_advertised_port",
    "stream.frame_max": "stream_frame_bytes_max",
    "stream.listeners.ssl": "stream_tls_port",
    "stream.listeners.tcp": "stream_port",
    "vm_memory_high_watermark.absolute": "memory_high_water_bytes",
    "vm_memory_high_watermark.relative": "memory_high_water_bytes",
    "vm_memory_high_watermark_paging_ratio": "memory_budget_bytes",
    "web_mqtt.ssl.port": "web_socket_tls_port",
    "web_mqtt.tcp.port": "web_socket_port",
    "web_stomp.ssl.port": "web_socket_tls_port",
    "web_stomp.tcp.port": "web_socket_port",
}
# Shares have no counterpart: what is set is a number of bytes, and the default is a share.
_IN_BYTES = {
    "disk_free_limit.relative": "in bytes, no share of the memory",
    "vm_memory_high_watermark.relative": "in bytes; where it is not set, it is 60 % of the memory",
    "vm_memory_high_watermark_paging_ratio": "in bytes; where it is not set, it is 40 % of the memory",
}
# These begin lines of a rabbitmq.conf and nothing of ours.
_RABBITMQ_LINE = re.compile(
    r"\s*(listeners|ssl_options|log|vm_memory_high_watermark\w*|disk_free_limit|cluster_formation|definitions|management|auth_\w+|prometheus|"
    r"loopback_users|queue_master_locator|mqtt|stomp|stream|tcp_listen_options|web_mqtt|web_stomp)\.[\w.-]+\s*="
)
_SIMPLE_LINE = re.compile(r"\s*([\w.-]+)\s*=\s*([^\"'\[{#\s][^\"'#]*?)\s*(#.*)?$")
_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")
_SHOW = "'amqp-broker config show' lists the settings"


class BadConfigFile(Exception):
    """The file cannot be taken; the text, one line, names the file, the place and the way out."""


def read_config_file(path: Path) -> dict[str, object]:
    """The values in the file by name, as they stand there; the names are not checked, the form is.

    Raises:
        BadConfigFile: it cannot be read, or is no TOML, or has tables.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadConfigFile(
            f"config file {path} cannot be read: {error.strerror}: name another with --config"
        ) from error
    except UnicodeDecodeError as error:
        raise BadConfigFile(f"config file {path} is not valid TOML: it is not in UTF-8: save it as UTF-8") from error
    _check_not_rabbitmqs(text, path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfigFile(f"config file {path} is not valid TOML: {_mistake(text, str(error))}") from error
    for name, value in document.items():
        if isinstance(value, dict) and name not in DESCRIPTIONS:
            raise BadConfigFile(
                f"config file {path} has a table [{name}], and settings stand in none: take the line [{name}] out"
            )
    return document


def _check_not_rabbitmqs(text: str, path: Path) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("[{") or line.startswith("{rabbit"):
            raise BadConfigFile(
                f"config file {path} is RabbitMQ's, in Erlang's form, and a TOML file is taken: {_SHOW}"
            )
        if _RABBITMQ_LINE.match(line):
            key = line.partition("=")[0].strip()
            raise BadConfigFile(f"config file {path}, line {number}: {_in_our_words(key)}")


def _in_our_words(key: str) -> str:
    setting = RABBITMQ_KEYS.get(key) or RABBITMQ_KEYS.get(key.rpartition(".")[0])
    if setting is None:
        return f"{key} is a setting of rabbitmq.conf and has no counterpart here: {_SHOW}"
    unit = f" ({_IN_BYTES[key]})" if key in _IN_BYTES else ""
    return f"{key} is a setting of rabbitmq.conf, and a TOML file is taken: here it is called {setting}{unit}"


def _mistake(text: str, reason: str) -> str:
    """What is wrong in the file, and where."""
    place = _PLACE.search(reason)
    lines = text.splitlines()
    number = int(place.group(1)) if place else len(lines)
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    if "overwrite" in reason:
        return f"line {number}: {line.partition('=')[0].strip()} stands there twice: take one of the lines out"
    simple = _SIMPLE_LINE.match(line)
    if simple is None:
        return f"line {number} is not understood: {line.strip()[:80]!r}: write it as name = value"
    name, value, _ = simple.groups()
    if name in RABBITMQ_KEYS and name not in DESCRIPTIONS:
        return f"line {number}: {_in_our_words(name)}"
    return f'line {number}: a text stands in quotes: {name} = "{value}"'
