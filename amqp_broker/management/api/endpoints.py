"""All the endpoints there are; each noun's are in its own file."""

from __future__ import annotations

from amqp_broker.management.api import (
    bindings,
    brief_queues,
    connections,
    definitions,
    exchanges,
    features,
    federation,
    health,
    limits,
    log,
    messages,
    nodes,
    observing,
    overview,
    parameters,
    permissions,
    policies,
    problems,
    queue_messages,
    queues,
    session,
    shovels,
    streams,
    topology,
    traces,
    users,
    virtual_hosts,
)
from amqp_broker.management.page import assets
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
    *streams.ENDPOINTS,
    *virtual_hosts.ENDPOINTS,
    *users.ENDPOINTS,
    *permissions.ENDPOINTS,
    *policies.ENDPOINTS,
    *parameters.ENDPOINTS,
    *shovels.ENDPOINTS,
    *federation.ENDPOINTS,
    *definitions.ENDPOINTS,
    *limits.ENDPOINTS,
    *health.ENDPOINTS,
    *features.ENDPOINTS,
    *observing.ENDPOINTS,
    *traces.ENDPOINTS,
    *scraping.WITH_LOGIN,
    *session.ENDPOINTS,
    *brief_queues.ENDPOINTS,
    *problems.ENDPOINTS,
    *topology.ENDPOINTS,
    *log.ENDPOINTS,
    *assets.ENDPOINTS,
)

METRICS_ENDPOINTS = scraping.WITHOUT_LOGIN
