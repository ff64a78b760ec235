"""The task that reads back what queues have on disk only, a chunk at a time, in a thread: nobody else waits for it."""

from __future__ import annotations

from functools import partial

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.queues.ready import Chunk
from amqp_broker.journal.failures import RecordGone
from amqp_broker.journal.port import Journal
from amqp_broker.network.wake_up import WakeUp


async def read_pages(broker: Broker, journal: Journal, wanted_pages: WakeUp) -> None:
    """Read whatever is asked for, until cancelled.

    Args:
        wanted_pages: set when something is.

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
        queue, chunk = paging.reads.popleft()
        if chunk.is_wanted:
            payloads = await trio.to_thread.run_sync(_read, journal, chunk)
            broker.handle(partial(paging.was_read, queue, chunk, payloads))


def _read(journal: Journal, chunk: Chunk) -> list[bytes]:
    """The payloads of a chunk's records; none when the queue was purged in the meantime."""
    try:
        return journal.read_many(chunk.references)
    except RecordGone:
        if chunk.is_wanted:
            raise
        return []
