"""The last lines of the log."""

from __future__ import annotations

import logging

from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json
from amqp_broker.management.http.router import Access, Endpoint

LINES_SHOWN = 300


async def show_log(call: Call) -> Answer:
    """The last lines, the newest first; the query's ``level`` is the least severity, ``search`` stands in the line."""
    query = call.request.query
    least = logging.getLevelNamesMapping().get(query.get("level", "debug").upper(), logging.DEBUG)
    wanted = query.get("search", "").lower()
    rows: list[dict[str, object]] = []
    for number, record in reversed(call.management.server.log_lines.lines):
        fields = {name: value for name, value in getattr(record, "fields", {}).items() if value is not None}
        text = f"{record.getMessage()} {fields}".lower()
        if record.levelno >= least and wanted in text:
            rows.append(
                {
                    "number": number,
                    "time_ms": int(record.created * 1000),
                    "level": record.levelname.lower(),
                    "event": record.getMessage(),
                    "fields": fields,
                }
            )
        if len(rows) == LINES_SHOWN:
            break
    return answer_json({"lines": rows})


ENDPOINTS = (Endpoint("/api/x/log", {"GET": (Access.MONITORING, show_log)}),)
