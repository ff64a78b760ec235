"""Features of this broker, as RabbitMQ names them: extensions, feature flags; what concerns clusters (there are none);
and the page that says where the API is.
"""

from __future__ import annotations

from amqp_broker.feature_flags import FEATURE_FLAGS
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, answer_json, bad_request
from amqp_broker.management.http.router import Access, Endpoint
from amqp_broker.settings import DESCRIPTIONS

PAGE = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>amqp-broker</title></head>
<body><h1>amqp-broker</h1>
<p>The HTTP API of RabbitMQ's management plugin is at <code>/api</code>: for instance
<a href="/api/overview">overview</a>, <a href="/api/queues">queues</a>,
<a href="/api/exchanges">exchanges</a>, <a href="/api/connections">connections</a>.
It asks for a user's name and password; the user needs the tag management, monitoring, policymaker or administrator.</p>
</body></html>
"""


async def show_api(call: Call) -> Answer:
    """What there is here, for a person."""
    return Answer(body=PAGE, content_type="text/html; charset=utf-8")


async def list_extensions(call: Call) -> Answer:
    """Parts of RabbitMQ's page, which is not here."""
    return answer_json([])


async def list_feature_flags(call: Call) -> Answer:
    """All of them, enabled."""
    return answer_json(
        [
            {
                "name": name,
                "desc": "",
                "doc_url": "",
                "state": "enabled",
                "stability": "stable",
                "provided_by": "rabbit",
            }
            for name in FEATURE_FLAGS
        ]
    )


async def enable_feature_flag(call: Call) -> Answer:
    """What is enabled already."""
    if call.variables["name"] not in FEATURE_FLAGS:
        raise bad_request("unsupported")
    return Answer(204)


async def list_nothing(call: Call) -> Answer:
    """A list of what there is none of."""
    return answer_json([])


async def do_nothing(call: Call) -> Answer:
    """What changes nothing on one node."""
    return Answer(204)


async def forget_samples(call: Call) -> Answer:
    """Let rates and samples begin anew."""
    call.management.samples.forget()
    return Answer(204)


async def show_configuration(call: Call) -> Answer:
    """The settings in force, without secrets."""
    settings = call.management.server.settings
    return answer_json({name: getattr(settings, name) for name, one in DESCRIPTIONS.items() if not one.is_secret})


ENDPOINTS = (
    Endpoint("/api", {"GET": (Access.ANYBODY, show_api)}),
    Endpoint("/api/extensions", {"GET": (Access.MANAGEMENT, list_extensions)}),
    Endpoint("/api/feature-flags", {"GET": (Access.MANAGEMENT, list_feature_flags)}),
    Endpoint("/api/feature-flags/{name}/enable", {"PUT": (Access.ADMINISTRATOR, enable_feature_flag)}),
    Endpoint("/api/deprecated-features", {"GET": (Access.MANAGEMENT, list_nothing)}),
    Endpoint("/api/deprecated-features/used", {"GET": (Access.MANAGEMENT, list_nothing)}),
    Endpoint("/api/rebalance/queues", {"POST": (Access.ADMINISTRATOR, do_nothing)}),
    Endpoint("/api/reset", {"DELETE": (Access.ADMINISTRATOR, forget_samples)}),
    Endpoint("/api/reset/{node}", {"DELETE": (Access.ADMINISTRATOR, forget_samples)}),
    Endpoint("/api/config/effective", {"GET": (Access.ADMINISTRATOR, show_configuration)}),
)
