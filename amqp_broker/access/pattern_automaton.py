"""The automaton by which a pattern is matched: made of the pattern's nodes, with states that advance together.

Thompson's construction: a nondeterministic automaton, all states of which are followed byte by byte, so that the time
grows with the text and the pattern, never faster. A look-around is an automaton of its own that runs once over the
text, ahead ones backwards, and says at which positions it holds. What grows beyond ``STATES_MAX`` is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from amqp_broker.access.pattern_syntax import (
    WORD,
    BadPattern,
    Bytes,
    Choice,
    Look,
    Node,
    Position,
    Repeat,
    Sequence,
)

STATES_MAX = 1000

CONSUME, GO_TO, ASSERT, ACCEPT = range(4)


@dataclass(slots=True)
class State:
    """One state: what it does, and where it leads."""

    action: int
    mask: int = 0  # for CONSUME
    targets: list[int] = field(default_factory=list)
    condition: int = 0  # for ASSERT: the number of the condition


class Automaton:
    """The states of a node, and the conditions that they ask about."""

    def __init__(self, node: Node, *, backwards: bool) -> None:
        self._backwards = backwards
        self._states: list[State] = []
        self._conditions: list[Position | Look] = []
        self._looks: list[Automaton | None] = []
        accept = self._add(State(ACCEPT))
        self._start = self._build(node, accept)

    @property
    def size(self) -> int:
        """How many states there are, those of look-arounds included."""
        return len(self._states) + sum(look.size for look in self._looks if look is not None)

    def _add(self, state: State) -> int:
        if self.size >= STATES_MAX:
            raise BadPattern(f"it needs more than {STATES_MAX} states")
        self._states.append(state)
        return len(self._states) - 1

    def _build(self, node: Node, after: int) -> int:
        """Add the states of a node that goes on at ``after``; returns where it begins."""
        match node:
            case Bytes():
                return self._add(State(CONSUME, mask=node.mask, targets=[after]))
            case Sequence():
                for part in node.parts if self._backwards else reversed(node.parts):
                    after = self._build(part, after)
                return after
            case Choice():
                return self._add(State(GO_TO, targets=[self._build(option, after) for option in node.options]))
            case Repeat():
                return self._build_repeat(node, after)
            case Position() | Look():
                self._conditions.append(node)
                look = Automaton(node.part, backwards=node.is_ahead) if isinstance(node, Look) else None
                self._looks.append(look)
                return self._add(State(ASSERT, targets=[after], condition=len(self._conditions) - 1))

    def _build_repeat(self, node: Repeat, after: int) -> int:
        if node.maximum is None:
            loop = self._add(State(GO_TO))
            self._states[loop].targets = [self._build(node.part, loop), after]
            after = loop
        else:
            end = after
            for _ in range(node.maximum - node.minimum):
                after = self._add(State(GO_TO, targets=[self._build(node.part, after), end]))
        for _ in range(node.minimum):
            count = len(self._states)
            after = self._build(node.part, after)
            if len(self._states) == count:
                break  # nothing, however often, is nothing
        return after

    def run(self, data: bytes, *, stop_at_first: bool = False) -> set[int]:
        """Where it has matched: the positions behind the match, before it when it runs backwards."""
        holds = [self._holds_at(number, data) for number in range(len(self._conditions))]
        positions = range(len(data), -1, -1) if self._backwards else range(len(data) + 1)
        accepted: set[int] = set()
        waiting: list[int] = []
        for position in positions:
            waiting, has_accepted = self._follow([*waiting, self._start], position, holds)
            if has_accepted:
                accepted.add(position)
                if stop_at_first:
                    break
            byte_at = position - 1 if self._backwards else position
            if 0 <= byte_at < len(data):
                bit = 1 << data[byte_at]
                waiting = [self._states[number].targets[0] for number in waiting if self._states[number].mask & bit]
        return accepted

    def _follow(self, numbers: list[int], position: int, holds: list[Callable[[int], bool]]) -> tuple[list[int], bool]:
        """All states that are reached without a byte: those that wait for one, and whether one accepts."""
        seen: set[int] = set()
        consuming: list[int] = []
        has_accepted = False
        while numbers:
            number = numbers.pop()
            if number in seen:
                continue
            seen.add(number)
            state = self._states[number]
            if state.action == CONSUME:
                consuming.append(number)
            elif state.action == ACCEPT:
                has_accepted = True
            elif state.action == GO_TO or holds[state.condition](position):
                numbers.extend(state.targets)
        return consuming, has_accepted

    def _holds_at(self, number: int, data: bytes) -> Callable[[int], bool]:
        condition, look = self._conditions[number], self._looks[number]
        if isinstance(condition, Look):
            assert look is not None
            positions = look.run(data)
            return lambda position: (position in positions) is not condition.is_negative
        size = len(data)
        ends = {size, size - 1} if data.endswith(b"\n") else {size}
        tests: dict[str, Callable[[int], bool]] = {
            "^": lambda position: position == 0,
            "z": lambda position: position == size,
            "$": lambda position: position in ends,
            "b": lambda position: _is_word_at(data, position - 1) != _is_word_at(data, position),
            "B": lambda position: _is_word_at(data, position - 1) == _is_word_at(data, position),
        }
        return tests[condition.kind]


def _is_word_at(data: bytes, position: int) -> bool:
    return 0 <= position < len(data) and bool(WORD >> data[position] & 1)
