"""An observer: who declares and deletes what stands in the log ``audit``."""

from __future__ import annotations

import logging

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.observer import Onlooker, Subject


class Audit(Onlooker):
    """Writes it down. It sees no messages, so they cost nothing."""

    of_messages = False

    def __init__(self, broker: Broker) -> None:
        self._log = logging.getLogger("audit")

    def declared(self, subject: Subject, by: str) -> None:
        """Something is there now."""
        self._log.warning("%s declared the %s %s", by, subject.kind.value, subject.name)

    def deleted(self, subject: Subject, by: str) -> None:
        """Something is gone."""
        self._log.warning("%s deleted the %s %s", by, subject.kind.value, subject.name)
