"""Which worker of pytest-xdist asks what: each broker has one of its own, so that each is started once a module.

xdist's own marks for this (`xdist_group`) are without effect from pytest 9.2 on, and nothing says so.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

from interop.brokers import OURS, RABBITMQ

_CHOICE = re.compile(rf"\b(?:{OURS}|{RABBITMQ})\d+\.\d+\b")


class ABrokerAWorker(LoadScopeScheduling):  # type: ignore[misc]
    """What is asked of one broker goes to one worker; a file of tests that name none is asked together."""

    def _split_scope(self, nodeid: str) -> str:
        choice = _CHOICE.search(nodeid)
        return choice.group() if choice else nodeid.partition("::")[0]
