"""The messages that wait in a queue, as a consumer would get them, in memory or in the journal only.

A restarted broker has the end of a long queue, and all of a stream, in the journal; a stream has only its last entries
in memory, and those that came together by its own protocol in one piece. Holds no bounds: who looks wants all. The walk
for administrators, in steps and with filters, is ``broker/peeking.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.message import Message
from amqp_broker.broker.persistence.message_records import MessageDecoder
from amqp_broker.broker.queues.base import Queue
from amqp_broker.broker.queues.stream import StreamQueue
from amqp_broker.broker.queues.stream_block import StreamBlock
from amqp_broker.broker.queues.stream_reader import READ_ENTRIES_MAX, entries_of


def ready_messages(broker: Broker, queue: Queue) -> Iterator[Message]:
    """The messages that are ready in a queue, or are there to be read, the next one first."""
    return _of_stream(broker, queue) if isinstance(queue, StreamQueue) else _of_queue(broker, queue)


def _of_queue(broker: Broker, queue: Queue) -> Iterator[Message]:
    decoder = MessageDecoder()
    for stretch in queue.stretches(0, queue.ready_count):
        yield from stretch.messages
        for reference, payload in zip(stretch.references, broker.durability.read(stretch.references), strict=True):
            if payload is not None:
                yield broker.paging.message_of(queue, reference, decoder.decode(payload))


def _of_stream(broker: Broker, stream: StreamQueue) -> Iterator[Message]:
    forms = stream.virtual_host.entry_forms()
    offset = stream.log.first_offset
    while offset < stream.log.end_offset:
        for entry in _entries(broker, stream, offset):
            if isinstance(entry, StreamBlock):
                yield from (message for message in entry.opened(forms, None, offset) if message is not None)
                offset = entry.end_offset
            else:
                yield entry
                offset = entry.position + 1


def _entries(broker: Broker, stream: StreamQueue, offset: int) -> list[Message]:
    """Some entries from an offset on, at least one."""
    latest = stream.log.latest(offset)
    if latest is not None:
        return [latest]
    extent = stream.log.extent(offset, READ_ENTRIES_MAX)
    payloads = [payload for payload in broker.durability.read(extent.references) if payload is not None]
    assert len(payloads) == len(extent.references), "nothing goes while a test looks"
    return entries_of(extent, payloads, MessageDecoder())
