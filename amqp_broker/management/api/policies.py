"""Policies and operator policies: listed, looked at, set and cleared."""

from __future__ import annotations

import html
from collections.abc import Iterator
from functools import partial
from typing import Any

from amqp_broker.broker.inspection import policy_info
from amqp_broker.broker.policies import OPERATOR_POLICY, POLICY
from amqp_broker.broker.problems import AdministrationError, NotValid
from amqp_broker.management.api.fields import need
from amqp_broker.management.api.lists import Listing, answer_one
from amqp_broker.management.api.queues import hosts_of
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, bad_request, no_such_object
from amqp_broker.management.http.router import Access, Endpoint, Handler
from amqp_broker.server.changes import until_done

FIELDS = ("pattern", "definition", "priority", "apply-to")


def _rows(call: Call, component: str) -> Iterator[dict[str, Any]]:
    for host in hosts_of(call):
        for policy in sorted(host.policies.all(component), key=lambda policy: policy.name):
            yield {**policy_info(policy, host.name)}


async def list_policies(component: str, call: Call) -> Answer:
    """All of them, or those of a virtual host, by name."""
    rows = _rows(call, component)
    return await Listing(call, rows, lambda one: one, lambda one: str(one["name"]), has_pages=False).answer()


async def show_policy(component: str, call: Call) -> Answer:
    """One of them."""
    policy = call.virtual_host().policies.get(component, call.variables["name"])
    if policy is None:
        raise no_such_object()
    return await answer_one(call, {**policy_info(policy, call.variables["vhost"])})


async def set_policy(component: str, call: Call) -> Answer:
    """Set one, and answer when all are under it."""
    host, name, body = call.virtual_host(), call.variables["name"], call.body()
    need(body, "pattern", "definition")
    if not isinstance(body["definition"], dict):
        raise bad_request("definition must be an object")
    exists = host.policies.get(component, name) is not None
    value = {field: body[field] for field in FIELDS if field in body}
    parameters = call.administration.parameters
    try:
        await until_done(call.broker.handle(lambda: parameters.set_policy(host.name, name, value, component)))
    except NotValid as error:
        # RabbitMQ escapes what it shows of a policy for a page, but not of an operator's.
        raise bad_request(html.escape(str(error), quote=False) if component == POLICY else str(error)) from error
    except AdministrationError as error:
        raise bad_request(str(error)) from error
    await call.change(lambda: None)
    return Answer(204 if exists else 201)


async def clear_policy(component: str, call: Call) -> Answer:
    """Clear one, and answer when nothing is under it any more."""
    host, name = call.virtual_host(), call.variables["name"]
    await until_done(await call.change(lambda: call.administration.parameters.clear_policy(host.name, name, component)))
    return Answer(204)


def _endpoints(path: str, component: str, access: Access) -> tuple[Endpoint, ...]:
    def of(handler: Any) -> Handler:
        return partial(handler, component)

    return (
        Endpoint(f"/api/{path}", {"GET": (Access.MANAGEMENT, of(list_policies))}),
        Endpoint(f"/api/{path}/{{vhost}}", {"GET": (Access.VIRTUAL_HOST, of(list_policies))}),
        Endpoint(
            f"/api/{path}/{{vhost}}/{{name}}",
            {
                "GET": (access, of(show_policy)),
                "PUT": (access, of(set_policy)),
                "DELETE": (access, of(clear_policy)),
            },
        ),
    )


ENDPOINTS = (
    *_endpoints("policies", POLICY, Access.POLICYMAKER),
    *_endpoints("operator-policies", OPERATOR_POLICY, Access.ADMINISTRATOR),
)
