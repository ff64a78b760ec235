"""Following what stands in etcd under a key, or under all keys with a prefix: first everything, then each change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import trio

from amqp_broker.cluster.etcd_client import EtcdClient
from amqp_broker.cluster.members import EtcdRefused, EtcdUnavailable
from amqp_broker.etcd import messages
from amqp_broker.etcd.calls import Answer
from amqp_broker.etcd.messages import WatchAnswer

PAUSE_S: Final = 0.1

TakeAll = Callable[[Mapping[str, bytes]], None]
TakeChange = Callable[[str, bytes], None]  # nothing stands there any more where the bytes are empty


async def follow(
    etcd: EtcdClient,
    key: str,
    take_all: TakeAll,
    take_change: TakeChange,
    tell: Callable[[], None],
    *,
    is_prefix: bool = False,
) -> None:
    """Follow until cancelled; begins again whenever etcd's member is lost.

    Args:
        etcd: the members.
        key: what is followed.
        take_all: is handed all that is there, in place of what was known.
        take_change: is handed what has changed since.
        tell: called after each of them, once for what has changed together.
        is_prefix: whether what is followed are all keys that begin so.
    """
    first, end = key.encode(), messages.prefix_end(key.encode()) if is_prefix else b""
    while True:
        try:
            found = messages.RangeAnswer.read(await etcd.call(messages.RANGE, messages.range_request(first, end)))
            take_all({entry.key.decode(): entry.value for entry in found.entries})
            tell()
            request = messages.watch_request(first, end, start_revision=found.revision + 1)
            async with etcd.stream(messages.WATCH, request) as answers:
                async for answer in answers:
                    if not isinstance(answer, Answer):
                        break
                    told = WatchAnswer.read(answer.message)
                    _take_changes(told, take_change, tell)
                    if told.cancelled:
                        break
        except (EtcdUnavailable, EtcdRefused):
            pass
        await trio.sleep(PAUSE_S)


def _take_changes(told: WatchAnswer, take_change: TakeChange, tell: Callable[[], None]) -> None:
    for event in told.events:
        take_change(event.entry.key.decode(), b"" if event.is_delete else event.entry.value)
    if told.events:
        tell()
