"""Lists on a terminal: in columns, as wide as there is room; and what has a title of its own in each line.

On a terminal, what does not fit is shortened, the widest columns first. Into a pipe or a file everything is written as
it is, unless ``COLUMNS`` says how wide a line may be. Does not fetch anything; that is ``control.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GAP = "  "
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
WIDTH_MIN = 8  # a column is not made narrower than this
TITLED_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Args:
        title: what stands above it.
        key: the field that it shows; the title when left out.
        is_number: whether it is aligned to the right, and never shortened.
        is_whole: whether it is never shortened, because a part of it says nothing.
        gives_way: whether it is shortened before the others are.
    """

    title: str
    key: str = ""
    is_number: bool = False
    is_whole: bool = False
    gives_way: bool = False

    def cell(self, row: Mapping[str, Any]) -> str:
        """What it shows of a row, in one line."""
        return one_line(row[self.key or self.title])


def titled(title: str, text: str, title_width: int) -> str:
    """A line with a title, or several where it is too long for any terminal.

    Args:
        title_width: how far in the text begins.
    """
    lines = textwrap.wrap(text, TITLED_WIDTH - title_width, break_long_words=False, break_on_hyphens=False)
    return f"{title:<{title_width}}" + f"\n{'':<{title_width}}".join(lines)


def show(rows: Sequence[Mapping[str, Any]], columns: Iterable[Column | str], as_json: bool) -> None:
    """Print a list as a table, or all of it as JSON.

    Args:
        rows: what there is to show.
        columns: which fields, in their order; a text is a column of that name.
        as_json: whether a program reads it.
    """
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    layout = [column if isinstance(column, Column) else Column(column) for column in columns]
    cells = [[column.cell(row) for row in rows] for column in layout]
    widths = _widths(cells, layout, _line_width())
    fitted = [_fitted(*of_column) for of_column in zip(layout, cells, widths, strict=True)]
    for line in zip(*fitted, strict=True):
        print(GAP.join(line).rstrip())


def _line_width() -> int | None:
    """How wide a line may be; None where any will do."""
    if os.environ.get("COLUMNS", "").isdigit() or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return None


def _widths(cells: Sequence[list[str]], layout: Sequence[Column], line_width: int | None) -> list[int]:
    widths = [max(map(len, [column.title, *of_column])) for column, of_column in zip(layout, cells, strict=True)]
    if line_width is None:
        return widths
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - line_width
    shrinkable = [number for number, column in enumerate(layout) if not column.is_number and not column.is_whole]
    while excess > 0:
        wide = [number for number in shrinkable if widths[number] > max(len(layout[number].title), WIDTH_MIN)]
        if not wide:
            break
        first = [number for number in wide if layout[number].gives_way] or wide
        widths[max(first, key=widths.__getitem__)] -= 1
        excess -= 1
    return widths


def _fitted(column: Column, cells: list[str], width: int) -> list[str]:
    """A column's title and cells, each as wide as the column is."""
    lines = [column.title, *shortened(cells, width)]
    return [line.rjust(width) if column.is_number else line.ljust(width) for line in lines]


def shortened(texts: Sequence[str], width: int) -> list[str]:
    """Texts, those that are too long without a part of them: one whose loss leaves the most of them different.

    Most often that is the middle; where all begin and end alike, it is both their ends.
    """
    too_long = {text for text in texts if len(text) > width}
    if not too_long:
        return list(texts)
    best = max(_ways(too_long, width), key=lambda way: len(set(map(way, too_long))))
    return [best(text) if text in too_long else text for text in texts]


def _ways(texts: set[str], width: int) -> Iterator[Callable[[str], str]]:
    """Ways to shorten texts that are too long; of those that leave equally many of them different the first counts."""
    mark = "…" if _can_print("…") else ".."
    kept = width - len(mark)
    yield lambda text: text[: kept - kept // 2] + mark + text[len(text) - kept // 2 :]
    yield lambda text: text[:kept] + mark
    yield lambda text: mark + text[len(text) - kept :]
    step = max(1, kept // 2)
    for start in range(step, max(map(len, texts)) - kept, step):
        yield lambda text, start=start: mark + text[start : start + kept - len(mark)] + mark  # type: ignore[misc]


def size_text(size_bytes: int) -> str:
    """A number of bytes for people, as ``23.5 GiB``."""
    size, unit = float(size_bytes), 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if unit < 1 or size >= 100 else f"{size:.1f} {UNITS[unit]}"


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def one_line(value: Any) -> str:
    """A value in one line; control characters, which names of clients may hold, are written as escapes."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        value = " ".join(map(str, value))
    elif isinstance(value, dict):
        value = " ".join(
            f"{name}={part if isinstance(part, str) else json.dumps(part)}" for name, part in value.items()
        )
    text = "" if value is None else str(value)
    if not text.isprintable() or not _can_print(text):
        text = json.dumps(text)[1:-1]
    return text or "-"
