"""The router: the endpoint that a path leads to, and what it lets whom do.

Holds the tree of paths. The endpoints are in ``api/``, one file a noun; ``api/endpoints.py`` lists them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from amqp_broker.management.http.messages import Answer

if TYPE_CHECKING:
    from amqp_broker.management.http.call import Call

Handler = Callable[["Call"], Awaitable[Answer]]


class Access(Enum):
    """The users that may call an endpoint (RabbitMQ docs, "Management Plugin", permissions).

    Administrators may call each; what they may do in a virtual host is for their permissions there to say, as for
    everybody else. To monitor is to see sums, connections and nodes, and nothing of what is in a virtual host.
    """

    ANYBODY = auto()  # without a login
    MANAGEMENT = auto()  # whoever may use the API at all
    VIRTUAL_HOST = auto()  # and has permissions in the virtual host that the path names
    VISIBLE_VIRTUAL_HOST = auto()  # or monitors all of them
    POLICYMAKER = auto()  # of that virtual host
    GLOBAL_POLICYMAKER = auto()
    MONITORING = auto()
    ADMINISTRATOR = auto()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The methods of a path, and what does them.

    Args:
        methods: by name, what does it, and who may.
    """

    path: str
    methods: Mapping[str, tuple[Access, Handler]]

    @property
    def allow(self) -> str:
        """The methods that there are, as the header lists them."""
        names = ("HEAD", *self.methods) if "GET" in self.methods else tuple(self.methods)
        return ", ".join((*names, "OPTIONS"))


@dataclass(slots=True)
class _Node:
    names: dict[str, _Node] = field(default_factory=dict)
    any_name: _Node | None = None
    variable: str = ""
    endpoint: Endpoint | None = None


class Router:
    """A tree of paths. A name that stands in it wins over one that stands for any.

    Args:
        endpoints: with paths such as ``/api/queues/{vhost}/{name}``.
    """

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._root = _Node()
        for endpoint in endpoints:
            self._add(endpoint)

    def _add(self, endpoint: Endpoint) -> None:
        node = self._root
        for segment in filter(None, endpoint.path.split("/")):
            if segment.startswith("{"):
                if node.any_name is None:
                    node.any_name = _Node()
                node = node.any_name
                node.variable = node.variable or segment[1:-1]
                assert node.variable == segment[1:-1], f"two names for one place in {endpoint.path}"
            else:
                node = node.names.setdefault(segment, _Node())
        assert node.endpoint is None, endpoint.path
        node.endpoint = endpoint

    def find(self, path: tuple[str, ...]) -> tuple[Endpoint, dict[str, str]] | None:
        """The endpoint at a path, and what its variables are; None when there is none."""
        return self._find(self._root, path, {})

    def _find(
        self, node: _Node, path: tuple[str, ...], variables: dict[str, str]
    ) -> tuple[Endpoint, dict[str, str]] | None:
        if not path:
            return None if node.endpoint is None else (node.endpoint, variables)
        by_name = node.names.get(path[0])
        found = self._find(by_name, path[1:], variables) if by_name is not None else None
        if found is None and node.any_name is not None:
            variables = {**variables, node.any_name.variable: path[0]}
            found = self._find(node.any_name, path[1:], variables)
        return found
