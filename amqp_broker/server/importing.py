"""A large import of definitions while others have their turn: reading the JSON, checking it, having it.

What is done in each slice is ``broker/definitions/``'s; of JSON a part is read in each, which is below. Holds no way of
asking; those are the control socket and the HTTP API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.definitions.applying import DefinitionsImport
from amqp_broker.broker.json_values import finite, no_number, read_json
from amqp_broker.broker.works import Work

SLICE_CHARACTERS: Final = 32_768  # to be read in one go, some 10 nanoseconds each
SLICE_FREED: Final = 1_000  # objects of JSON that are let go of
TURN_S: Final = 1.0
_SPACE: Final = re.compile(r"[ \t\n\r]*")

Turn = Callable[[], Awaitable[None]]


async def no_turn() -> None:
    """Nothing, for whom nobody waits for a sign of life."""


async def import_in_turns(
    broker: Broker, document: object, virtual_host: str | None, who: str, turn: Turn = no_turn
) -> dict[str, int]:
    """Have all that definitions say, or nothing of it; returns when all is made, how many of each were new or set.

    Args:
        document: the object of JSON; its lists are empty afterwards.
        virtual_host: into which it goes; None for what was exported as a whole.
        who: wants it, as it stands in the log.
        turn: called when others have had their turn, ``TURN_S`` apart or less where nothing takes longer.

    Raises:
        AdministrationError: something in it cannot be had, and nothing was changed.
    """
    definitions = DefinitionsImport(broker, document, virtual_host, who=who)
    for _ in definitions.check():
        await trio.lowlevel.checkpoint()
        await turn()
    while (other := definitions.waits_for()) is not None:
        await _until_done(other, turn)
    for work in broker.handle(definitions.begin):
        await _until_done(work, turn)
    await _let_go(document)
    return definitions.counts


async def check_in_turns(
    broker: Broker, document: object, virtual_host: str | None, who: str, turn: Turn = no_turn
) -> None:
    """Find out whether definitions could be had now, and change nothing.

    Args: as of ``import_in_turns``.

    Raises:
        AdministrationError: something in it cannot be had.
    """
    for _ in DefinitionsImport(broker, document, virtual_host, who=who).check():
        await trio.lowlevel.checkpoint()
        await turn()
    await _let_go(document)


async def _until_done(work: Work, turn: Turn) -> None:
    done = trio.Event()
    work.when_done(done.set)
    while not done.is_set():
        with trio.move_on_after(TURN_S):
            await done.wait()
        await turn()


async def _let_go(document: object) -> None:
    """To free all of a large document at once takes as long as some of what was done with it."""
    for found in document.values() if isinstance(document, dict) else ():
        while isinstance(found, list) and found:
            del found[-SLICE_FREED:]
            await trio.lowlevel.checkpoint()


async def read_json_in_turns(text: str | bytes | bytearray, depth: int) -> object:
    """Read JSON as ``read_json`` does, a part at a time where it is long.

    Args:
        depth: how many objects and lists stand around what there may be very much of; each of that is read in one go.

    Raises:
        ValueError, RecursionError: as ``read_json``.
    """
    if len(text) <= SLICE_CHARACTERS:
        return read_json(text)
    if not isinstance(text, str):
        await trio.lowlevel.checkpoint()
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    reader = JsonReader(text)
    try:
        for _ in reader.steps(depth):
            await trio.lowlevel.checkpoint()
    except (ValueError, IndexError):
        return read_json(text)  # which knows how to say what is wrong
    return reader.value


class JsonReader:
    """One text of JSON, read in slices.

    Args:
        text: all of it.
    """

    def __init__(self, text: str) -> None:
        self.value: object = None  # when the last step is done
        self._text = text
        self._at = self._slice_start = 0
        self._decode = json.JSONDecoder(parse_constant=no_number, parse_float=finite).raw_decode

    def steps(self, depth: int) -> Iterator[None]:
        """Read it, a slice a step.

        Raises:
            ValueError, IndexError: it is not JSON.
        """
        self._skip_space()
        yield from self._read(depth)
        self._skip_space()
        if self._at != len(self._text):
            raise ValueError

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        assert found is not None, "nothing is space enough"
        self._at = found.end()

    def _read(self, depth: int) -> Iterator[None]:
        first = self._text[self._at]
        if depth and first == "{":
            yield from self._read_object(depth)
        elif depth and first == "[":
            yield from self._read_list(depth)
        else:
            self.value, self._at = self._decode(self._text, self._at)
        if self._at - self._slice_start > SLICE_CHARACTERS:
            self._slice_start = self._at
            yield

    def _read_list(self, depth: int) -> Iterator[None]:
        found: list[object] = []
        self._at += 1
        while not self._is_at_end("]", is_first=not found):
            yield from self._read(depth - 1)
            found.append(self.value)
        self.value = found

    def _read_object(self, depth: int) -> Iterator[None]:
        found: dict[str, object] = {}
        self._at += 1
        while not self._is_at_end("}", is_first=not found):
            name, self._at = self._decode(self._text, self._at)
            self._skip_space()
            if not isinstance(name, str) or self._text[self._at] != ":":
                raise ValueError
            self._at += 1
            self._skip_space()
            yield from self._read(depth - 1)
            found[name] = self.value
        self.value = found

    def _is_at_end(self, end: str, *, is_first: bool) -> bool:
        """Whether an object or a list ends here; before the next one in it, what stands between is passed by."""
        self._skip_space()
        found = self._text[self._at]
        if found == end:
            self._at += 1
            return True
        if not is_first:
            if found != ",":
                raise ValueError
            self._at += 1
            self._skip_space()
        return False
