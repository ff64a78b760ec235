"""The feature flags of RabbitMQ 3.13 that programs and scripts look for: what each stands for is always there."""

from __future__ import annotations

FEATURE_FLAGS = (
    "classic_mirrored_queue_version",
    "classic_queue_type_delivery_support",
    "direct_exchange_routing_v2",
    "drop_unroutable_metric",
    "empty_basic_get_metric",
    "feature_flags_v2",
    "implicit_default_bindings",
    "listener_records_in_ets",
    "maintenance_mode_status",
    "message_containers",
    "quorum_queue",
    "quorum_queue_non_voters",
    "restart_streams",
    "stream_filtering",
    "stream_queue",
    "stream_sac_coordinator_unblock_group",
    "tracking_records_in_ets",
    "user_limits",
    "virtual_host_metadata",
)
