"""The contract of an exchange type: one matcher for each exchange of the type, and what it may ask of a message.

How to add a type: derive from ``Matcher``, and let an entry point of the group ``amqp_broker.exchange_types`` name the
class, or any function that makes one of an exchange's arguments (docs/plugins.md); or register it with
``Broker.exchange_types``. ``tests/unit/test_exchange_types.py`` is what every type must pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from amqp_broker.broker.exchanges.binding import Binding
from amqp_broker.compilation import mypyc_attr
from amqp_broker.wire.content import Properties, decode_properties
from amqp_broker.wire.table import Table

if TYPE_CHECKING:
    from amqp_broker.broker.exchanges.exchange import Exchange
    from amqp_broker.broker.host import Host
    from amqp_broker.broker.queues.base import Queue


class Verdict:
    """The answer of a matcher about one binding and one message.

    Args:
        matches: whether the message goes that way; None where that is not known beforehand.
        why: in words, for people.
    """

    __slots__ = ("matches", "why")

    def __init__(self, matches: bool | None, why: str) -> None:
        self.matches = matches
        self.why = why


class Envelope:
    """A message as a matcher sees it; what it does not ask for is not decoded.

    Args:
        routing_keys: the key it was published with, then those of CC and BCC.
        header: its content header; empty where a route is looked for that all messages with these keys have.
        headers: the table of its headers, decoded; without a content header, those that all these messages have.
        body: the whole body.
        is_put_off: whether it is published in a transaction, which may never be committed.
    """

    __slots__ = ("_properties", "body", "header", "headers", "is_put_off", "routing_keys")

    def __init__(
        self,
        routing_keys: tuple[str, ...],
        header: bytes = b"",
        headers: Table | None = None,
        body: bytes = b"",
        *,
        is_put_off: bool = False,
    ) -> None:
        self.is_put_off = is_put_off
        self.routing_keys = routing_keys
        self.header = header
        self.headers = headers
        self.body = body
        self._properties: Properties | None = None

    @property
    def properties(self) -> Properties:
        """All its properties."""
        if self._properties is None:
            self._properties = decode_properties(self.header) if self.header else Properties()
        return self._properties


@mypyc_attr(allow_interpreted_subclasses=True)
class Matcher:
    """One exchange's way of choosing destinations; one class an exchange type.

    Args:
        arguments: of the exchange, as they were declared.

    Raises:
        AmqpError: 406, an argument makes no sense to the type.
    """

    may_be_remembered = True
    """Whether the answer depends on nothing but the routing keys and the bindings. Then it is asked for once for many
    messages; else for each, and only then it may look at more of a message than its routing keys.
    """

    counts_messages = False
    """Whether it remembers messages that it was asked about, for which its answer may not be remembered. Then one that
    is published in a transaction is asked about when that is committed, not before, and in a dry run none is. A
    persistent one that it sends nowhere may be a duplicate: it is confirmed when all that was there before is kept.
    """

    has_topic_permissions = False
    """Whether users' topic permissions apply to the routing keys of what is published and bound."""

    def __init__(self, arguments: Table) -> None:
        self.arguments = arguments

    def placed(self, virtual_host: Host, exchange: Exchange) -> None:
        """Called once, when the exchange is in its virtual host: when it is declared, and at each start again."""

    def removed(self) -> None:
        """Called when the exchange is deleted."""

    def apply(self, definition: dict[str, object]) -> None:
        """Called when other policies are in force for the exchange than before.

        Args:
            definition: of them all; empty when there is none any more.
        """

    def restore(self, reference: int, value: bytes) -> int | None:
        """Called at a start, after ``placed``, for each record that the type has written for the exchange with
        ``Durability.keep_for_exchange`` and not dropped, the oldest first.

        Returns:
            The reference of an older record that this one takes the place of, 0 where there is none; None where it
            means nothing any more. What means nothing is dropped.
        """
        return None

    def check(self, binding: Binding) -> None:
        """Called before a binding is added.

        Raises:
            AmqpError: 406, the binding makes no sense.
        """

    def add(self, binding: Binding) -> None:
        """Called when a new binding has been added, and at a start for each that is kept."""
        raise NotImplementedError

    def bound(self, binding: Binding) -> None:
        """Called when somebody has made a binding, after ``add``; not at a start. Messages may be sent there now."""

    def remove(self, binding: Binding) -> None:
        """Called when a binding that was added is gone."""
        raise NotImplementedError

    def match(self, message: Envelope) -> Iterable[Exchange | Queue]:
        """The destinations of a message; one may come more than once. Called once for each message that comes here."""
        raise NotImplementedError

    def explain(self, binding: Binding, message: Envelope) -> Verdict:
        """Whether a binding lets a message through, and why; nothing may change by it (``explanation.py``).

        Args:
            message: its header may be empty and its headers be there all the same.
        """
        return Verdict(None, "this type of exchange does not say how it chooses")
