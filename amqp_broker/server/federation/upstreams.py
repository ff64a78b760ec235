"""The federation links that there are to be: of policies, and of the parameters that these name.

Pure; what runs them is ``supervisor.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from amqp_broker.access.patterns import BadPattern, Pattern
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.policies import FEDERATION_PATTERN, FEDERATION_SET, FEDERATION_UPSTREAM
from amqp_broker.broker.problems import NotValid
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.virtual_host import VirtualHost
from amqp_broker.logs import log_event
from amqp_broker.server.federation.definition import Upstream, check_upstream, check_upstream_set, read_upstream
from amqp_broker.server.federation.link_name import LinkName

ALL = "all"  # the set that has every upstream of its virtual host


@dataclass(frozen=True, slots=True)
class WantedLink:
    """A link that there is to be.

    Args:
        federated: the exchange or queue here.
        policy: the policy that asks for it.
    """

    upstream: Upstream
    federated: Exchange | Queue
    policy: str


class WantedLinks:
    """The links that a broker's policies ask for."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._refused: set[tuple[str, str, str]] = set()  # told once

    def all(self) -> dict[LinkName, WantedLink]:
        """All of them, as things are."""
        wanted: dict[LinkName, WantedLink] = {}
        for host in self._broker.virtual_hosts.values():
            upstreams = self._upstreams(host)
            if not upstreams:
                continue
            for kind, federated in _federated(host):
                for upstream in self._of(host, federated, upstreams):
                    there = upstream.exchange if kind == "exchange" else upstream.queue
                    name = federated.name if there is None else there
                    link = LinkName(host.name, kind, federated.name, upstream.name, name)
                    wanted[link] = WantedLink(upstream, federated, _policy_of(federated))
        return wanted

    def _upstreams(self, host: VirtualHost) -> dict[str, Mapping[str, Any]]:
        return {
            name: parameter.value
            for (component, name), parameter in host.parameters.items()
            if component == FEDERATION_UPSTREAM and self._is_valid(host, component, name, parameter.value)
        }

    def _is_valid(self, host: VirtualHost, component: str, name: str, value: object) -> bool:
        """Whether a parameter can be read; an earlier release has kept what it was told without a look."""
        try:
            (check_upstream if component == FEDERATION_UPSTREAM else check_upstream_set)(name, value)
        except NotValid as error:
            key = (host.name, component, name)
            if key not in self._refused:
                self._refused.add(key)
                names = {"component": component, "parameter": name, "vhost": host.name}
                log_event(logging.ERROR, "federation parameter refused", **names, reason=str(error))
            return False
        return True

    def _of(
        self, host: VirtualHost, federated: Exchange | Queue, upstreams: dict[str, Mapping[str, Any]]
    ) -> Iterator[Upstream]:
        for element in self._elements(host, federated, upstreams):
            name = element["upstream"]
            if name in upstreams:
                of_set = {key: value for key, value in element.items() if key != "upstream"}
                yield read_upstream(name, upstreams[name], of_set)

    def _elements(
        self, host: VirtualHost, federated: Exchange | Queue, upstreams: dict[str, Mapping[str, Any]]
    ) -> list[Mapping[str, Any]]:
        """The upstreams that a policy names, each with what the set says of it."""
        assert federated.in_force is not None
        definition = federated.in_force.definition
        if FEDERATION_UPSTREAM in definition:
            return [{"upstream": definition[FEDERATION_UPSTREAM]}]
        if FEDERATION_PATTERN in definition:
            try:
                pattern = Pattern(str(definition[FEDERATION_PATTERN]))
            except BadPattern:  # an earlier release has kept it
                return []
            return [{"upstream": name} for name in upstreams if pattern.matches(name)]
        name = str(definition[FEDERATION_SET])
        if name == ALL:
            return [{"upstream": one} for one in upstreams]
        parameter = host.parameters.get((FEDERATION_SET, name))
        if parameter is None or not self._is_valid(host, FEDERATION_SET, name, parameter.value):
            return []
        elements: list[Mapping[str, Any]] = parameter.value
        return elements


def _federated(host: VirtualHost) -> Iterator[tuple[str, Exchange | Queue]]:
    for exchange in host.exchanges.values():
        if exchange.name and not exchange.internal and _is_federated(exchange):
            yield "exchange", exchange
    for queue in host.queues.values():
        if not queue.holds_back and "x-internal-purpose" not in queue.table and _is_federated(queue):
            yield "queue", queue


def _is_federated(one: Exchange | Queue) -> bool:
    return one.in_force is not None and one.in_force.federates


def _policy_of(one: Exchange | Queue) -> str:
    return one.in_force.policy.name if one.in_force is not None and one.in_force.policy is not None else ""
