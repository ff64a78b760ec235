"""The commands of RabbitMQ's tools that nothing here could stand for: each ends with 69, and names the way out.

docs/operations.md has the same list for people (``tests/unit/test_rabbitmqctl.py`` compares them).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from amqp_broker.cli.rabbitmqctl.call import Call
from amqp_broker.cli.rabbitmqctl.commands import Command, Commands
from amqp_broker.cli.rabbitmqctl.outcome import Code, Failed, Result

GROUP = "Not here: each says what to do instead"


class Refused(NamedTuple):
    """Commands that there are not, for one reason."""

    names: tuple[str, ...]
    reason: str  # and what to do instead


OF_CTL = (
    Refused(
        ("eval", "eval_file", "exec", "hipe_compile"),
        "there is no Erlang here to run it: see amqp-broker --help for what can be asked",
    ),
    Refused(
        ("environment", "decode", "encode", "decrypt_conf_value", "encrypt_conf_value"),
        "settings are no Erlang terms here, and hold nothing encrypted: amqp-broker config show prints them",
    ),
    Refused(
        ("start_app", "stop_app"), "broker and process are one here: stop ends both, and amqp-broker serve begins both"
    ),
    Refused(
        ("reset", "force_reset", "force_boot", "force_standalone_khepri_boot"),
        "there is no database to be reset: end the broker and remove its data folder instead",
    ),
    Refused(
        ("join_cluster", "forget_cluster_node", "change_cluster_node_type", "rename_cluster_node",
         "update_cluster_nodes"),
        "nodes find each other in etcd: start one with amqp-broker serve --cluster, and see amqp-broker cluster status",
    ),
    Refused(
        ("sync_queue", "cancel_sync_queue", "remove_classic_queue_mirroring_from_policies"),
        "there are no mirrored queues: what the cluster keeps of each is whole",
    ),
    Refused(
        ("activate_free_disk_space_monitoring", "deactivate_free_disk_space_monitoring"),
        "the disk is always looked at: set_disk_free_limit 0 lets it run full",
    ),
    Refused(("rotate_logs",), "the log goes to standard error: the service manager, or copytruncate, rotates it"),
    Refused(("report",), "call status, list_queues and the other lists, and amqp-broker definitions export"),
    Refused(("list_ciphers", "list_hashes"), "they are for values that are encrypted, of which settings have none"),
)  # fmt: skip
OF_DIAGNOSTICS = (
    Refused(
        ("command_line_arguments", "erlang_cookie_hash", "erlang_cookie_sources", "maybe_stuck", "observer",
         "remote_shell", "resolver_info", "runtime_thread_stats"),
        "there is no Erlang here to ask: see amqp-broker status and amqp-broker top",
    ),
    Refused(
        ("metadata_store_status", "schema_info"),
        "there is no database of Erlang's: amqp-broker journal check looks at what is on disk",
    ),
    Refused(
        ("discover_peers",), "nodes find each other in etcd: amqp-broker cluster status shows them"
    ),
    Refused(
        ("list_network_interfaces", "os_env", "resolve_hostname"),
        "the system's own tools say it: ip address, /proc/PID/environ, getent hosts",
    ),
    Refused(
        ("disable_auth_attempt_source_tracking", "enable_auth_attempt_source_tracking",
         "reset_node_auth_attempt_metrics"),
        "attempts to log in are counted for all sources together, from the start on: GET /api/auth/attempts/NODE",
    ),
    Refused(
        ("certificates", "check_certificate_expiration", "cipher_suites", "tls_versions"),
        "ask the listener: openssl s_client -connect HOST:5671, or "
        "GET /api/health/checks/certificate-expiration/WITHIN/UNIT",
    ),
    Refused(
        ("list_policies_that_match",), "amqp-broker queues show NAME says which policy counts, and what is in force"
    ),
)  # fmt: skip
OF_QUEUES = (
    Refused(("coordinator_status",), "there is no coordinator: amqp-broker cluster status shows who owns what"),
)
OF_STREAMS = (
    Refused(
        ("set_stream_retention_policy",),
        "set a policy with max-age or max-length-bytes: rabbitmqctl set_policy NAME PATTERN DEFINITION",
    ),
    Refused(
        ("add_replica", "delete_replica", "restart_stream", "coordinator_status"),
        "a stream is whole on the node that owns it, and the cluster keeps what another needs to take over",
    ),
    Refused(
        ("activate_stream_consumer", "reset_offset"),
        "clients do that themselves, who store offsets and say where they begin: see list_stream_tracking",
    ),
)  # fmt: skip


def _refuse(name: str, reason: str, call: Call) -> Result:
    raise Failed(Code.UNAVAILABLE, f"there is no {name} here: {reason}")


def commands_of(refused: tuple[Refused, ...]) -> Commands:
    """The same as commands."""
    return {
        name: Command(GROUP, "[...]", "Refused", partial(_refuse, name, one.reason), (0, None), takes_any_option=True)
        for one in refused
        for name in one.names
    }
