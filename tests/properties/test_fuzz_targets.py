"""What fuzzing is given to begin with, and all that it has ever found, tried again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, seeds

FOUND = Path(__file__).parents[1] / "fuzz" / "found"
CUT_BYTES, CUT_BYTES_OF_SLOW_ONES = 7, {"http": 100, "api": 500}  # a server for each


@pytest.mark.parametrize("target", TARGETS)
def test_what_an_honest_client_sends_is_no_defect(target: str) -> None:
    for seed in seeds(target):
        TARGETS[target](seed)
        for cut in range(0, len(seed), CUT_BYTES_OF_SLOW_ONES.get(target, CUT_BYTES)):
            TARGETS[target](seed[:cut])


@pytest.mark.parametrize(
    "found", sorted(path.name for path in FOUND.glob("*-*")) or [pytest.param("", marks=pytest.mark.skip)]
)
def test_what_was_found_is_mended(found: str) -> None:
    TARGETS[found.partition("-")[0]]((FOUND / found).read_bytes())
