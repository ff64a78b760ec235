"""Prometheus' text format, version 0.0.4: families of samples, each with its type, its help and its labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class Family(NamedTuple):
    """A family: what its samples have in common."""

    name: str
    kind: str  # counter, gauge, untyped, histogram
    help: str

    def head(self) -> str:
        """The two lines before its samples."""
        return f"# TYPE {self.name} {self.kind}\n# HELP {self.name} {self.help}\n"

    def line(self, value: float, labels: str = "") -> str:
        """A sample.

        Args:
            labels: encoded (``labels_of``).
        """
        return f"{self.name}{{{labels}}} {value}\n" if labels else f"{self.name} {value}\n"


Sample = tuple[str, float]  # encoded labels, and the value


def labels_of(**labels: str) -> str:
    """Labels as they stand between the braces; what is no UTF-8 is shown with replacements."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


def written(family: Family, samples: Iterable[Sample]) -> Iterator[str]:
    """A family's lines."""
    yield family.head()
    for labels, value in samples:
        yield family.line(value, labels)


def written_histogram(
    family: Family, buckets: Iterable[tuple[float, int]], total: float, labels: str = "", *, has_head: bool = True
) -> Iterator[str]:
    """A histogram's lines.

    Args:
        buckets: how many were at most so large; the last one, without a bound, is all of them.
        total: all values together.
        labels: of this histogram among those of the family, encoded.
        has_head: whether it is the first of the family.
    """
    if has_head:
        yield family.head()
    count = 0
    for bound, count in buckets:
        le = labels_of(le=_bound_text(bound))
        yield f"{family.name}_bucket{{{f'{labels},' if labels else ''}{le}}} {count}\n"
    yield family._replace(name=f"{family.name}_sum").line(total, labels)
    yield family._replace(name=f"{family.name}_count").line(count, labels)


def _bound_text(bound: float) -> str:
    """A bound as Prometheus 3 writes it, whatever it has read, and as dashboards ask for it: 100.0, 1e+06."""
    if bound == math.inf:
        return "+Inf"
    text = f"{bound:g}"
    return text if "." in text or "e" in text else f"{text}.0"
