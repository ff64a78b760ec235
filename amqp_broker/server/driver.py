"""The requests of the broker to the server floor, and who fulfils them: one task or thread for each kind of request.

Holds none of the work; each request has a file of its own (``journal_flusher.py``, ``long_works.py``,
``page_reader.py``, ``timers.py``, ``password_checks.py``, ``trace_writer.py``, ``plugin_watch.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amqp_broker.access.authority import Authority
from amqp_broker.access.passwords import NotVerifiedYet
from amqp_broker.broker.ports import EntryForms
from amqp_broker.logs import log_internal_error
from amqp_broker.network.wake_up import WakeUp
from amqp_broker.server.journal_flusher import JournalFlusher
from amqp_broker.server.password_checks import PasswordChecks

if TYPE_CHECKING:
    from amqp_broker.broker.plugin_types import PluginType


class ServerDriver:
    """The driver (``broker/ports.py``) of a broker that is served. What is asked for before it is served waits."""

    def __init__(self) -> None:
        self.earlier_deadline = WakeUp()
        self.unfinished_work = WakeUp()
        self.wanted_pages = WakeUp()
        self.trace_lines: WakeUp | None = None  # where there is a folder for them, while it is served
        self.flusher: JournalFlusher | None = None  # where there is a journal
        self.authority: Authority | None = None  # where settings name one, while clients are served
        self.password_checks: PasswordChecks | None = None  # while clients are served
        self.plugins: dict[str, PluginType] = {}  # that are used and not in the box, by their entry points' values
        self.plugin_used = WakeUp()
        self._entry_forms: EntryForms | None = None

    def journal_has_work(self) -> None:
        """Have it written."""
        if self.flusher is not None:
            self.flusher.has_work()

    def tell_what_is_kept(self) -> None:
        """Tell those who wait for the disk, if it is done."""
        if self.flusher is not None:
            self.flusher.tell()

    def work_is_unfinished(self) -> None:
        """Wake who goes on with it."""
        self.unfinished_work.set()

    def pages_are_wanted(self) -> None:
        """Wake who reads them."""
        self.wanted_pages.set()

    def deadline_came_forward(self) -> None:
        """Wake the task that waits for the next deadline."""
        self.earlier_deadline.set()

    def verify_password(self, check: NotVerifiedYet, go_on: Callable[[], None], is_wanted: Callable[[], bool]) -> None:
        """Have it verified in a thread."""
        assert self.password_checks is not None, "a client logs in, and nobody is served"
        self.password_checks.begin(check, go_on, is_wanted)

    def writes_traces(self) -> bool:
        """Whether there is a folder for them."""
        return self.trace_lines is not None

    def trace_has_lines(self) -> None:
        """Wake who writes them."""
        if self.trace_lines is not None:
            self.trace_lines.set()

    def entry_forms(self) -> EntryForms:
        """They are AMQP 1.0's, which is imported for the first who needs it."""
        if self._entry_forms is None:
            from amqp_broker.protocols.amqp10.entries import StreamEntries

            self._entry_forms = StreamEntries()
        return self._entry_forms

    def observer_failed(self, observer: object, error: BaseException) -> None:
        """Log it, with the name of its class, which says whose it is."""
        log_internal_error("observer", error, observer=f"{type(observer).__module__}.{type(observer).__qualname__}")

    def delivery_failed(self, error: BaseException) -> None:
        """Log it."""
        log_internal_error("delivery", error)

    def plugin_is_used(self, plugin: PluginType) -> None:
        """Have it watched, unless it is in the box."""
        if plugin.value not in self.plugins and not plugin.value.startswith("amqp_broker."):
            self.plugins[plugin.value] = plugin
            self.plugin_used.set()
