"""Parameters of virtual hosts, by component and name, and global ones: listed, looked at, set and cleared."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from amqp_broker.broker.limit_values import LIMITS_COMPONENT
from amqp_broker.broker.problems import AdministrationError, NotValid
from amqp_broker.management.api.fields import need
from amqp_broker.management.api.lists import Listing, answer_one
from amqp_broker.management.api.overview import open_hosts
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, bad_request, no_such_object
from amqp_broker.management.http.router import Access, Endpoint

Row = Mapping[str, Any]


def _rows(call: Call) -> list[Row]:
    """Those that the path and the user's virtual hosts leave."""
    component = call.variables.get("component")
    names = [call.virtual_host().name] if "vhost" in call.variables else open_hosts(call)
    return [one for name in names for one in call.inspection.parameters(name, component)]


def _name_of(row: Row) -> str:
    return str(row["name"])


async def list_parameters(call: Call) -> Answer:
    """All of them, of a component, or of a component in a virtual host."""
    return await Listing(call, _rows(call), lambda one: one, _name_of, has_pages=False).answer()


def _find(call: Call) -> Row | None:
    return next((row for row in _rows(call) if row["name"] == call.variables["name"]), None)


async def show_parameter(call: Call) -> Answer:
    """One of them."""
    row = _find(call)
    if row is None:
        raise no_such_object()
    return await answer_one(call, row)


async def set_parameter(call: Call) -> Answer:
    """Set one."""
    host, body = call.virtual_host(), call.body()
    need(body, "value")
    exists = _find(call) is not None
    component, name = call.variables["component"], call.variables["name"]
    parameters = call.administration.parameters
    try:
        call.broker.handle(lambda: parameters.set_parameter(host.name, component, name, body["value"]))
    except NotValid as error:
        raise bad_request(html.escape(str(error), quote=False)) from error
    except AdministrationError as error:
        raise bad_request(str(error)) from error
    await call.change(lambda: None)
    return Answer(204 if exists else 201)


async def clear_parameter(call: Call) -> Answer:
    """Clear one."""
    host, component, name = call.virtual_host(), call.variables["component"], call.variables["name"]
    if component == LIMITS_COMPONENT and _find(call) is None:
        raise no_such_object()
    await call.change(lambda: call.administration.parameters.clear_parameter(host.name, component, name))
    return Answer(204)


# --- of the whole broker


def _global_rows(call: Call) -> list[Row]:
    own: list[Row] = [{"name": "cluster_name", "value": call.management.cluster_name}]
    return [*own, *(one for one in call.inspection.global_parameters() if one["name"] != "cluster_name")]


async def list_global(call: Call) -> Answer:
    """All of them."""
    return await Listing(call, _global_rows(call), lambda one: one, _name_of, has_pages=False).answer()


async def show_global(call: Call) -> Answer:
    """One of them."""
    for row in _global_rows(call):
        if row["name"] == call.variables["name"]:
            return await answer_one(call, row)
    raise no_such_object()


async def set_global(call: Call) -> Answer:
    """Set one to anything that JSON has."""
    body, name = call.body(), call.variables["name"]
    need(body, "value")
    exists = ("", name) in call.broker.global_parameters
    await call.change(lambda: call.administration.parameters.set_global_parameter(name, body["value"]))
    return Answer(204 if exists else 201)


async def clear_global(call: Call) -> Answer:
    """Clear one."""
    name = call.variables["name"]
    await call.change(lambda: call.administration.parameters.clear_global_parameter(name))
    return Answer(204)


ENDPOINTS = (
    Endpoint("/api/parameters", {"GET": (Access.GLOBAL_POLICYMAKER, list_parameters)}),
    Endpoint("/api/parameters/{component}", {"GET": (Access.GLOBAL_POLICYMAKER, list_parameters)}),
    Endpoint("/api/parameters/{component}/{vhost}", {"GET": (Access.POLICYMAKER, list_parameters)}),
    Endpoint(
        "/api/parameters/{component}/{vhost}/{name}",
        {
            "GET": (Access.POLICYMAKER, show_parameter),
            "PUT": (Access.POLICYMAKER, set_parameter),
            "DELETE": (Access.POLICYMAKER, clear_parameter),
        },
    ),
    Endpoint("/api/global-parameters", {"GET": (Access.GLOBAL_POLICYMAKER, list_global)}),
    Endpoint(
        "/api/global-parameters/{name}",
        {
            "GET": (Access.GLOBAL_POLICYMAKER, show_global),
            "PUT": (Access.GLOBAL_POLICYMAKER, set_global),
            "DELETE": (Access.GLOBAL_POLICYMAKER, clear_global),
        },
    ),
)
