"""An exchange whose type a package brings: what fails in that code is logged and refused, and harms nobody else.

A publish to such an exchange is refused to its publisher, a binding to whoever binds; a dead letter goes nowhere. Holds
no way of finding packages (``plugin_types.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.exchanges.exchange import Exchange
from amqp_broker.broker.exchanges.matcher import Envelope, Matcher, Verdict
from amqp_broker.broker.plugin_types import EXCHANGE_TYPE, PluginType, find_plugin_types
from amqp_broker.broker.queues.base import Queue
from amqp_broker.errors import AmqpError
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.host import Host


class GuardedMatcher(Matcher):
    """Asks the matcher of a package, and lets nothing out of it but destinations and refusals.

    Args:
        plugin: whose code it is.
        arguments: of the exchange.

    Raises:
        AmqpError: 406, the arguments make no sense to the type, or the package's code fails.
    """

    def __init__(self, plugin: PluginType, arguments: Table) -> None:
        super().__init__(arguments)
        self._plugin = plugin
        make = plugin.load()
        self._matcher: Matcher = self._guarded("failed to make an exchange", lambda: make(arguments))
        says: Any = self._matcher  # as in ``Exchange``
        self.may_be_remembered = bool(says.may_be_remembered)
        self.counts_messages = bool(says.counts_messages)
        self.has_topic_permissions = bool(says.has_topic_permissions)

    def _guarded(self, what: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except AmqpError:
            raise
        except (Exception, SystemExit) as error:
            raise self._plugin.failed(what, error) from error

    def placed(self, virtual_host: Host, exchange: Exchange) -> None:
        virtual_host.plugin_is_used(self._plugin)
        self._guarded("failed when an exchange was made", lambda: self._matcher.placed(virtual_host, exchange))

    def check(self, binding: Binding) -> None:
        self._guarded("failed to check a binding", lambda: self._matcher.check(binding))

    def add(self, binding: Binding) -> None:
        self._guarded("failed to add a binding", lambda: self._matcher.add(binding))

    def bound(self, binding: Binding) -> None:
        self._guarded("failed after a binding was made", lambda: self._matcher.bound(binding))

    def remove(self, binding: Binding) -> None:
        try:
            self._matcher.remove(binding)
        except (Exception, SystemExit) as error:  # the binding is gone all the same
            self._plugin.failed("failed to remove a binding", error)

    def removed(self) -> None:
        try:
            self._matcher.removed()
        except (Exception, SystemExit) as error:  # the exchange is gone all the same
            self._plugin.failed("failed when an exchange was deleted", error)

    def apply(self, definition: dict[str, object]) -> None:
        try:
            self._matcher.apply(definition)
        except (Exception, SystemExit) as error:  # the policy counts for others all the same
            self._plugin.failed("failed when a policy changed", error)

    def restore(self, reference: int, value: bytes) -> int | None:
        older = self._guarded("failed to read what it had kept", lambda: self._matcher.restore(reference, value))
        return None if older is None else int(older)

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        try:
            destinations = list(self._matcher.match(message))
            for destination in destinations:
                if not isinstance(destination, Exchange | Queue):
                    raise TypeError(f"{destination!r} is neither an exchange nor a queue")
        except AmqpError:
            raise
        except (Exception, SystemExit) as error:
            raise self._plugin.failed("failed to route a message", error) from error
        return destinations

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        try:
            return self._matcher.explain(binding, message)
        except (Exception, SystemExit) as error:
            self._plugin.failed("failed to explain a route", error)
            return Verdict(None, "the package that brings this type of exchange failed to say")


class PluginExchangeType:
    """Makes the matchers of exchanges of one type, as ``MakeMatcher``.

    Args:
        plugin: where it is.
    """

    def __init__(self, plugin: PluginType) -> None:
        self.plugin = plugin

    def __call__(self, arguments: Table) -> Matcher:
        return GuardedMatcher(self.plugin, arguments)


def find_exchange_types() -> dict[str, Callable[[Table], Matcher]]:
    """Those that installed packages bring, by name; none of them is loaded."""
    return {name: PluginExchangeType(plugin) for name, plugin in find_plugin_types(EXCHANGE_TYPE).items()}
