"""The syntax of a pattern: its text, read into the nodes that it is made of.

What it knows is PCRE's everyday part, byte by byte as RabbitMQ uses it: literals, ``.``, classes, ``\\d \\w \\s`` and
their opposites, groups, alternatives, ``* + ? {m,n}`` (greedy or lazy: the same names match), ``^ $ \\A \\Z \\z \\b
\\B``, the flags ``(?i)`` and ``(?s)``, and looking ahead and behind. Back references, atomic groups, possessive
repetition and recursion are refused: no automaton has them. Does not know how the nodes are matched
(``pattern_automaton.py``).
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

NESTING_MAX = 50
DEPTH_MAX = 200  # of all that is in each other: groups, and repetitions of repetitions
REPETITIONS_MAX = 1000

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


# --- what it is made of (named tuples: a dataclass takes four times as long to make, at each start)


class Bytes(NamedTuple):
    """One byte out of a set: bit n stands for the byte n."""

    mask: int


class Sequence(NamedTuple):
    """A sequence of parts, one after the other."""

    parts: tuple[Node, ...]


class Choice(NamedTuple):
    """A choice of one of the options."""

    options: tuple[Node, ...]


class Repeat(NamedTuple):
    """A repetition of a part; a maximum of None is no limit."""

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


def parse(source: bytes) -> Node:
    """What a pattern is made of.

    Raises:
        BadPattern: it is not well formed, not of the kind that is matched here, or nested too deeply.
    """
    node = _Parser(source).parse()
    if _depth(node) > DEPTH_MAX:
        raise BadPattern(f"groups and repetitions nested deeper than {DEPTH_MAX}")
    return node


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
        if max(minimum, maximum or 0) > REPETITIONS_MAX or (maximum is not None and maximum < minimum):
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
