"""Regular expressions of administrators, matched in time that grows with the text and the pattern, never faster.

Permissions are patterns (RabbitMQ docs, "Access Control"), and a backtracking engine needs hours for some of them on a
name of forty letters: ``(a+)+$`` in a permission would stop the broker for everybody. So a pattern is made into a
nondeterministic automaton, all states of which advance together, byte by byte (Thompson's construction).

What it knows is PCRE's everyday part, byte by byte as RabbitMQ uses it: literals, ``.``, classes, ``\\d \\w \\s`` and
their opposites, groups, alternatives, ``* + ? {m,n}`` (greedy or lazy: the same names match), ``^ $ \\A \\Z \\z \\b
\\B``, the flags ``(?i)`` and ``(?s)``, and looking ahead and behind. A look-around is an automaton of its own that runs
once over the text, ahead ones backwards, and says at which positions it holds. Back references, atomic groups,
possessive repetition and recursion are refused: no automaton has them. So is what grows beyond ``STATES_MAX``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

PATTERN_BYTES_MAX = 1024
STATES_MAX = 1000
NESTING_MAX = 50
DEPTH_MAX = 200  # of all that is in each other: groups, and repetitions of repetitions
REMEMBERED_MAX = 1024

EVERY_BYTE = (1 << 256) - 1
NEWLINE = 1 << 10


class BadPattern(ValueError):
    """The pattern is not well formed, or not of the kind that is matched here; the text says which and where.

    Args:
        problem: what is wrong.
        offset: at which byte; None where it is the pattern as a whole.
    """

    def __init__(self, problem: str, offset: int | None = None) -> None:
        super().__init__(problem if offset is None else f"{problem} at offset {offset}")
        self.problem = problem
        self.offset = offset or 0


# --- what a pattern is made of (named tuples: a dataclass takes four times as long to make, at each start)


class Bytes(NamedTuple):
    """One byte out of a set: bit n stands for the byte n."""

    mask: int


class Sequence(NamedTuple):
    """One after the other."""

    parts: tuple[Node, ...]


class Choice(NamedTuple):
    """One of them."""

    options: tuple[Node, ...]


class Repeat(NamedTuple):
    """So often; a maximum of None is no limit."""

    part: Node
    minimum: int
    maximum: int | None


class Position(NamedTuple):
    """A condition on where we are: one of ``^ $ z b B``."""

    kind: str


class Look(NamedTuple):
    """A condition on what stands ahead or behind."""

    part: Node
    is_ahead: bool
    is_negative: bool


Node: TypeAlias = "Bytes | Sequence | Choice | Repeat | Position | Look"


class Pattern:
    """A pattern, ready to be searched for.

    Args:
        source: as the administrator wrote it. An empty one stands for ``^$``, as in RabbitMQ.

    Raises:
        BadPattern: it cannot be used.
    """

    __slots__ = ("_automaton", "_remembered", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        encoded = source.encode("utf-8", "surrogateescape")
        if len(encoded) > PATTERN_BYTES_MAX:
            raise BadPattern(f"it is longer than {PATTERN_BYTES_MAX} bytes")
        node = _Parser(encoded or b"^$").parse()
        if _depth(node) > DEPTH_MAX:
            raise BadPattern(f"groups and repetitions nested deeper than {DEPTH_MAX}")
        self._automaton = Automaton(node, backwards=False)
        self._remembered: dict[str, bool] = {}

    def matches(self, text: str) -> bool:
        """Whether the pattern matches somewhere in a text."""
        found = self._remembered.get(text)
        if found is None:
            found = bool(self._automaton.run(text.encode("utf-8", "surrogateescape"), stop_at_first=True))
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[text] = found
        return found

    def __repr__(self) -> str:
        return f"Pattern({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)


def _depth(node: Node) -> int:
    """How many nodes are in each other; counted without recursion, because a client chooses how many."""
    deepest, waiting = 0, [(node, 1)]
    while waiting:
        one, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(one, Sequence):
            waiting += [(part, depth + 1) for part in one.parts]
        elif isinstance(one, Choice):
            waiting += [(option, depth + 1) for option in one.options]
        elif isinstance(one, Repeat | Look):
            waiting.append((one.part, depth + 1))
    return deepest


# --- matching

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


# --- reading


def _mask(characters: bytes) -> int:
    mask = 0
    for byte in characters:
        mask |= 1 << byte
    return mask


DIGIT = _mask(b"0123456789")
WORD = _mask(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
SPACE = _mask(b" \t\n\r\f\v")
ESCAPED_CLASSES = {ord("d"): DIGIT, ord("w"): WORD, ord("s"): SPACE}
ESCAPED_CLASSES |= {ord(chr(code).upper()): EVERY_BYTE & ~mask for code, mask in list(ESCAPED_CLASSES.items())}
ESCAPED_BYTES = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("f"): 12, ord("v"): 11, ord("a"): 7, ord("e"): 27}
ESCAPED_POSITIONS = {ord("A"): "^", ord("Z"): "$", ord("z"): "z", ord("b"): "b", ord("B"): "B"}
NAMED_CLASSES = {
    b"alpha": WORD & ~DIGIT & ~_mask(b"_"),
    b"digit": DIGIT,
    b"alnum": WORD & ~_mask(b"_"),
    b"upper": _mask(bytes(range(65, 91))),
    b"lower": _mask(bytes(range(97, 123))),
    b"space": SPACE,
    b"word": WORD,
    b"xdigit": _mask(b"0123456789abcdefABCDEF"),
    b"punct": _mask(bytes(range(33, 127))) & ~WORD | _mask(b"_"),
}
NOT_AN_AUTOMATON = "is not supported, because it cannot be matched in linear time"


class _Parser:
    """Reads one pattern, from left to right."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._at = 0
        self._depth = 0
        self._ignores_case = False
        self._dot_is_all = False

    def parse(self) -> Node:
        """The whole pattern."""
        node = self._choice()
        if self._at < len(self._source):
            raise self._error("unmatched parentheses")
        return node

    def _error(self, what: str) -> BadPattern:
        return BadPattern(what, self._at)

    def _peek(self) -> bytes:
        return self._source[self._at : self._at + 1]

    def _take(self, text: bytes) -> bool:
        """Step over a text, if it comes next."""
        if self._source.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _next(self) -> int:
        if self._at >= len(self._source):
            raise self._error("an unexpected end")
        self._at += 1
        return self._source[self._at - 1]

    def _choice(self) -> Node:
        options = [self._sequence()]
        while self._take(b"|"):
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        parts = []
        while self._peek() not in (b"", b"|", b")"):
            part = self._atom()
            if part is not None:
                parts.append(self._repeated(part))
        return Sequence(tuple(parts))

    def _repeated(self, part: Node) -> Node:
        while (bounds := self._quantifier()) is not None:
            if self._take(b"+"):
                raise self._error(f"possessive repetition {NOT_AN_AUTOMATON}:")
            self._take(b"?")
            part = Repeat(part, *bounds)
        return part

    def _quantifier(self) -> tuple[int, int | None] | None:
        for sign, bounds in ((b"*", (0, None)), (b"+", (1, None)), (b"?", (0, 1))):
            if self._take(sign):
                return bounds
        if self._peek() != b"{":
            return None
        end = self._source.find(b"}", self._at)
        low, comma, high = self._source[self._at + 1 : end].partition(b",")
        if end < 0 or not low.isdigit() or (high and not high.isdigit()):
            return None  # PCRE takes such a brace for itself
        self._at = end + 1
        minimum = int(low)
        maximum = minimum if not comma else int(high) if high else None
        if max(minimum, maximum or 0) > STATES_MAX or (maximum is not None and maximum < minimum):
            raise self._error("a repetition out of bounds")
        return minimum, maximum

    def _atom(self) -> Node | None:
        code = self._next()
        match chr(code):
            case "(":
                return self._group()
            case "[":
                return Bytes(self._cased(self._class()))
            case ".":
                return Bytes(EVERY_BYTE if self._dot_is_all else EVERY_BYTE & ~NEWLINE)
            case "^":
                return Position("^")
            case "$":
                return Position("$")
            case "\\":
                return self._escape()
            case "*" | "+" | "?":
                raise self._error("nothing to repeat")
            case _:
                return Bytes(self._cased(1 << code))

    def _cased(self, mask: int) -> int:
        """The set with both cases of its letters, where case does not matter."""
        if not self._ignores_case:
            return mask
        upper, lower = NAMED_CLASSES[b"upper"], NAMED_CLASSES[b"lower"]
        return mask | (mask & upper) << 32 | (mask & lower) >> 32

    def _escape(self) -> Node:
        if self._peek()[:1] and self._peek() in b"AZzbB":
            return Position(ESCAPED_POSITIONS[self._next()])
        return Bytes(self._cased(self._escaped_mask()))

    def _escaped_mask(self) -> int:
        """What an escape stands for that is good inside of a class as well."""
        code = self._next()
        if code in ESCAPED_CLASSES:
            return ESCAPED_CLASSES[code]
        if code in ESCAPED_BYTES:
            return 1 << ESCAPED_BYTES[code]
        if code == ord("x"):
            digits = self._source[self._at : self._at + 2]
            if len(digits) < 2 or any(not NAMED_CLASSES[b"xdigit"] >> digit & 1 for digit in digits):
                raise self._error("\\x without two digits")
            self._at += 2
            return 1 << int(digits, 16)
        if chr(code).isalnum() and code < 128:
            what = "a back reference" if chr(code).isdigit() or code in b"gk" else f"\\{chr(code)}"
            raise self._error(f"{what} {NOT_AN_AUTOMATON}:" if what.startswith("a ") else f"{what} is not known:")
        return 1 << code

    def _class(self) -> int:
        is_negative = self._take(b"^")
        mask = 0
        is_first = True
        while is_first or self._peek() != b"]":
            is_first = False
            if self._take(b"[:"):
                end = self._source.find(b":]", self._at)
                name = self._source[self._at : end] if end >= 0 else b""
                if name not in NAMED_CLASSES:
                    raise self._error("an unknown class")
                mask |= NAMED_CLASSES[name]
                self._at = end + 2
                continue
            low = self._class_member()
            if self._peek() == b"-" and self._source[self._at + 1 : self._at + 2] not in (b"]", b""):
                self._at += 1
                mask |= self._range(low, self._class_member())
            else:
                mask |= low
        self._at += 1
        return EVERY_BYTE & ~self._cased(mask) if is_negative else mask

    def _class_member(self) -> int:
        code = self._next()
        if code != ord("\\"):
            return 1 << code
        if self._take(b"b"):
            return 1 << 8
        return self._escaped_mask()

    def _range(self, low: int, high: int) -> int:
        first, last = low.bit_length() - 1, high.bit_length() - 1
        if low != 1 << first or high != 1 << last or first > last:
            raise self._error("a range out of order")
        return (1 << last + 1) - (1 << first)

    def _group(self) -> Node | None:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise self._error(f"groups nested deeper than {NESTING_MAX}")
        flags = self._ignores_case, self._dot_is_all
        look: tuple[bool, bool] | None = None
        if self._take(b"?"):
            look = self._group_kind()
            if self._source[self._at - 1 : self._at] == b")":  # flags for the rest of the group around it
                self._depth -= 1
                return None
        node = self._choice()
        if not self._take(b")"):
            raise self._error("missing )")
        self._depth -= 1
        self._ignores_case, self._dot_is_all = flags
        return node if look is None else Look(node, *look)

    def _group_kind(self) -> tuple[bool, bool] | None:
        """Read what stands between ``(?`` and the contents; of a look-around, where it looks and whether negated."""
        looks = {b"=": (True, False), b"!": (True, True), b"<=": (False, False), b"<!": (False, True)}
        for sign, look in looks.items():
            if self._take(sign):
                return look
        if self._take(b":"):
            return None
        for opening, closing in ((b"P<", b">"), (b"<", b">"), (b"'", b"'")):
            if self._take(opening):
                end = self._source.find(closing, self._at)
                if end < 0 or not self._source[self._at : end].isalnum():
                    raise self._error("a group's name that is not one")
                self._at = end + 1
                return None
        while (code := self._next()) in b"is":
            if code == ord("i"):
                self._ignores_case = True
            else:
                self._dot_is_all = True
        if code not in b":)":
            raise self._error(f"this kind of group {NOT_AN_AUTOMATON}, or is not known:")
        return None
