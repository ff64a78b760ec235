"""A queue that may have a past (``x-replay-ms``): for types whose messages leave it and can be replayed later.

Holds the decision whether there is a past, and its beginning and end. What it consists of is in ``past.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amqp_broker.broker.arguments import QueueArguments
from amqp_broker.broker.queues.base import Queue
from amqp_broker.compilation import mypyc_attr

if TYPE_CHECKING:
    from amqp_broker.broker.queues.past import Past


@mypyc_attr(allow_interpreted_subclasses=True)
class ReplayableQueue(Queue):
    """A queue of such a type; arguments as of ``Queue``. Its type calls ``update_past`` once it is made."""

    __slots__ = ()

    def update_past(self) -> None:
        """Have a past or none, as the arguments in force say."""
        replay_ms, past = self.arguments.replay_ms, self.past
        if replay_ms is None:
            self._end_past()
        elif self.durable and self.virtual_host.durability.has_journal:
            (past or self.begin_past()).keep_for(replay_ms)

    def begin_past(self) -> Past:
        """Have a past from now on; how long what comes stays in it is to be said yet."""
        from amqp_broker.broker.queues.past import Past  # only who wants one pays for it

        host = self.virtual_host
        past = self.past = Past(self, host.durability, host.clock, host.timers, host.works)
        return past

    def _end_past(self) -> None:
        past, self.past = self.past, None
        if past is not None:
            past.end()

    def recovered(self) -> None:
        self.update_past()

    def arguments_changed(self, before: QueueArguments) -> None:
        super().arguments_changed(before)
        if self.arguments.replay_ms != before.replay_ms:
            self.update_past()

    def close(self) -> None:
        super().close()
        self._end_past()
