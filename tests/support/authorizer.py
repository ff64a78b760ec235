"""Somebody who may do everything, for tests of the domain alone."""

from __future__ import annotations


class Everything:
    """An Authorizer that refuses nothing; each is an owner of exclusive queues of its own."""

    user_name = "everybody"

    def made_up(self, name: str) -> str:
        """That name."""
        return name

    def check_configure(self, kind: str, name: str) -> None:
        """May do that."""

    def check_write(self, kind: str, name: str) -> None:
        """May do that."""

    def check_read(self, kind: str, name: str) -> None:
        """May do that."""

    def check_topic_read(self, exchange: str, routing_key: str) -> None:
        """May do that."""

    def check_topic_write(self, exchange: str, routing_key: str) -> None:
        """May do that."""
