"""Delayed messages, cancelled or let go before their time: those that ids name or a filter finds, all in one walk.

A walk in small steps, as a look is (``looking.py``). What was cancelled is gone when the walk is done and the journal
has kept it; nobody gets it. What is let go is due at once, and goes out as if that had been its time. If the broker
crashes before it is out, it goes at its own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypedDict

from amqp_broker.broker.delayed.holder import Holder
from amqp_broker.broker.delayed.looking import Pace, Place, message_of
from amqp_broker.broker.moving import Selection
from amqp_broker.broker.peeking import Steps
from amqp_broker.broker.problems import AdministrationError

PAGE_BY_ID: Final = 1_000  # where nothing is read: some tenths of a millisecond


class DelayedAction(StrEnum):
    """The action on what is held."""

    CANCEL = "cancel"
    DELIVER = "deliver"  # now


class DelayedActInfo(TypedDict):
    """The progress of cancelling delayed messages, or of letting them go."""

    action: str
    exchange: str
    vhost: str
    dry_run: bool
    held: int  # when it began
    looked_at: int
    found: int
    done: int  # cancelled or let go; in a dry run, what would be
    not_there: list[str]  # of the ids that were named, once all is looked at


class DelayedActing:
    """The work of cancelling delayed messages of an exchange, or of letting them go.

    Args:
        holder: of the exchange.
        action: what becomes of them.
        selection: which; by ids or by a filter.
        dry_run: whether nothing is done but looked.

    Raises:
        AdministrationError: an id is none, or nothing says which.
    """

    def __init__(self, holder: Holder, action: DelayedAction, selection: Selection, *, dry_run: bool) -> None:
        for one in selection.ids or ():
            if not (one.isascii() and one.isdecimal() and len(one) < 20):
                raise AdministrationError(f"{one[:60]!r} is no id of a delayed message: 'delayed list' shows them")
        if selection.ids is None and selection.wanted.is_any and selection.limit is None:
            raise AdministrationError("say which: name ids, a filter or a limit")
        self._holder = holder
        self._action = action
        self._selection = selection
        self._dry_run = dry_run
        self._missing = {int(one) for one in selection.ids or ()}
        self._not_there: list[str] = []
        self._looked_at = self._found = self._done = 0
        self._held = holder.ready_count
        self._pace = Pace()

    @property
    def writes(self) -> bool:
        """Whether anything is changed."""
        return not self._dry_run

    def progress(self) -> DelayedActInfo:
        """How far it is."""
        return DelayedActInfo(
            action=str(self._action),
            exchange=self._holder.exchange_name,
            vhost=self._holder.virtual_host.name,
            dry_run=self._dry_run,
            held=self._held,
            looked_at=self._looked_at,
            found=self._found,
            done=self._done,
            not_there=self._not_there,
        )

    @property
    def _is_enough(self) -> bool:
        limit = self._selection.limit
        is_all = self._selection.ids is not None and not self._missing
        return is_all or (limit is not None and self._found >= limit)

    def steps(self) -> Steps:
        """Do it."""
        is_by_id = self._selection.ids is not None
        place: Place | None = None
        while not self._is_enough:
            page = self._holder.some_after(place, PAGE_BY_ID if is_by_id else self._pace.page)
            if not page:
                self._not_there = list(map(str, sorted(self._missing)))
                return
            place = page[-1]
            if is_by_id:  # the others are not looked into
                named = [one for one in page if one[1] in self._missing]
                self._looked_at += len(page) - len(named)
                page = named
                yield ()
            while page and not self._is_enough:
                some, page = page[: self._pace.page], page[self._pace.page :]  # no more are read in one go
                yield from self._search(some)

    def _search(self, page: list[Place]) -> Steps:
        """Look into a page of messages, and act on those that are wanted."""
        wanted = self._selection.wanted
        on_disk = [] if wanted.is_any else [one for _, one in page if self._holder.at_hand(one) is None]
        payloads = yield on_disk
        self._pace.has_read(payloads)
        read = dict(zip(on_disk, payloads, strict=True)) if on_disk else {}
        for due_ms, reference in page:
            if self._is_enough:
                return
            self._looked_at += 1
            if not wanted.is_any:
                message = message_of(self._holder, reference, read.get(reference))
                if message is None:
                    continue
                if self._pace.is_slice_over(message):
                    yield ()
                if not wanted.finds(message):
                    self._missing.discard(reference)
                    continue
            self._act_on(due_ms, reference)

    def _act_on(self, due_ms: int, reference: int) -> None:
        self._found += 1
        if self._dry_run:
            is_done = True
        elif self._action is DelayedAction.CANCEL:
            is_done = self._holder.cancel(due_ms, reference)
        else:
            is_done = self._holder.hasten(due_ms, reference)
        if is_done:  # else somebody else was first
            self._done += 1
            self._missing.discard(reference)
