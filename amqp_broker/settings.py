"""Every limit and default of the broker, in one frozen dataclass.

Holds what can be set, what it means, its default and which values it takes. Does not hold where a value comes from
(command line, environment, file): that is ``cli/configuration.py``.

A unit stands at the end of the name. A maximum of 0 means "no limit" where its text says so.
"""

import typing  # and no postponed annotations: each field has its type at hand, which every start would have to find
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

Value = TypeVar("Value")

_NAME_BYTES_MAX = 255  # AMQP's short strings are no longer

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
Fsync = Literal["always", "interval", "never"]
ClientCertificate = Literal["none", "optional", "required"]
TlsVersion = Literal["1.2", "1.3"]
TlsLogin = Literal["common_name", "san_dns", "san_email", "san_uri"]
BehaveLike = Literal["3.10", "3.13", "4.0", "4.3"]
ProxyProtocol = Literal["off", "required"]
Switch = Literal["on", "off"]
HttpMethod = Literal["get", "post"]
LdapTls = Literal["off", "starttls", "on"]

OTHER_PROTOCOLS = {
    "mqtt": (1883, 8883),
    "stomp": (61613, 61614),
    "streams": (5552, 5551),
    "web-sockets": (15674, 15673),
}  # with their usual ports, without TLS and with it


def port_setting(protocol: str, *, is_tls: bool = False) -> str:
    """The name of the setting that chooses the port of a protocol beside AMQP 0-9-1."""
    name = {"web-sockets": "web_socket", "streams": "stream"}.get(protocol, protocol)
    return f"{name}_tls_port" if is_tls else f"{name}_port"


OTHER_TLS_PORTS = tuple(port_setting(protocol, is_tls=True) for protocol in OTHER_PROTOCOLS)


class SettingError(ValueError):
    """A setting has a value that it cannot have; the text names the setting and what it takes."""


