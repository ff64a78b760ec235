"""All the endpoints there are; each noun's are in its own file."""

from __future__ import annotations

from amqp_broker.management.api import (
    bindings,
    connections,
    definitions,
    exchanges,
    features,
    health,
    limits,
    messages,
    nodes,
    overview,
    parameters,
    permissions,
    policies,
    queue_messages,
    queues,
    users,
    virtual_hosts,
)
from amqp_broker.management.prometheus import scraping

ENDPOINTS = (
    *overview.ENDPOINTS,
    *nodes.ENDPOINTS,
    *queues.ENDPOINTS,
    *messages.ENDPOINTS,
    *queue_messages.ENDPOINTS,
    *exchanges.ENDPOINTS,
    *bindings.ENDPOINTS,
    *connections.ENDPOINTS,
    *virtual_hosts.ENDPOINTS,
    *users.ENDPOINTS,
    *permissions.ENDPOINTS,
    *policies.ENDPOINTS,
    *parameters.ENDPOINTS,
    *definitions.ENDPOINTS,
    *limits.ENDPOINTS,
    *health.ENDPOINTS,
    *features.ENDPOINTS,
    *scraping.WITH_LOGIN,
)

METRICS_ENDPOINTS = scraping.WITHOUT_LOGIN
