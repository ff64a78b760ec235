"""Ports of the domain, for what it is handed from outside: each a small Protocol, so that a test hands in its own.

Holds no implementation, but of the driver that does nothing by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from amqp_broker.access.passwords import NotVerifiedYet
from amqp_broker.compilation import mypyc_attr

if TYPE_CHECKING:
    from amqp_broker.access.authority import Authority
    from amqp_broker.broker.message import Message
    from amqp_broker.broker.plugin_types import PluginType


class Clock(Protocol):
    """Time, asked for and never waited for."""

    @property
    def is_running(self) -> bool:
        """Whether time passes by itself; whoever moves a clock that stands still runs what is due then."""

    def monotonic_ms(self) -> int:
        """Milliseconds that only grow; deadlines are kept in them."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 in UTC; time stamps that clients or the journal see."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Conversation:
    """A client's connection, as far as the broker has it handle what has come in.

    No Protocol: this is told with each chunk, and what mypyc knows by a base is several times as fast.
    """

    def handle_rest(self, items: Iterator[Any]) -> None:
        """Handle what has come in: frames, packets, whatever the protocol cuts bytes into."""
        raise NotImplementedError


class EntryForms(Protocol):
    """A message of the queues, and one of AMQP 1.0, as clients of the stream protocol write it: how to make one of the
    other.
    """

    def encoded(self, message: Message) -> bytes:
        """The message in the encoding of AMQP 1.0."""

    def decoded(self, entry: bytes) -> tuple[bytes, bytes]:
        """The content header and the body of an entry; what is no message of AMQP 1.0 is a body as it stands."""


class Driver(Protocol):
    """Whoever has a broker do its work: the server floor, or a test. What the broker asks of it comes here.

    The first three are asked at the end of a chunk (``Broker.handle``), again and again as long as they are so. They
    may be answered at once, from within the call, or later.
    """

    authority: Authority | None  # who is asked who somebody is, where that is not the broker's own users' alone to say

    def journal_has_work(self) -> None:
        """There is something to write, or somebody waits for what was written to be kept: ``Broker.committed`` is to be
        called when it is.
        """

    def work_is_unfinished(self) -> None:
        """``Broker.go_on`` is to be called until ``Broker.is_unfinished`` is false."""

    def pages_are_wanted(self) -> None:
        """What stands in ``Paging.reads`` is to be read, and handed to each one's ``was_read``."""

    def deadline_came_forward(self) -> None:
        """Something is due earlier than all that was to be done until now; told at once."""

    def verify_password(self, check: NotVerifiedYet, go_on: Callable[[], None], is_wanted: Callable[[], bool]) -> None:
        """Find out whether a password is right, which may take long.

        Args:
            check: what to find out.
            go_on: to be handed to ``Broker.handle`` when it is known, or called in the same chunk.
            is_wanted: whether whoever asked is still there.
        """

    def writes_traces(self) -> bool:
        """Whether there is somewhere to write the lines of traces to (``file_traces.py``)."""

    def trace_has_lines(self) -> None:
        """There are lines of traces to be written: ``FileTraces.take``; told only where they are written."""

    def entry_forms(self) -> EntryForms:
        """What turns a stream's entries into messages and back; asked for by the first who needs it."""

    def observer_failed(self, observer: object, error: BaseException) -> None:
        """This one of those who look on (``observer.py``) has raised this."""

    def delivery_failed(self, error: BaseException) -> None:
        """What was delivered in ``Broker.committed`` has raised this, which is not the journal's fault."""

    def plugin_is_used(self, plugin: PluginType) -> None:
        """Code of a package is called from now on; told again and again."""


@mypyc_attr(allow_interpreted_subclasses=True)
class PassiveDriver:
    """A driver that does nothing by itself, for a broker in memory: whoever has the broker calls it as well.

    What takes long is left until somebody calls ``Broker.go_on``; only a password is verified at once.
    """

    authority: Authority | None = None

    def journal_has_work(self) -> None:
        """Leave it."""

    def work_is_unfinished(self) -> None:
        """Leave it."""

    def pages_are_wanted(self) -> None:
        """Leave them."""

    def deadline_came_forward(self) -> None:
        """Nobody waits for the next deadline."""

    def verify_password(self, check: NotVerifiedYet, go_on: Callable[[], None], is_wanted: Callable[[], bool]) -> None:
        """Verify it, however long that takes."""
        check.remember(check.verify())
        go_on()

    def writes_traces(self) -> bool:
        """There is no folder."""
        return False

    def trace_has_lines(self) -> None:
        """Leave them."""

    def entry_forms(self) -> EntryForms:
        """There are none: messages are in streams as they are."""
        raise NotImplementedError

    def observer_failed(self, observer: object, error: BaseException) -> None:
        """Raise it again: a test is to see it."""
        raise error

    def delivery_failed(self, error: BaseException) -> None:
        """Raise it again: a test is to see it."""
        raise error

    def plugin_is_used(self, plugin: PluginType) -> None:
        """Nobody watches it."""


class Authorizer(Protocol):
    """A party that acts for a user: it may own exclusive queues, and it is refused what its user may not do.

    The session floor's connections are authorizers. Each check raises AmqpError 403. ``kind`` is ``queue`` or
    ``exchange`` (RabbitMQ docs, "Access Control").
    """

    @property
    def user_name(self) -> str:
        """Who it is."""
        ...

    def made_up(self, name: str) -> str:
        """The name that a new queue gets: this one, or an earlier one of which others had to be asked first."""
        ...

    def check_configure(self, kind: str, name: str) -> None:
        """May it create, change or delete this?"""

    def check_write(self, kind: str, name: str) -> None:
        """May it put something into this?"""

    def check_read(self, kind: str, name: str) -> None:
        """May it take something out of this?"""

    def check_topic_read(self, exchange: str, routing_key: str) -> None:
        """May it bind a topic exchange with this key?"""

    def check_topic_write(self, exchange: str, routing_key: str) -> None:
        """May it publish to a topic exchange with this key?"""