def _setting(
    default: Value, text: str, *, minimum: int | None = None, maximum: int | None = None, secret: bool = False
) -> Value:
    """A dataclass field that carries its own documentation and its bounds; a secret one is never shown.

    The bounds of a list are those of its length, the bounds of a text those of its bytes in UTF-8.
    """
    metadata = {"text": text, "minimum": minimum, "maximum": maximum, "is_secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings that an administrator can choose. Made once, never changed; every part of the broker is handed the
    same object.

    Raises:
        SettingError: a value has the wrong type or is out of bounds.
    """

    # Where clients reach the broker
    host: tuple[str, ...] = _setting(
        ("localhost",),
        "Names or addresses to listen on. localhost stands for both loopbacks, 127.0.0.1 and ::1; "
        "* stands for every address of this machine.",
        minimum=1,
    )
    port: int = _setting(5672, "TCP port for AMQP; 0 lets the system pick one.", minimum=0, maximum=65535)

    proxy_protocol: ProxyProtocol = _setting(
        "off",
        "required: every connection begins with a header of the PROXY protocol, version 1 or 2, as load balancers send "
        "it. Only where nobody but the load balancer can reach the port: whoever can may claim any address.",
    )

    # Where its administrators reach it
    management_host: tuple[str, ...] = _setting(
        ("localhost",),
        "Names or addresses where the HTTP API is to be had, as for host.",
        minimum=1,
    )
    management_port: int = _setting(
        15672, "TCP port of the HTTP API; 0 lets the system pick one, -1: none.", minimum=-1, maximum=65535
    )
    metrics_port: int = _setting(
        15692,
        "TCP port where Prometheus reads metrics, without a login, on management_host; 0 and -1 likewise.",
        minimum=-1,
        maximum=65535,
    )
    management_tls_port: int = _setting(
        15671, "TCP port of the HTTP API over TLS, with a certificate; 0 and -1 likewise.", minimum=-1, maximum=65535
    )

    # TLS
    tls_certificate: str = _setting(
        "", "File in PEM format with the certificate, and what leads up to its authority. Empty: no TLS."
    )
    tls_key: str = _setting("", "File in PEM format with the certificate's key. Empty: it is in the same file.")
    tls_port: int = _setting(
        5671, "TCP port for AMQP over TLS, with a certificate; 0 lets the system pick one.", minimum=0, maximum=65535
    )
    tls_ca: str = _setting("", "File in PEM format with the authorities that clients' certificates must come from.")
    tls_client_certificate: ClientCertificate = _setting(
        "none", "Whether a client is asked for a certificate, and refused without one."
    )
    tls_login_from: TlsLogin = _setting(
        "common_name", "Which name in a client's certificate is the user's, for mechanism EXTERNAL."
    )
    tls_version_min: TlsVersion = _setting("1.2", "Oldest version of TLS that is spoken.")

    # What operators see
    event_exchange: Switch = _setting(
        "off",
        "Whether what happens (queue.created, connection.closed, user.authentication.failure) is published to the "
        "exchange amq.rabbitmq.event of the default virtual host.",
    )

    # Other protocols
    protocols: tuple[str, ...] = _setting(
        (),
        "Protocols to speak beside AMQP 0-9-1, on their usual ports: mqtt (1883, and 8883 with a certificate), "
        "stomp (61613, 61614), streams (5552, 5551: RabbitMQ's protocol for them), web-sockets (15674, 15673), over "
        "which AMQP, MQTT and STOMP are spoken.",
    )
    mqtt_port: int = _setting(
        -1,
        "TCP port for MQTT. -1: off, or 1883 if protocols names mqtt; 0 lets the system pick one.",
        minimum=-1,
        maximum=65535,
    )
    mqtt_tls_port: int = _setting(
        -1,
        "TCP port for MQTT over TLS, with a certificate. -1: off, or 8883 if protocols names mqtt.",
        minimum=-1,
        maximum=65535,
    )
    mqtt_allow_anonymous: Switch = _setting(
        "on", "Whether an MQTT client without a user name is anonymous_login_user, from where that one may log in."
    )
    mqtt_unacknowledged_max: int = _setting(
        10, "Most messages on their way to an MQTT client that it has not acknowledged.", minimum=1, maximum=65535
    )
    mqtt_unanswered_max: int = _setting(
        200, "Most messages of QoS 1 and 2 of an MQTT 5 client that are on their way.", minimum=1, maximum=65_535
    )
    mqtt_topic_aliases_max: int = _setting(
        16, "Most topic aliases that an MQTT 5 client may use for what it publishes.", minimum=0, maximum=65_535
    )
    mqtt_keep_alive_max_s: int = _setting(
        0,
        "Longest keep-alive of an MQTT 5 client, which is told this one instead (Server Keep Alive). 0: as it likes.",
        minimum=0,
        maximum=65_535,
    )
    mqtt_session_expiry_max_s: int = _setting(
        86_400, "Longest time that an MQTT client's session outlives its connection.", minimum=0, maximum=4_294_967_295
    )
    stomp_port: int = _setting(
        -1,
        "TCP port for STOMP. -1: off, or 61613 if protocols names stomp; 0 lets the system pick one.",
        minimum=-1,
        maximum=65535,
    )
    stomp_tls_port: int = _setting(
        -1,
        "TCP port for STOMP over TLS, with a certificate. -1: off, or 61614 if protocols names stomp.",
        minimum=-1,
        maximum=65535,
    )
    stream_port: int = _setting(
        -1,
        "TCP port for RabbitMQ's stream protocol. -1: off, or 5552 if protocols names streams; 0 lets the system pick "
        "one.",
        minimum=-1,
        maximum=65535,
    )
    stream_tls_port: int = _setting(
        -1,
        "TCP port for the stream protocol over TLS, with a certificate. -1: off, or 5551 if protocols names streams.",
        minimum=-1,
        maximum=65535,
    )
    stream_frame_bytes_max: int = _setting(
        1_048_576, "Longest frame of the stream protocol.", minimum=65_536, maximum=67_108_864
    )
    stream_advertised_host: str = _setting(
        "", "Host that clients of the stream protocol are told to connect to. Empty: where they came to.", maximum=255
    )
    stream_advertised_port: int = _setting(
        0,
        "Port that clients of the stream protocol are told to connect to. 0: where they came to.",
        minimum=0,
        maximum=65535,
    )
    web_socket_port: int = _setting(
        -1,
        "TCP port for web sockets. -1: off, or 15674 if protocols names web-sockets; 0 lets the system pick one.",
        minimum=-1,
        maximum=65535,
    )
    web_socket_tls_port: int = _setting(
        -1,
        "TCP port for web sockets over TLS, with a certificate. -1: off, or 15673 if protocols names web-sockets.",
        minimum=-1,
        maximum=65535,
    )
    plugin_protocols: tuple[str, ...] = _setting(
        (), "Protocols that installed packages bring, with the TCP port of each: NAME:PORT, or NAME:PORT:tls."
    )

    # Where it keeps things and how it speaks about itself
    data_dir: str = _setting("", "Folder that holds the broker's data. Empty: the user's state folder of the platform.")
    log_level: LogLevel = _setting("info", "Least severity that is logged.")
    log_format: LogFormat = _setting("text", "text writes key=value lines, json writes one JSON object a line.")

    # What a new broker holds
    default_user: str = _setting(
        "guest", "Administrator that a new data folder starts with.", minimum=1, maximum=_NAME_BYTES_MAX
    )
    default_password: str = _setting("guest", "Password of that administrator.", secret=True)
    default_virtual_host: str = _setting(
        "/", "Virtual host that a new data folder starts with.", minimum=1, maximum=_NAME_BYTES_MAX
    )
    anonymous_login_user: str = _setting(
        "guest",
        "User that a client is who does not say who it is: MQTT and STOMP without a user name, ANONYMOUS of AMQP 1.0 "
        "and of streams. none: nobody comes in so.",
        minimum=1,
        maximum=_NAME_BYTES_MAX,
    )
    anonymous_login_password: str = _setting("guest", "Password that it has to have then.", secret=True)
    loopback_users: tuple[str, ...] = _setting(("guest",), "Users who may log in from this machine only.")

    # Who else decides who may log in, and do what
    auth_backends: tuple[str, ...] = _setting(
        ("internal",),
        "Who is asked who somebody is, in this order, until one knows them: internal (the broker's own users), http "
        "(auth_http_...), oauth2 (auth_oauth2_...), ldap (auth_ldap_...), or the name of a plugin. Who knows them "
        "decides what they may do, unless NAME/OTHER lets another one decide that.",
        minimum=1,
    )
    auth_cache_ttl_ms: int = _setting(
        15_000, "How long what others have allowed is remembered; a refusal is remembered for a second.", minimum=1000
    )
    auth_timeout_ms: int = _setting(5_000, "Longest time that others may take to decide; then it is no.", minimum=1)
    auth_http_method: HttpMethod = _setting("get", "How the back end http is asked.")
    auth_http_user_path: str = _setting("", "URL where it is asked whether a name and a password are a user's.")
    auth_http_vhost_path: str = _setting("", "URL where it is asked whether a user may use a virtual host.")
    auth_http_resource_path: str = _setting("", "URL where it is asked what a user may do with a queue or exchange.")
    auth_http_topic_path: str = _setting("", "URL where it is asked which keys of a topic exchange a user may use.")

    auth_oauth2_resource_server_id: str = _setting("", "Who tokens must be for: it is in their claim aud.")
    auth_oauth2_jwks: str = _setting("", "URL or file of the keys that tokens are signed with, a JWKS.")
    auth_oauth2_issuer: str = _setting("", "Who must have issued tokens: their claim iss. Empty: anybody.")
    auth_oauth2_scope_prefix: str = _setting(
        "", "What scopes that concern this broker begin with. Empty: auth_oauth2_resource_server_id and a dot."
    )
    auth_oauth2_username_claims: tuple[str, ...] = _setting(
        ("sub", "client_id"), "Claims that name the user; the first that is there counts.", minimum=1
    )

    auth_ldap_servers: tuple[str, ...] = _setting(
        (), "Names or addresses of directories (LDAP); the first that can be reached is asked."
    )
    auth_ldap_port: int = _setting(
        389, "Their TCP port; with TLS from the first byte mostly 636.", minimum=1, maximum=65535
    )
    auth_ldap_tls: LdapTls = _setting(
        "off", "Whether passwords go to the directory over TLS: at once, or after STARTTLS."
    )
    auth_ldap_tls_ca: str = _setting(
        "",
        "File in PEM format with the authorities that a directory's certificate must come from. Empty: the system's.",
    )
    auth_ldap_user_dn_pattern: str = _setting(
        "${username}", "The distinguished name of a user, or the name to look it up with.", minimum=1, maximum=4096
    )
    auth_ldap_dn_lookup_attribute: str = _setting(
        "",
        "Attribute that has what auth_ldap_user_dn_pattern gives, where it is no distinguished name. Empty: it is one.",
    )
    auth_ldap_dn_lookup_base: str = _setting("", "Below which distinguished name users are looked up.")
    auth_ldap_dn_lookup_bind: str = _setting(
        "as_user", "Who looks a user up: as_user, anon, or a distinguished name.", minimum=1, maximum=4096
    )
    auth_ldap_dn_lookup_password: str = _setting("", "The password of who looks users up.", secret=True)
    auth_ldap_group_lookup_base: str = _setting(
        "", "Below which distinguished name groups in groups are looked up. Empty: auth_ldap_dn_lookup_base."
    )
    auth_ldap_other_bind: str = _setting(
        "as_user", "Who asks what a user may do: as_user, anon, or a distinguished name.", minimum=1, maximum=4096
    )
    auth_ldap_other_password: str = _setting("", "The password of who asks that.", secret=True)
    auth_ldap_vhost_access_query: str = _setting(
        "{constant, true}", "RabbitMQ's query for whether a user may use a virtual host.", minimum=1, maximum=100_000
    )
    auth_ldap_resource_access_query: str = _setting(
        "{constant, true}", "The one for what a user may do with a queue or exchange.", minimum=1, maximum=100_000
    )
    auth_ldap_topic_access_query: str = _setting(
        "{constant, true}", "The one for which keys of a topic exchange a user may use.", minimum=1, maximum=100_000
    )
    auth_ldap_tag_queries: str = _setting(
        "[{administrator, {constant, false}}]", "Those for who has which tag.", minimum=1, maximum=100_000
    )

    load_definitions: str = _setting(
        "", "File of definitions, or folder of files *.json, to be imported at each start. Empty: none."
    )

    # What a client is told
    product: str = _setting(
        "RabbitMQ", "Product name in server-properties. Clients such as kombu choose their ways by it."
    )
    product_version: str = _setting(
        "", "Version in server-properties; it belongs to the product name. Empty: that of behave_like."
    )
    cluster_name: str = _setting("amqp-broker@localhost", "Cluster name in server-properties.")

    behave_like: BehaveLike = _setting(
        "3.13",
        "Which RabbitMQ's behaviour is shown where RabbitMQs differ, so that an upgrade can be rehearsed "
        "(docs/compatibility.md).",
    )

    # What is negotiated with a client
    frame_size_bytes_max: int = _setting(131_072, "Largest frame, offered in connection.tune.", minimum=4096)
    channels_per_connection_max: int = _setting(
        2047, "Most open channels on a connection, offered in connection.tune. 0: no limit.", minimum=0, maximum=65535
    )
    heartbeat_s: int = _setting(60, "Heartbeat interval offered in connection.tune. 0: none.", minimum=0, maximum=65535)

    # Limits
    connections_max: int = _setting(
        0, "Most open connections; more are refused with 530. 0: no limit but the system's, on open files.", minimum=0
    )
    handshakes_max: int = _setting(
        1000, "Most connections that have not opened a virtual host yet; more are not taken.", minimum=1
    )
    tls_handshakes_max: int = _setting(
        32, "How many TLS handshakes go on at once; more wait for their turn, a second at most.", minimum=1
    )
    handshake_timeout_ms: int = _setting(
        10_000, "Time from connecting until connection.open must have succeeded.", minimum=1
    )
    queues_max: int = _setting(0, "Most queues, all virtual hosts together. 0: no limit.", minimum=0)
    bindings_max: int = _setting(0, "Most bindings in a virtual host. 0: no limit.", minimum=0)
    consumers_per_channel_max: int = _setting(0, "Most consumers on a channel. 0: no limit.", minimum=0)
    unacknowledged_per_channel_max: int = _setting(
        0,
        "Most deliveries that wait for their acknowledgement on a channel; its consumers are given no more until some "
        "are acknowledged, and basic.get is refused with 406. 0: no limit but the prefetch that the client chooses.",
        minimum=0,
    )
    message_size_bytes_max: int = _setting(
        0,
        "Largest message body. 0: that of behave_like, 134217728, from 4.0 on 16777216.",
        minimum=0,
        maximum=536_870_912,
    )
    consumer_timeout_ms: int = _setting(
        1_800_000,
        "Longest time a delivery may stay unacknowledged before its channel is closed. 0: no limit.",
        minimum=0,
    )
    consumer_timeout_sweep_ms: int = _setting(
        60_000, "How often deliveries are checked against consumer_timeout_ms.", minimum=1
    )

    memory_high_water_bytes: int = _setting(
        0,
        "Resident memory above which publishers are held back. 0: 60 % of the machine's memory, or of a container's "
        "(its control group's limit).",
        minimum=0,
    )
    disk_free_limit_bytes: int = _setting(
        50_000_000, "Free space in the data folder below which publishers are held back.", minimum=0
    )
    memory_budget_bytes: int = _setting(
        0,
        "Memory that the broker may occupy before messages that wait in queues wait on disk only. "
        "0: 40 % of the machine's memory, or of a container's, and at most two thirds of memory_high_water_bytes.",
        minimum=0,
    )
    resource_check_ms: int = _setting(1000, "How often memory and free space are looked at.", minimum=10)

    # Flow
    read_chunk_bytes: int = _setting(
        262_144, "Most that is read from a connection before the others have their turn.", minimum=4096
    )
    outbound_high_water_bytes: int = _setting(
        1_048_576,
        "Output waiting for a connection's client above which its consumers are given nothing more.",
        minimum=4096,
    )

    output_stall_timeout_ms: int = _setting(
        1_800_000,
        "How long a client may take nothing of what waits for it before its connection is ended. 0: for ever.",
        minimum=0,
    )

    # Durability
    fsync: Fsync = _setting(
        "always",
        "When the journal is synced to disk. always: before a publisher is confirmed, so that nothing confirmed is "
        "ever lost, and within 200 ms what nobody waits for; interval: every fsync_interval_ms, a power failure may "
        "cost what was confirmed in that time; "
        "never: the system decides, a power failure may cost what was confirmed in the last half minute or so.",
    )
    fsync_interval_ms: int = _setting(200, "Time between two syncs when fsync is interval.", minimum=1)
    journal_pending_bytes_max: int = _setting(
        16_777_216, "Bytes waiting for the disk above which clients that send more are not read.", minimum=1
    )
    journal_unawaited_bytes_max: int = _setting(
        536_870_912,
        "The same while nobody waits for the disk, neither for a confirm nor for anything else: so much of large "
        "bodies, but no more than the disk takes in two seconds, a quarter of memory_budget_bytes, and half of the "
        "free space. In a cluster it is as if it were 0.",
        minimum=0,
    )
    segment_size_bytes: int = _setting(
        67_108_864, "Size at which the journal starts its next file; the first ones are smaller.", minimum=65_536
    )

    processes: int = _setting(
        1,
        "How many processes share the virtual hosts, each with a journal of its own, to use as many cores; a virtual "
        "host stays with one of them.",
        minimum=1,
        maximum=64,
    )

    # Several nodes as one broker
    cluster: str = _setting(
        "",
        "etcd's members and the cluster's name, as etcd://HOST:PORT,HOST:PORT/CLUSTER; etcds:// for TLS. "
        "Empty: this node is alone. Needs the extra cluster.",
    )
    with_etcd: str = _setting(
        "",
        "The nodes that each look after a member of etcd, which is installed, as NAME=HOST,NAME=HOST,NAME=HOST; "
        "node_name says which of them this is, and cluster is a name or empty. Empty: others look after etcd.",
    )
    cluster_secret: str = _setting("", "What all nodes of a cluster know and nobody else.", secret=True)
    node_name: str = _setting("", "How operators call this node of the cluster. Empty: the machine's name.")
    link_host: str = _setting("127.0.0.1", "Name or address at which the other nodes of the cluster reach this one.")
    link_port: int = _setting(
        25672, "TCP port for the other nodes of the cluster; 0 lets the system pick one.", minimum=0, maximum=65535
    )
    link_certificate: str = _setting(
        "",
        "File in PEM format with the certificate that this node shows the others, and they it; it is for both servers "
        "and clients. At all nodes or at none. Empty: no TLS between nodes.",
    )
    link_key: str = _setting("", "File in PEM format with the certificate's key. Empty: it is in the same file.")
    link_ca: str = _setting("", "File in PEM format with the authorities that the other nodes' certificates come from.")
    cluster_shards: int = _setting(
        1,
        "Into how many shards the virtual hosts of the cluster are divided, each with an owner and a journal of its "
        "own; the same on all nodes, and for good. 1: one node owns all.",
        minimum=1,
        maximum=64,
    )
    lease_ttl_ms: int = _setting(
        3_000, "Time without a word after which a node counts as gone; etcd counts it in seconds.", minimum=2_000
    )
    etcd_quota_bytes: int = _setting(
        2_147_483_648,
        "What etcd's --quota-backend-bytes is; publishers wait when 60 % of it are used.",
        minimum=16_777_216,
    )
    etcd_ca: str = _setting("", "File in PEM format with the authorities of etcd. Empty: those of the system.")
    etcd_certificate: str = _setting("", "File in PEM format with the certificate that etcd is shown.")
    etcd_key: str = _setting("", "File in PEM format with its key. Empty: it is in the same file.")

    # The end
    shutdown_grace_ms: int = _setting(
        3_000, "Time that clients are given to answer connection.close when the broker ends.", minimum=0, maximum=4_500
    )

    def __post_init__(self) -> None:
        for name in DESCRIPTIONS:
            check(name, getattr(self, name))

    def port_of(self, protocol: str, *, is_tls: bool = False) -> int | None:
        """The port of a protocol beside AMQP 0-9-1; None where it is off."""
        port: int = getattr(self, port_setting(protocol, is_tls=is_tls))
        if port < 0:
            return OTHER_PROTOCOLS[protocol][is_tls] if protocol in self.protocols else None
        return port


@dataclass(frozen=True, slots=True)
class Description:
    """The description of one setting: all that there is to know of it."""

    name: str
    kind: Any  # the type: int, str, tuple[str, ...] or a Literal
    default: object
    text: str
    minimum: int | None
    maximum: int | None
    is_secret: bool

    @property
    def choices(self) -> tuple[str, ...]:
        """The only values it takes; empty where there is no such list."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is Literal else ()

    @property
    def is_list(self) -> bool:
        """Whether it takes several texts."""
        return typing.get_origin(self.kind) is tuple

    @property
    def takes(self) -> str:
        """Which values it takes, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.is_list:
            return f"a list of {self.minimum} or more texts" if self.minimum else "a list of texts"
        if self.kind is str:
            return "a text" if self.maximum is None else f"a text of {self.minimum} to {self.maximum} bytes in UTF-8"
        if self.maximum is not None:
            return f"a whole number from {self.minimum} to {self.maximum}"
        return f"a whole number, {self.minimum} or more"

    def accepts(self, value: object) -> bool:
        """Whether the setting can have this value."""
        least = 0 if self.minimum is None else self.minimum
        if self.choices:
            return value in self.choices
        if self.is_list:
            return isinstance(value, tuple) and len(value) >= least and all(isinstance(item, str) for item in value)
        if self.kind is str:
            return isinstance(value, str) and (self.maximum is None or least <= _utf8_bytes(value) <= self.maximum)
        if not isinstance(value, int) or isinstance(value, bool):
            return False
        return least <= value and (self.maximum is None or value <= self.maximum)


def _utf8_bytes(text: str) -> int:
    """The length in UTF-8; -1 for what is no text, such as the bytes of another encoding in an environment variable."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return -1


def _describe() -> dict[str, Description]:
    return {
        one.name: Description(name=one.name, kind=one.type, default=one.default, **one.metadata)
        for one in fields(Settings)
    }


# Every setting by name, in the order in which it is documented.
DESCRIPTIONS: dict[str, Description] = _describe()


def split_list(text: str) -> tuple[str, ...]:
    """The value of a setting that takes several texts, of one text that has commas between them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def check(name: str, value: object) -> None:
    """Make sure that a setting can have this value.

    Raises:
        SettingError: it cannot.
    """
    description = DESCRIPTIONS[name]
    if not description.accepts(value):
        but = "" if description.is_secret else f", not {value!r}"
        raise SettingError(f"{name} takes {description.takes}{but}")
    if name == "protocols" and isinstance(value, tuple):
        unknown = [protocol for protocol in value if protocol not in OTHER_PROTOCOLS]
        if unknown:
            raise SettingError(f"protocols names {unknown[0]!r}: there are {', '.join(OTHER_PROTOCOLS)}")
