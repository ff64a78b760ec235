"""The kinds of records that the broker writes to its journal, by number. How each is written and read back:
``definitions.py``, ``message_records.py``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

NOT_KEPT: Final = 0  # the reference of what has no record


class RecordKind(IntEnum):
    """The kinds of records. A number is never given a new meaning."""

    VIRTUAL_HOST = 1
    USER = 2
    EXCHANGE = 3
    QUEUE = 4
    BINDING = 5
    MESSAGE = 6
    HANDED_OUT = 7
    RETURNED = 8
    PAGED = 9  # a message that is not kept, out of memory for the moment
    LIMITS = 10  # of a virtual host; a record of its own, because the virtual host's must stay before its queues'
    PARAMETER = 11  # of a virtual host, or global; policies are parameters
    METADATA = 12  # of a virtual host; a record of its own, as its limits are
    RETAINED = 13  # the last message of a topic
    SESSION = 14  # of a client; before subscriptions had records, with all that it has subscribed to
    PACKET_IDS = 15  # of a client's session: exchanges that are not done
    DELAY_HOLDER = 16  # an exchange that holds messages back
    DELAYED = 17  # a message that is held back
    PAST = 18  # what a queue got can be replayed; records of messages name it beside the queue
    EXCHANGE_STATE = 19  # what an exchange's type keeps of its own; of a form of its own
    QUEUE_STATE = 20  # what a type of queues keeps beside messages: a stream, how far its oldest entries have gone
    STREAM_BLOCK = 21  # entries of a stream that came together; of the form of a message
    STREAM_SEQUENCE = 22  # the last publishing id of a publisher of a stream
    STREAM_OFFSET = 23  # how far a consumer of a stream says that it is
    DEFINITIONS = 24  # exchanges, queues and bindings that were imported together, a claim each
    SUBSCRIPTION = 25  # of a client's session, with one filter
