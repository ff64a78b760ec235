"""Where RabbitMQs differ, a row for each difference: what docs/compatibility.md says of the setting ``behave_like``.

``amqp_broker/behaviour.py`` has the same as fields; tests/unit/test_behaviour.py compares the two.
"""

from __future__ import annotations

from typing import NamedTuple

SERIES = ("3.10", "3.13", "4.0", "4.3")


class Row(NamedTuple):
    """One difference.

    Args:
        fields: of ``Behaviour``, which it goes by.
        what: it is about.
        shown: by each of ``SERIES``; where nothing has changed, the same words, or ``as`` the one that had it first.
    """

    fields: tuple[str, ...]
    what: str
    shown: tuple[str, str, str, str]


ROWS = (
    Row(("version",), "version in server-properties", ("3.10.8", "3.13.7", "4.0.5", "4.3.0")),
    Row(
        ("unknown_exchange_type_ends_connection",),
        "exchange.declare of an unknown type",
        ("503, connection", "406, channel", "as 3.13", "as 3.13"),
    ),
    Row(
        ("refusals_name_the_permission",),
        "refusals",
        ("`access to queue ...`", "`configure access to queue ...`", "as 3.13", "as 3.13"),
    ),
    Row(
        ("topic_permission_is_asked_for_copies",),
        "topic permission is asked for the keys in CC and BCC",
        ("no", "no", "yes", "yes"),
    ),
    Row(
        ("queue_type_is_filled_in",),
        "`x-queue-type` left out, in texts about another type",
        ("none", "none", "classic", "classic"),
    ),
    Row(("message_size_bytes_max",), "largest message", ("128 MiB", "128 MiB", "16 MiB", "16 MiB")),
    Row(
        ("deaths_have_last_headers",),
        "`x-last-death-*`; a fixed order in `x-death`; CC kept beside a dead-letter routing key",
        ("no", "yes", "yes", "yes"),
    ),
    Row(
        (
            "reads_deaths_of_clients",
            "deaths_have_last_headers",
        ),
        "`x-death` from a client",
        ("read", "read, where whole", "not read", "not read"),
    ),
    Row(("delivery_limit",), "delivery limit of a quorum queue", ("none", "none", "20", "20")),
    Row(
        ("negative_delivery_limit_is_none",),
        "negative `x-delivery-limit`",
        ("over at once", "over at once", "no limit", "no limit"),
    ),
    Row(
        ("first_delivery_is_counted",), "`x-delivery-count` at the first basic.get", ("0", "absent", "absent", "absent")
    ),
    Row(
        ("quorum_priorities",),
        "priorities of quorum queues",
        ("none", "none", "two: two turns of three for those above 4", "32, highest first; none is 4"),
    ),
    Row(
        ("highest_consumer_takes_over",),
        "the next single active consumer of a quorum queue",
        ("the oldest", "the oldest", "of the highest priority", "as 4.0"),
    ),
    Row(
        ("highest_consumer_takes_over",),
        "a higher one, once the active one has settled all",
        ("waits", "waits", "takes over", "takes over"),
    ),
    Row(
        ("texts_name_streams",),
        "consumers of a stream, in refusals",
        ("`stream queues queue 'q' ...`", "as 3.10", "`stream queue 'q' ...`", "as 4.0"),
    ),
    Row(
        ("streams_take_refusals",),
        "basic.nack and reject of a stream's entry",
        ("540, connection", "as 3.10", "as basic.ack", "as 4.0"),
    ),
    Row(
        ("readers_store_offsets",),
        "StoreOffset of the stream protocol needs",
        ("write", "read", "read", "as 4.0"),
    ),
    Row(
        ("streams_have_anonymous",),
        "the stream protocol has ANONYMOUS",
        ("no", "no", "yes", "yes"),
    ),
    Row(
        ("classic_queues_have_leader_locators",),
        "`x-queue-leader-locator` of a classic queue",
        ("406, channel", "406, channel", "taken", "taken"),
    ),
    Row(
        ("has_global_prefetch",),
        "basic.qos with global",
        ("of the channel", "of the channel", "of the channel", "as without it"),
    ),
    Row(("has_transient_queues",), "transient queues that are not exclusive", ("yes", "yes", "yes", "541, connection")),
    Row(
        ("passive_declarations_need_a_permission",),
        "a passive declaration needs",
        ("nothing", "nothing", "nothing", "any permission for it"),
    ),
)


def table() -> str:
    """The rows in Markdown."""
    rows = [("what", *SERIES), *((row.what, *row.shown) for row in ROWS)]
    head, *lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([head, "|---|---|---|---|---|", *lines])
