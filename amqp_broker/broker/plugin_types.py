"""Plugins that installed packages bring to a broker: found by entry points, loaded when it is used for the first time.

Finding them reads the metadata of every installed package, and loading one runs somebody's code: neither is done
before somebody asks for what the broker has not by itself. Whatever fails in such code is named in the log, and refused
to whoever asked for it. Holds nothing about what a plugin is; for exchanges that is ``exchanges/plugin.py``, for
messages on their way in ``interceptors.py``, for who looks on ``observer.py``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from amqp_broker.errors import AmqpError, precondition_failed
from amqp_broker.logs import log_event

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

AUTH_BACKEND: Final = "login back end"
EXCHANGE_TYPE: Final = "exchange type"
INTERCEPTOR: Final = "interceptor"
OBSERVER: Final = "observer"
PROTOCOL: Final = "protocol"

GROUPS: Final = {
    AUTH_BACKEND: "amqp_broker.auth_backends",
    EXCHANGE_TYPE: "amqp_broker.exchange_types",
    INTERCEPTOR: "amqp_broker.interceptors",
    OBSERVER: "amqp_broker.observers",
    PROTOCOL: "amqp_broker.protocols",
}
"""The group of entry points of each kind of plugin; the name of an entry point is the plugin's."""

ON_BY_DEFAULT: Final = frozenset({EXCHANGE_TYPE})
"""The kinds that are there for whoever asks for them; the others do nothing before somebody switches them on."""

BY_SETTING: Final = {AUTH_BACKEND: "auth_backends", PROTOCOL: "plugin_protocols"}
"""The kinds that a setting switches on, by naming them."""


class PluginType:
    """A plugin that a package brings.

    Args:
        kind: one of ``GROUPS``.
        entry_point: where it is.
    """

    def __init__(self, kind: str, entry_point: EntryPoint) -> None:
        self.kind = kind
        self._entry_point = entry_point
        self.name: str = entry_point.name
        self.value: str = entry_point.value

    @property
    def package(self) -> str:
        """The package that brings it, with its version."""
        distribution = self._entry_point.dist
        return "an unknown package" if distribution is None else f"{distribution.name} {distribution.version}"

    def load(self) -> Any:
        """What the entry point names.

        Raises:
            AmqpError: 406, it cannot be imported.
        """
        try:
            return self._entry_point.load()
        except (Exception, SystemExit) as error:
            raise self.failed(f"cannot be loaded from {self.value}", error) from error

    def failed(self, what: str, error: BaseException) -> AmqpError:
        """Log a failure of the package's code; returns what whoever asked for it is told."""
        problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        log_event(
            logging.ERROR, "plugin failed", type=self.name, package=self.package, failure=f"it {what}", reason=problem
        )
        return precondition_failed(f"{self.kind} '{self.name}' of {self.package} {what}: {problem}")


def find_plugin_types(kind: str) -> dict[str, PluginType]:
    """All of one kind that installed packages bring, by name; of several of one name the first that Python finds.

    Args:
        kind: one of ``GROUPS``.
    """
    from importlib.metadata import entry_points  # half of what it takes to start an interpreter

    found: dict[str, PluginType] = {}
    for entry_point in entry_points(group=GROUPS[kind]):
        found.setdefault(entry_point.name, PluginType(kind, entry_point))
    return found
