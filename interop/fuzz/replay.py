"""A program as a test: it is played on the broker that is asked, and must give what RabbitMQ gave when it was found."""

from __future__ import annotations

import textwrap

from interop.brokers import Address
from interop.fuzz.player import Player
from interop.fuzz.program import Program
from interop.under_test import BrokerUnderTest


def assert_plays(broker: BrokerUnderTest, program: Program, expected: str) -> None:
    """Plays the program and compares, line by line: the number of the operation, and what came."""
    player = _players.get(broker.address)
    if player is None:
        player = _players[broker.address] = Player(broker.process)
    assert played_lines(player.play(program)) == textwrap.dedent(expected).strip().splitlines()


def played_lines(played: list[str]) -> list[str]:
    """A played program as lines: the number of each operation, and what came."""
    return [f"{step}: {line}".rstrip() for step, text in enumerate(played) for line in text.splitlines() or ["nothing"]]


_players: dict[Address, Player] = {}
