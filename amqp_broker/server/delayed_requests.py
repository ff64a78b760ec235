"""Requests about the messages that an exchange holds back, as JSON: which are shown, cancelled, let go now.

The control socket and the HTTP API take the same. Loaded when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.delayed.acting import DelayedActing, DelayedAction
from amqp_broker.broker.delayed.holder import Holder
from amqp_broker.broker.delayed.looking import BODY_BYTES_MAX, LIMIT_MAX, DelayedInfo, DelayedLook
from amqp_broker.broker.message_filter import MessageFilter
from amqp_broker.server.message_requests import BadMessageRequest, number, read_dry_run, read_selection, text
from amqp_broker.server.walks import walk

LIMIT = 50
"""How many a look shows where nothing is said."""


async def look(broker: Broker, holder: Holder, fields: Mapping[str, Any], wanted: MessageFilter) -> DelayedInfo:
    """What is held, what is due next first: ``limit``, ``after``, ``truncate``.

    Raises:
        AdministrationError: a field is not what it should be.
    """
    limit = number(fields, "limit", LIMIT, LIMIT_MAX)
    if not limit:
        raise BadMessageRequest(f"limit is a whole number from 1 to {LIMIT_MAX}")
    body_bytes_max = number(fields, "truncate", BODY_BYTES_MAX, BODY_BYTES_MAX)
    after = text(fields, "after") or ""
    looking = DelayedLook(holder, wanted, limit=limit, after=after, body_bytes_max=body_bytes_max)
    await walk(broker, looking.steps())
    return looking.seen()


def read_acting(holder: Holder, action: DelayedAction, fields: Mapping[str, Any]) -> DelayedActing:
    """What is to be cancelled, or to go now: ``filter``, ``ids`` and ``limit``; ``dry_run``.

    Raises:
        AdministrationError: a field is not what it should be.
    """
    return DelayedActing(holder, action, read_selection(fields), dry_run=read_dry_run(fields))
