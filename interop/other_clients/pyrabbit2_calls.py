"""Everything that pyrabbit2 1.0.7 can ask of an HTTP API, asked once: ``python pyrabbit2_calls.py HOST:PORT``.

It stands alone, for an environment of its own that has pyrabbit2. Prints what was refused, and how many were answered.
"""

from __future__ import annotations

import sys
from typing import Any

from pyrabbit2.api import Client  # type: ignore[import-not-found]

SHOVEL = {"src-uri": "amqp://", "src-queue": "q", "dest-uri": "amqp://", "dest-queue": "q2"}
CALLS: list[tuple[Any, ...]] = [
    *(("is_alive",), ("get_whoami",), ("get_overview",), ("get_cluster_name",), ("get_nodes",), ("get_extensions",)),
    *(("get_definitions",), ("create_vhost", "v"), ("get_vhost", "v"), ("get_vhost_names",), ("get_all_vhosts",)),
    *(("create_user", "u", "p", "management"), ("get_users",), ("set_vhost_permissions", "v", "u", ".*", ".*", ".*")),
    *(("get_vhost_permissions", "v"), ("get_user_permissions", "u"), ("get_permissions",)),
    *(("get_permission", "v", "u"), ("delete_permission", "v", "u")),
    *(("create_exchange", "/", "x", "topic"), ("get_exchange", "/", "x"), ("get_exchanges", "/")),
    *(("create_queue", "/", "q"), ("get_queue", "/", "q"), ("get_queues", "/"), ("get_queue_depth", "/", "q")),
    *(("create_queue", "v", "q"), ("get_queue_depths", "v", ["q"])),
    *(("create_binding", "/", "x", "q", "k"), ("get_bindings",), ("get_queue_bindings", "/", "q")),
    *(("get_bindings_from_exchange", "/", "x"), ("get_bindings_to_exchange", "/", "x")),
    ("get_bindings_between_exch_and_queue", "/", "x", "q"),
    *(("publish", "/", "x", "k", "hello"), ("get_messages", "/", "q"), ("purge_queue", "/", "q")),
    *(("purge_queues", [("q", "/")]), ("delete_binding", "/", "x", "q", "k")),
    *(("create_policy", "/", "p", {"pattern": "^x", "definition": {"max-length": 3}}), ("get_policy", "/", "p")),
    *(("get_all_policies",), ("delete_policy", "/", "p"), ("get_connections",), ("get_channels",)),
    *(("get_all_shovels",), ("create_shovel", "/", "s", SHOVEL), ("get_shovel", "/", "s"), ("delete_shovel", "/", "s")),
    *(("delete_queue", "/", "q"), ("delete_exchange", "/", "x"), ("delete_user", "u"), ("delete_vhost", "v")),
]
BY_NAME = {"create_policy", "create_shovel"}  # whose last argument stands for arguments by name


def main() -> None:
    """Ask, in this order."""
    client, refused = Client(sys.argv[1], "guest", "guest"), 0
    for name, *arguments in CALLS:
        named = arguments.pop() if name in BY_NAME else {}
        try:
            getattr(client, name)(*arguments, **named)
        except Exception as error:
            refused += 1
            print(f"{name}: {type(error).__name__}: {error}")
    print(f"{len(CALLS) - refused} of {len(CALLS)} answered")


if __name__ == "__main__":
    main()
