"""An onlooker that tells federation links of their broker: bindings, consumers, and what of theirs has gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.broker.observer import Happening, Kind, Onlooker, Subject
from amqp_broker.server.federation.link import Link


class FederationOnlooker(Onlooker):
    """Wakes links, and whoever sees to them.

    Args:
        changed: called when what is federated has gone.
        links: those that there are.
    """

    def __init__(self, changed: Callable[[], None], links: Callable[[], Sequence[Link]]) -> None:
        self._changed = changed
        self._links = links

    def declared(self, subject: Subject, by: str) -> None:
        """A binding may be of a federated exchange."""
        if subject.kind is Kind.BINDING:
            self._bindings_changed(subject)

    def deleted(self, subject: Subject, by: str) -> None:
        """What is federated may have gone, or one of its bindings."""
        if subject.kind is Kind.BINDING:
            self._bindings_changed(subject)
        elif any(link.federated_has_gone for link in self._links()):
            self._changed()

    def _bindings_changed(self, subject: Subject) -> None:
        binding = subject.thing
        assert isinstance(binding, Binding)
        for link in self._links():
            if link.is_of(binding.source):
                link.look.set()

    def happened(self, happening: Happening) -> None:
        """A consumer that comes may leave its queue short of messages."""
        if happening.name.startswith("consumer."):
            for link in self._links():
                link.look_at_consumers()
