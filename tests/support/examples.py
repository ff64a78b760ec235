"""How much of what is tried at random, or in every order, a run of the tests tries."""

from __future__ import annotations

import os

THOROUGHLY = bool(os.environ.get("TESTS_THOROUGHLY"))
"""Whether all is tried, as by ``TESTS_THOROUGHLY=1 make test``, which .ci/run does on the compiled build."""
SHARE_OF_A_RUN = 4


def examples(count: int) -> int:
    """How many examples of a property are tried: each run tries others, so a quarter of them is enough for one.

    Args:
        count: where it is done thoroughly.
    """
    return count if THOROUGHLY else max(1, count // SHARE_OF_A_RUN)
