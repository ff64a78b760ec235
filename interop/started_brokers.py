"""Brokers that a module of tests starts for itself, because they want plugins or settings of their own.

Holds when they are started and ended; each module derives from it and says how.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from interop.brokers import Choice, OurBroker, RabbitMQ


class StartedBrokers(ABC):
    """The brokers of a module, each started when it is first asked, and ended with the context."""

    def __init__(self) -> None:
        self._started: dict[Choice, RabbitMQ | OurBroker] = {}

    @abstractmethod
    def start(self, choice: Choice) -> RabbitMQ | OurBroker:
        """Start a broker."""

    def get(self, choice: Choice) -> RabbitMQ | OurBroker:
        """The broker of a choice."""
        if choice not in self._started:
            self._started[choice] = self.start(choice)
        return self._started[choice]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started.values():
            process.stop()
