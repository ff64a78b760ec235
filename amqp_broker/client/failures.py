"""Failures of a connection to a broker, and failures of several tasks told as one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class BrokerUnreachable(Exception):
    """The failure of a connection to the broker: there is none, or none any more; the text says why."""


class RefusedByBroker(BrokerUnreachable):
    """The broker has closed the connection or the channel.

    Args:
        code: the reply code, for instance 404.
        text: code and text.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def told_as_one() -> Iterator[None]:
    """What a nursery raises as a group comes out as one exception, where it is one, or all of it is the same loss."""
    try:
        yield
    except BaseExceptionGroup as group:
        failures = [one for one in _leaves(group) if not isinstance(one, trio.Cancelled)]
        lost = [one for one in failures if isinstance(one, BrokerUnreachable)]
        if not failures or (len(failures) > 1 and len(lost) < len(failures)):
            raise
        raise failures[0] from None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
