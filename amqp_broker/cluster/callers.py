"""The callers on a node's link port that have not proved yet that they are nodes: how many there may be.

Anybody who reaches the port can call, and say nothing. So strangers have few places, each address few of these, and a
place for a second when others want it: those who never prove anything keep nobody out for longer. Addresses where a
node is known have all places that there are, as the clients of a node call together when an owner is lost. Holds no
socket; what is said and proved is ``link.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import trio

STRANGERS_MAX: Final = 64
OF_ONE_ADDRESS_MAX: Final = 8
SAFE_S: Final = 1.0  # a place is nobody else's for so long
PROVED_MAX: Final = 10_000


@dataclass(eq=False, slots=True)
class Place:
    """The place of one caller.

    Args:
        host: its address.
        began_s: since when it has it.
        scope: what ends when it has to go.
    """

    host: str
    began_s: float
    scope: trio.CancelScope


class Callers:
    """The places of a node's callers.

    Args:
        places_max: how many there are in all.
        is_of_node: whether a node says that it is at an address.
    """

    def __init__(self, places_max: int, is_of_node: Callable[[str], bool]) -> None:
        self._places_max = places_max
        self._is_of_node = is_of_node
        self._strangers: dict[Place, None] = {}  # the oldest first
        self._others: set[Place] = set()
        self._proved: set[str] = set()  # the addresses of callers that were nodes

    def __len__(self) -> int:
        return len(self._strangers) + len(self._others)

    def refusal_of(self, host: str) -> str:
        """Why a caller from an address gets no place; empty where it gets one, for which a stranger may have to go."""
        is_full = len(self) >= self._places_max
        if self._is_known(host):
            if is_full and self._strangers:
                self._free(next(iter(self._strangers)))
                return ""
            return self._words(self._places_max) if is_full else ""
        of_host = [place for place in self._strangers if place.host == host]
        for limit, places in ((OF_ONE_ADDRESS_MAX, of_host), (STRANGERS_MAX, list(self._strangers))):
            limit = min(limit, self._places_max)
            if len(places) >= limit:
                if places[0].began_s > trio.current_time() - SAFE_S:
                    return self._words(limit)
                self._free(places[0])
                return ""
        return self._words(self._places_max) if is_full else ""

    @staticmethod
    def _words(limit: int) -> str:
        return f"{limit} callers have not proved yet that they are nodes"

    @contextmanager
    def place_of(self, host: str) -> Iterator[Place]:
        """A place, to be left when the caller has proved itself; what is done there ends when it has to go before."""
        with trio.CancelScope() as scope:
            place = Place(host, trio.current_time(), scope)
            if self._is_known(host):
                self._others.add(place)
            else:
                self._strangers[place] = None
            try:
                yield place
            finally:
                self._leave(place)

    def note_proved(self, place: Place) -> None:
        """The caller is a node: it needs no place any more, and who calls from its address is no stranger any more."""
        self._leave(place)
        if len(self._proved) >= PROVED_MAX:
            self._proved.clear()
        self._proved.add(place.host)

    def _is_known(self, host: str) -> bool:
        return host in self._proved or self._is_of_node(host)

    def _free(self, place: Place) -> None:
        self._leave(place)
        place.scope.cancel()

    def _leave(self, place: Place) -> None:
        self._strangers.pop(place, None)
        self._others.discard(place)
