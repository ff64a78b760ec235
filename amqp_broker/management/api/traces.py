"""Traces to files, as RabbitMQ's plugin rabbitmq_tracing has them: started and ended, their files read and deleted."""

from __future__ import annotations

from pathlib import Path

import trio

from amqp_broker.management.api.fields import need
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json, no_such_object
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.server.trace_writer import trace_file, trace_files


async def list_traces(call: Call) -> Answer:
    """The traces, all or of a virtual host."""
    if "vhost" in call.variables:
        call.virtual_host()
    return answer_json([trace.describe() for trace in call.broker.file_traces.all(call.variables.get("vhost"))])


async def show_trace(call: Call) -> Answer:
    """A trace."""
    call.virtual_host()
    names = call.variables
    found = await call.change(lambda: call.broker.file_traces.get(names["vhost"], names["name"]))
    return answer_json(found.describe())


async def put_trace(call: Call) -> Answer:
    """Begin a trace, or another one in its place."""
    host, body = call.virtual_host(), call.body()
    need(body, "format")
    need(body, "pattern")
    await call.change(lambda: call.broker.file_traces.add(host, call.variables["name"], body, call.user.name))
    return Answer(201)


async def delete_trace(call: Call) -> Answer:
    """End a trace."""
    call.virtual_host()
    names = call.variables
    await call.change(lambda: call.broker.file_traces.remove(names["vhost"], names["name"], call.user.name))
    return Answer(204)


def _file(call: Call) -> Path:
    folder = call.management.server.trace_folder
    path = None if folder is None else trace_file(folder, call.variables["file"])
    if path is None:
        raise no_such_object()
    return path


async def list_files(call: Call) -> Answer:
    """The files that there are."""
    folder = call.management.server.trace_folder
    return answer_json([] if folder is None else await trio.to_thread.run_sync(trace_files, folder))


async def show_file(call: Call) -> Answer:
    """What is in a file."""
    data = await trio.to_thread.run_sync(_file(call).read_bytes)
    return Answer(body=data, content_type="text/plain; charset=utf-8")


async def delete_file(call: Call) -> Answer:
    """Delete a file."""
    await trio.to_thread.run_sync(_file(call).unlink)
    return Answer(204)


_ONE = {
    "GET": (Access.ADMINISTRATOR, show_trace),
    "PUT": (Access.ADMINISTRATOR, put_trace),
    "DELETE": (Access.ADMINISTRATOR, delete_trace),
}
_ALL = {"GET": (Access.ADMINISTRATOR, list_traces)}
_FILE = {"GET": (Access.ADMINISTRATOR, show_file), "DELETE": (Access.ADMINISTRATOR, delete_file)}
_FILES = {"GET": (Access.ADMINISTRATOR, list_files)}

ENDPOINTS = (
    Endpoint("/api/traces", _ALL),
    Endpoint("/api/traces/{vhost}", _ALL),
    Endpoint("/api/traces/{vhost}/{name}", _ONE),
    Endpoint("/api/traces/node/{node}", _ALL),
    Endpoint("/api/traces/node/{node}/{vhost}", _ALL),
    Endpoint("/api/traces/node/{node}/{vhost}/{name}", _ONE),
    Endpoint("/api/trace-files", _FILES),
    Endpoint("/api/trace-files/{file}", _FILE),
    Endpoint("/api/trace-files/node/{node}", _FILES),
    Endpoint("/api/trace-files/node/{node}/{file}", _FILE),
)
