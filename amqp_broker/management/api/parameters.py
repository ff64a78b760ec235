"""Parameters of virtual hosts, by component and name, and global ones: listed, looked at, set and cleared."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any, Final

from amqp_broker.access.client import check_access
from amqp_broker.broker.limit_values import LIMITS_COMPONENT
from amqp_broker.broker.problems import AdministrationError, NotValid
from amqp_broker.client.uri import BadUri, parse_uri
from amqp_broker.errors import AmqpError
from amqp_broker.management.api.fields import need
from amqp_broker.management.api.lists import Listing, answer_one
from amqp_broker.management.api.overview import open_hosts
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, bad_request, no_such_object
from amqp_broker.management.http.router import Access, Endpoint

ADDRESSES: Final = ("src-uri", "dest-uri", "uri")  # of brokers, in parameters of shovels and of federation

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
        _check_addresses(call, host.name, body["value"])
        call.broker.handle(lambda: parameters.set_parameter(host.name, component, name, body["value"]))
    except NotValid as error:
        raise bad_request(html.escape(str(error), quote=False)) from error
    except AdministrationError as error:
        raise bad_request(str(error)) from error
    await call.change(lambda: None)
    return Answer(204 if exists else 201)


def _check_addresses(call: Call, own: str, value: object) -> None:
    """Refuse an address of this broker itself in a virtual host where whoever sets it may not be, as RabbitMQ does.

    What connects there needs no password, and may do anything.

    Args:
        own: the virtual host of the parameter, where an address leads that names none.

    Raises:
        NotValid: there is one.
        NotDecidedYet: to be asked again when somebody else has said.
    """
    for address in _addresses(value):
        try:
            uri = parse_uri(address)
        except BadUri:
            continue  # whose parameter it is says so
        if not uri.is_local:
            continue
        virtual_host = own if uri.virtual_host is None else uri.virtual_host
        problem = NotValid([f'user "{call.user.name}" may not connect to vhost "{virtual_host}"'])
        if virtual_host not in call.broker.virtual_hosts:
            raise problem
        try:
            check_access(call.user, virtual_host)
        except AmqpError as error:
            raise problem from error


def _addresses(value: object) -> Iterator[str]:
    """The addresses of brokers that a parameter names."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            for said in [one.get(name) for name in ADDRESSES]:
                yield from [each for each in (said if isinstance(said, list) else [said]) if isinstance(each, str)]


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
