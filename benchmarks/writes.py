"""How clients write: one message a call or many, few on their way or many, a small prefetch window or a large one.

Real clients most often send one message at a time; then what a chunk costs counts as much as what a message does. The
first number in a cell's name is how many messages are written in one call; 1,000 are on their way at most, and 300
unacknowledged, each is transient and has 12 bytes, where the name does not say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.brokers import RunningBroker
from benchmarks.cells import QUEUE, SIZES, Cell, Plan, declared, fan_out, run_plan
from benchmarks.frames import publish
from benchmarks.load import Acks
from benchmarks.measuring import Figures, Timing

IN_FLIGHT = 1_000
PREFETCH = 300


def written(
    broker: RunningBroker,
    timing: Timing,
    *,
    write: int,
    consumed: bool = False,
    confirms: bool = False,
    acks: Acks = Acks.NONE,
    in_flight: int = IN_FLIGHT,
    prefetch: int = PREFETCH,
    body_bytes: int = 12,
    persistent: bool = False,
) -> Figures:
    """A producer that writes so many messages in one call, and a consumer or none."""
    plan = Plan(
        [[publish("", QUEUE, b"x" * body_bytes, persistent=persistent)]],
        [[QUEUE]] if consumed else [],
        confirms=confirms,
        acks=acks,
        each_max=in_flight,
        write_count=write,
        prefetch=prefetch,
    )
    with declared(broker, [QUEUE], durable=persistent):
        return run_plan(broker, timing, plan)


def cells() -> list[Cell]:
    """All cells of this table."""
    return list(_cells())


def _cells() -> Iterator[Cell]:
    single_acks = partial(written, consumed=True, confirms=True, acks=Acks.SINGLE)
    for write in (1, 10, 100):
        yield Cell(f"writes/{write}/publish", partial(written, write=write))
        yield Cell(f"writes/{write}/confirms", partial(written, write=write, confirms=True))
        yield Cell(f"writes/{write}/auto-ack", partial(written, write=write, consumed=True))
        yield Cell(f"writes/{write}/single-acks", partial(single_acks, write=write))
    for in_flight in (1, 10):
        yield Cell(
            f"writes/1/confirms/in-flight-{in_flight}", partial(written, write=1, confirms=True, in_flight=in_flight)
        )
    for write in (1, 100):
        for prefetch in (1, 50):
            yield Cell(
                f"writes/{write}/single-acks/prefetch-{prefetch}", partial(single_acks, write=write, prefetch=prefetch)
            )
    yield Cell("writes/100/confirms/persistent/12B", partial(written, write=100, confirms=True, persistent=True))
    for size in ("12B", "1KiB", "16KiB"):
        yield Cell(
            f"writes/100/single-acks/persistent/{size}",
            partial(single_acks, write=100, body_bytes=SIZES[size], persistent=True),
        )
    for kind in ("transient", "persistent"):
        run = partial(fan_out, count=5, persistent=kind == "persistent", write_count=100, each_max=IN_FLIGHT)
        yield Cell(f"writes/100/fan-out-5/{kind}", run)
