"""A broker on a disk in memory that has deduplicating exchanges without looking for packages, which takes long."""

from __future__ import annotations

from amqp_broker.plugins.message_deduplication import MessageDeduplicationMatcher
from amqp_broker.plugins.seen_values import SeenValues
from amqp_broker.settings import Settings
from tests.support.disk_broker import DiskBroker
from tests.support.manual_clock import ManualClock


class DeduplicatingBroker(DiskBroker):
    """Arguments as of ``DiskBroker``."""

    def _make(self, settings: Settings, clock: ManualClock) -> None:
        super()._make(settings, clock)
        self.exchange_types.register("x-message-deduplication", MessageDeduplicationMatcher)

    def seen(self, name: str) -> SeenValues:
        """What an exchange remembers."""
        matcher = self.virtual_host.exchange(name).matcher
        assert isinstance(matcher, MessageDeduplicationMatcher)
        return matcher._seen
