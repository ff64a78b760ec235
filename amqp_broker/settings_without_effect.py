"""Settings that were changed and yet change nothing, because another is as it is.

Known from the settings alone. What this machine has to say about them is ``cli/announcements.py``'s to know.
"""

from amqp_broker.settings import DESCRIPTIONS, OTHER_TLS_PORTS, Settings

_NO_CERTIFICATE = "TLS is off: name a certificate with tls_certificate"
_NO_LINK_CERTIFICATE = "there is no TLS between nodes: name a certificate with link_certificate"
_NO_CLIENT_CERTIFICATE = "no client is asked for a certificate: set tls_client_certificate to optional or required"


def without_effect(settings: Settings) -> list[tuple[str, str]]:
    """The settings that were changed and yet change nothing, each with the reason and the way out."""
    found: list[tuple[str, str]] = []

    def need(is_met: bool, reason: str, *names: str) -> None:
        if not is_met:
            changed = (name for name in names if getattr(settings, name) != DESCRIPTIONS[name].default)
            found.extend((name, reason) for name in changed)

    link_tls = ("link_certificate", "link_key", "link_ca")
    node = ("node_name", "link_host", "link_port", *link_tls)
    cluster = ("cluster_secret", "cluster_shards", *node, "lease_ttl_ms", "etcd_quota_bytes")
    etcd_tls = ("etcd_ca", "etcd_certificate", "etcd_key")
    is_node = bool(settings.cluster or settings.with_etcd)
    need(is_node, "this node is alone: name its cluster with cluster, or leave this out", *cluster, *etcd_tls)
    need(not is_node or bool(settings.link_certificate), _NO_LINK_CERTIFICATE, "link_key", "link_ca")
    need(not is_node or bool(settings.link_ca), "no authority is trusted: name one with link_ca", "link_certificate")
    is_etcd_ours = bool(settings.with_etcd)
    is_etcd_secured = settings.cluster.startswith("etcds:") or is_etcd_ours
    need(not is_node or is_etcd_secured, "TLS to etcd is off: use etcds://", *etcd_tls)
    need(
        not is_etcd_ours or bool(settings.etcd_certificate),
        "the members of etcd are without TLS: name their certificate with etcd_certificate",
        "etcd_ca",
        "etcd_key",
    )
    need(
        not is_etcd_ours or bool(settings.etcd_ca),
        "the members of etcd trust no authority: name one with etcd_ca",
        "etcd_certificate",
    )
    tls = [name for name in DESCRIPTIONS if name.startswith("tls_") and name != "tls_certificate"]
    need(bool(settings.tls_certificate), _NO_CERTIFICATE, *tls, "management_tls_port", *OTHER_TLS_PORTS)
    mqtt = tuple(name for name in DESCRIPTIONS if name.startswith("mqtt_") and not name.endswith("port"))
    ways_in = ("mqtt", "web-sockets")  # over which all are spoken
    is_on = any(settings.port_of(way, is_tls=is_tls) is not None for way in ways_in for is_tls in (False, True))
    need(is_on, "MQTT is off: set mqtt_port, or protocols to mqtt", *mqtt)
    has_streams = any(settings.port_of("streams", is_tls=is_tls) is not None for is_tls in (False, True))
    streams = ("stream_frame_bytes_max", "stream_advertised_host", "stream_advertised_port")
    need(has_streams, "the stream protocol is off: set stream_port, or protocols to streams", *streams)
    need(not is_node, "a node of a cluster is one process: divide its virtual hosts with cluster_shards", "processes")
    is_divided = settings.processes > 1
    need(not is_divided, "several processes speak no protocols of packages: set processes to 1", "plugin_protocols")
    need(not is_node, "a cluster takes definitions by 'amqp-broker definitions import'", "load_definitions")
    need(
        not is_node or not settings.journal_unawaited_bytes_max,
        "in a cluster it is as if it were 0: set journal_pending_bytes_max",
        "journal_unawaited_bytes_max",
    )
    need(settings.tls_client_certificate != "none", _NO_CLIENT_CERTIFICATE, "tls_ca", "tls_login_from")
    need(
        bool(settings.tls_ca),
        "no authority is trusted: name a file of authorities with tls_ca",
        "tls_client_certificate",
    )
    is_http_on = settings.management_port >= 0 or settings.metrics_port >= 0
    is_https_on = bool(settings.tls_certificate) and settings.management_tls_port >= 0
    need(is_http_on or is_https_on, "nothing listens there: set management_port or metrics_port", "management_host")
    high_water_bytes = settings.memory_high_water_bytes
    need(
        not high_water_bytes or settings.memory_budget_bytes < high_water_bytes,
        f"publishers are held back above {high_water_bytes} bytes already: set it below memory_high_water_bytes",
        "memory_budget_bytes",
    )
    need(settings.fsync == "interval", f"fsync is {settings.fsync}: set fsync to interval", "fsync_interval_ms")
    need(
        settings.consumer_timeout_ms > 0,
        "consumer_timeout_ms is 0, which is no limit: set it as well",
        "consumer_timeout_sweep_ms",
    )
    return found
