"""Requests over HTTP that come together begin in different rounds of the event loop."""

from __future__ import annotations

import trio

from amqp_broker.management.http.admission import Admission
from tests.unit.in_trio import in_trio

CROWD = 5


class Rounds(trio.abc.Instrument):
    """Counts the rounds of the event loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


@in_trio
async def test_one_begins_in_a_round() -> None:
    admission, rounds, begun = Admission(), Rounds(), []

    async def ask(number: int) -> None:
        await admission.wait()
        begun.append((number, rounds.count))

    trio.lowlevel.add_instrument(rounds)
    try:
        async with trio.open_nursery() as nursery:
            for number in range(CROWD):
                nursery.start_soon(ask, number)
    finally:
        trio.lowlevel.remove_instrument(rounds)
    assert len({in_round for _, in_round in begun}) == CROWD
    assert {number for number, _ in begun} == set(range(CROWD))
