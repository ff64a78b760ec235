"""Walks through queues (``broker/peeking.py``), a step after the other, with turns for others between them.

What a walk needs from the disk is read in a thread. One that has more written than the journal keeps up with waits, as
publishers do.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.peeking import Steps
from amqp_broker.server.changes import until_kept

SLICE_S: Final = 0.002
PENDING_BYTES_MAX: Final = 4_194_304  # of what waits for the disk

Turn = Callable[[], Awaitable[None]]


async def walk(broker: Broker, steps: Steps, on_turn: Turn | None = None, *, writes: bool = False) -> None:
    """Go to the end of a walk; what it has changed is durable then.

    Args:
        writes: whether it changes anything. One that only looks waits for no disk, whatever others have written.
        on_turn: called when others have had their turn.

    Raises:
        JournalDamaged: what is on disk is not what was written.
        JournalFailed: the disk cannot read it.
    """
    slice_end_s = time.perf_counter() + SLICE_S
    position = 0
    references = broker.handle(partial(next_step, steps, None))
    while True:
        if writes:
            position = max(position, broker.durability.position)
            if broker.durability.pending_bytes > PENDING_BYTES_MAX:
                await until_kept(broker, position)
        if references is None:
            break
        payloads: Sequence[bytes | None] = ()
        if references:
            payloads = await trio.to_thread.run_sync(broker.durability.read, references)
        elif time.perf_counter() > slice_end_s:
            await trio.lowlevel.checkpoint()
            if on_turn is not None:
                await on_turn()
            slice_end_s = time.perf_counter() + SLICE_S
        references = broker.handle(partial(next_step, steps, payloads))
    await until_kept(broker, position)


def next_step(steps: Steps, payloads: Sequence[bytes | None] | None) -> Sequence[int] | None:
    """Take a step; returns the records that it needs, and None when it was the last one.

    Args:
        payloads: the records that the step before needed; None for the first step.
    """
    try:
        return next(steps) if payloads is None else steps.send(payloads)
    except StopIteration:
        return None
