"""A program: operations as plain data, in the order they are carried out, and the text they are written down as.

    PROGRAM = [
        op(0, Queue.Declare, queue="q0", arguments={"x-max-length": 1}),
        op(0, Basic.Publish, routing_key="q0", body=b"m1"),
        op(0, Basic.Get, queue="q0"),
        op(0, Basic.Nack, delivery=0, requeue=True),
    ]

Not here: how an operation is carried out (player.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from interop.codec import MethodType

CHANNELS_EACH_CONNECTION = 2
ABORT = "abort"
"""In place of a method: the socket of the channel's connection ends without a word."""


class Operation(NamedTuple):
    """One thing a client does.

    `channel` counts over all connections: 0 and 1 are on the first connection, 2 and 3 on the second. `fields` are
    those of `Client.send`. A settling method takes either `delivery_tag`, as it is, or `delivery`: the n-th message
    that is not settled on the channel, counted from the oldest and, where there are fewer, round again.
    """

    channel: int
    method: MethodType | str
    fields: dict[str, Any]

    @property
    def name(self) -> str:
        return self.method if isinstance(self.method, str) else str(self.method.name)

    def __repr__(self) -> str:
        method = "ABORT" if self.method == ABORT else self.name
        return (
            f"op({', '.join([str(self.channel), method, *(f'{key}={value!r}' for key, value in self.fields.items())])})"
        )


Program = list[Operation]


def op(channel: int, method: MethodType | str, **fields: Any) -> Operation:
    """An operation; a short form for programs that stand in tests."""
    return Operation(channel, method, fields)


def program_text(program: Iterable[Operation], indent: str = "") -> str:
    """The program as Python, a line an operation."""
    return "".join(f"{indent}{operation!r},\n" for operation in program)
