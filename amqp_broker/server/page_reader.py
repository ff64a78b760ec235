"""The task that reads back what is on disk only, a page at a time, in a thread: nobody else waits for it."""

from __future__ import annotations

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.queues.paging import PageRead
from amqp_broker.journal.failures import JournalDamaged, JournalFailed, RecordGone
from amqp_broker.journal.port import Journal
from amqp_broker.logs import log_internal_error
from amqp_broker.network.pump import Outbox
from amqp_broker.network.wake_up import WakeUp


async def read_pages(broker: Broker, journal: Journal, wanted_pages: WakeUp, outbox: Outbox) -> None:
    """Read whatever is asked for, until cancelled.

    Args:
        wanted_pages: set when something is.
        outbox: sends what clients get of it.

    Raises:
        JournalDamaged: what is on disk is not what was written.
        JournalFailed: the disk cannot read it.
    """
    paging = broker.paging
    while True:
        await trio.lowlevel.checkpoint()
        if not paging.reads:
            await wanted_pages.wait()
            continue
        await _serve(broker, journal, paging.reads.popleft(), outbox)


async def _serve(broker: Broker, journal: Journal, page: PageRead, outbox: Outbox) -> None:
    if page.is_wanted:
        await trio.to_thread.run_sync(_read, journal, page)
        try:
            outbox.handle(broker.handle, page.was_read)
        except (JournalDamaged, JournalFailed):
            raise
        except (Exception, SystemExit) as error:  # a defect in what one of those who get it does
            log_internal_error("page", error)


def _read(journal: Journal, page: PageRead) -> None:
    """Read a page's records; some may be gone when it is not wanted any more."""
    try:
        page.read(journal)
    except RecordGone:
        if page.is_wanted:
            raise
