"""docs/connection-states.md is drawn from the tables of states; ``python -m tests.unit.test_states`` draws it anew."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import pytest

from amqp_broker.protocols.amqp091.states import (
    CHANNEL_TRANSITIONS,
    CONNECTION_TRANSITIONS,
    ChannelEvent,
    ChannelState,
    ConnectionEvent,
    ConnectionState,
)

PAGE = Path(__file__).parents[2] / "docs" / "connection-states.md"

BEFORE = """\
# The states of AMQP 0-9-1

Drawn by `python -m tests.unit.test_states` from the tables in `amqp_broker/protocols/amqp091/states.py`; a test fails
while the two differ.
"""


def drawn(first: Enum, transitions: Mapping[Enum, Mapping[Enum, Enum]]) -> str:
    """One table as a picture that GitHub draws."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first.name}"]
    for state, ways in transitions.items():
        lines += [f"    {state.name} --> {target.name}: {event.value}" for event, target in ways.items()]
    lines += [f"    {state.name} --> [*]" for state, ways in transitions.items() if not ways]
    return "\n".join([*lines, "```", ""])


def page() -> str:
    connection = drawn(ConnectionState.HANDSHAKE, CONNECTION_TRANSITIONS)  # type: ignore[arg-type]
    channel = drawn(ChannelState.STARTING, CHANNEL_TRANSITIONS)  # type: ignore[arg-type]
    return "\n".join([BEFORE, "## A connection", "", connection, "## A channel", "", channel])


def test_the_picture_is_that_of_the_tables() -> None:
    assert PAGE.read_text() == page(), "draw it anew: python -m tests.unit.test_states"


@pytest.mark.parametrize(
    ("first", "transitions", "events"),
    [
        (ConnectionState.HANDSHAKE, CONNECTION_TRANSITIONS, ConnectionEvent),
        (ChannelState.STARTING, CHANNEL_TRANSITIONS, ChannelEvent),
    ],
    ids=["connection", "channel"],
)
def test_every_state_is_reached_and_every_event_leads_somewhere(
    first: Enum, transitions: Mapping[Enum, Mapping[Enum, Enum]], events: type[Enum]
) -> None:
    reached = {first}
    for _ in transitions:
        reached |= {target for state in reached for target in transitions[state].values()}
    assert reached == set(transitions) == set(type(first))
    assert {event for ways in transitions.values() for event in ways} == set(events)


if __name__ == "__main__":
    PAGE.write_text(page())
