"""Lists: filtered by name, sorted, in pages and with the columns that are asked for, and made while they are sent.

A list of ten thousand is described a slice at a time, with everybody's turn between two slices; what has been described
is sent before the next is. Only what is sorted by something else than its name is described twice. Holds no noun.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from amqp_broker.management.api.rates import check_ranges
from amqp_broker.management.http.call import Call
from amqp_broker.management.http.messages import Answer, HttpError, bad_request, to_json
from amqp_broker.management.slices import Slices, in_slices

Subject = TypeVar("Subject")
Row = Mapping[str, Any]

PAGE_SIZE = 100
PAGE_SIZE_MAX = 500
PIECE_BYTES = 65_536
NAME_PATTERN_CHARACTERS_MAX = 200

_NUMBER_DIGITS_MAX = 9


@dataclass(frozen=True, slots=True)
class _Page:
    number: int
    size: int


class Listing(Generic[Subject]):
    """One list.

    Args:
        call: who asks for what.
        subjects: what is in the list, in the order that it has when nothing else is asked for.
        describe: makes a row of one; None when it has gone meanwhile.
        name_of: what the query's ``name`` is compared with.
        also_named: another name that is compared as well; None where there is no other.
        has_pages: whether the query may ask for a page; where not, it gets all.
    """

    def __init__(
        self,
        call: Call,
        subjects: Iterable[Subject],
        describe: Callable[[Subject], Row | None],
        name_of: Callable[[Subject], str],
        *,
        also_named: Callable[[Subject], str] | None = None,
        has_pages: bool = True,
    ) -> None:
        self._query = call.request.query
        self._subjects = list(subjects)
        self._describe = describe
        self._name_of = name_of
        self._also_named = also_named
        self._page = _page_of(self._query) if has_pages and "page" in self._query else None
        self._columns = _columns_of(self._query)
        self._slices = Slices()
        check_ranges(call)

    async def answer(self) -> Answer:
        """The list.

        Raises:
            HttpError: 400, there is no such page.
        """
        if self._page is None:
            return Answer(pieces=_sent_in_pieces(b"[", self._rows(self._subjects, slice(None)), b"]"))
        total_count = len(self._subjects)
        subjects = await self._of_the_name()
        page, count = self._page, len(subjects)
        page_count = -(-count // page.size)
        if page.number > max(page_count, 1):
            text = f"Page out of range, page: {page.number} page size: {page.size}, len: {count}"
            raise HttpError(400, "page_out_of_range", text)
        of_page = slice((page.number - 1) * page.size, page.number * page.size)
        head = {
            "filtered_count": count,
            "item_count": len(subjects[of_page]),
            "page": page.number,
            "page_count": page_count,
            "page_size": page.size,
            "total_count": total_count,
        }
        opening = to_json(head)[:-1] + b',"items":['
        return Answer(pieces=_sent_in_pieces(opening, self._rows(subjects, of_page), b"]}"))

    async def _of_the_name(self) -> list[Subject]:
        wanted = self._query.get("name", "")
        if not wanted:
            return self._subjects
        if self._query.get("use_regex") == "true":
            if len(wanted) > NAME_PATTERN_CHARACTERS_MAX:
                raise bad_request("Pagination parameters are invalid")
            matches = _name_pattern(wanted)
        else:
            lower = wanted.lower()

            def matches(name: str) -> bool:
                return lower in name.lower()

        also_named, found = self._also_named, list[Subject]()
        for subject in self._subjects:
            if matches(self._name_of(subject)) or (also_named is not None and matches(also_named(subject))):
                found.append(subject)
            await self._slices.take_turn()
        return found

    async def _sorted(self, subjects: list[Subject]) -> list[Subject]:
        path = self._query.get("sort", "")
        if path:
            keyed = []
            for subject in subjects:
                row = self._describe(subject)
                if row is not None:
                    keyed.append((_sort_key(row, path.split(".")), subject))
                await self._slices.take_turn()
            keyed.sort(key=lambda pair: pair[0])
            subjects = [subject for _, subject in keyed]
        return subjects[::-1] if self._query.get("sort_reverse") == "true" else subjects

    async def _rows(self, subjects: list[Subject], of_page: slice) -> AsyncGenerator[Row, None]:
        for subject in (await self._sorted(subjects))[of_page]:
            row = self._describe(subject)
            if row is not None:
                yield row if self._columns is None else only(row, self._columns)
            await self._slices.take_turn()


def answer_rows(head: Mapping[str, object], name: str, rows: Iterable[Row]) -> Answer:
    """An answer that is an object with many rows, or with large ones: it is written while it is sent.

    Args:
        head: what else is in the object.
        name: of the rows in it.
    """
    opening = to_json({**head, name: []})[:-2]  # the rows come behind all else
    return Answer(pieces=_sent_in_pieces(opening, in_slices(rows), b"]}"))


def answer_list(rows: Iterable[Row]) -> Answer:
    """An answer that is a list of rows, many or large ones, which are there already."""
    return Answer(pieces=_sent_in_pieces(b"[", in_slices(rows), b"]"))


async def _sent_in_pieces(opening: bytes, rows: AsyncGenerator[Row, None], closing: bytes) -> AsyncIterator[bytes]:
    yield opening
    parts: list[bytes] = []
    size_bytes, separator = 0, b""
    async with aclosing(rows):
        async for row in rows:
            parts += (separator, to_json(row))
            separator = b","
            size_bytes += len(parts[-1])
            if size_bytes > PIECE_BYTES:
                yield b"".join(parts)
                parts, size_bytes = [], 0
    yield b"".join((*parts, closing))


def _page_of(query: Mapping[str, str]) -> _Page:
    number, size = _whole(query["page"]), _whole(query["page_size"]) if query.get("page_size") else None
    if number < 1 or (size is not None and not 0 < size <= PAGE_SIZE_MAX):
        shown = "undefined" if size is None else size
        text = f"Invalid pagination parameters: page number {number}, page size {shown}"
        raise HttpError(400, "invalid_pagination_parameters", text)
    return _Page(number, PAGE_SIZE if size is None else size)


def _whole(text: str) -> int:
    if not text.removeprefix("-").isdecimal() or not text.isascii() or len(text) > _NUMBER_DIGITS_MAX:
        raise bad_request("Pagination parameters are invalid")
    return int(text)


def _name_pattern(source: str) -> Callable[[str], object]:
    """A pattern that is matched in time that grows with the name only, as the patterns of permissions are."""
    from amqp_broker.access.patterns import BadPattern, Pattern

    try:
        re.compile(source)
        return Pattern(source).matches
    except (BadPattern, re.error, RecursionError) as error:
        raise bad_request("Pagination parameters are invalid") from error


# --- columns

Columns = dict[str, Any]  # a tree: what is empty below is wanted whole
_WHOLE = ("arguments",)  # whatever of it is asked for, as in RabbitMQ


def _columns_of(query: Mapping[str, str]) -> Columns | None:
    text = query.get("columns")
    if not text:
        return None
    tree: Columns = {}
    for path in text.split(","):
        node = tree
        for name in path.split(".")[:10]:
            node = node.setdefault(name, {})
    return tree


def columns_of(call: Call, row: Row) -> Row:
    """A row, with the columns that the query asks for."""
    columns = _columns_of(call.request.query)
    return row if columns is None else only(row, columns)


def only(row: Row, columns: Columns) -> dict[str, Any]:
    """What a row has of these columns."""
    return {
        name: row[name] if name in _WHOLE else _below(row[name], below)
        for name, below in columns.items()
        if name in row
    }


def _below(value: Any, columns: Columns) -> Any:
    if not columns:
        return value
    if isinstance(value, Mapping):
        return only(value, columns)
    if isinstance(value, list):
        return [_below(one, columns) for one in value]
    return {}


def _sort_key(row: Row, path: list[str]) -> tuple[int, Any]:
    """Numbers before texts before all else, as Erlang orders them."""
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return (1, str(value).lower())
    if isinstance(value, int | float):
        return (0, value)
    return (1, value) if isinstance(value, str) else (2, "")


async def answer_one(call: Call, row: Row) -> Answer:
    """One object, with the columns that the query asks for."""
    check_ranges(call)
    return Answer(body=to_json(columns_of(call, row)))
